/* edgellm on a device: opens a bundle, and answers several prompts at a time.
 *
 * Texts are UTF-8. Functions that may fail take a `struct ell_error *`, which may be NULL. An engine and its
 * requests may be used from any threads; a request from one at a time, except that `ell_cancel` may be called at
 * any time. Prompts are token ids: `ell_chat` makes them of a conversation, `ell_tokenize` of any text. */
#ifndef EDGELLM_H
#define EDGELLM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

/* Why a call failed: what happened, to which file or option, and what to do. Ends in a zero. */
struct ell_error {
    char text[512];
};

struct ell_engine;
struct ell_request;

/* How to open a bundle; all zeros are good. */
struct ell_options {
    const char *device; /* number or part of the name of a device; NULL: the first GPU; "recording": see README */
    int64_t context; /* tokens of one sequence, prompt and answer together; 0: as the bundle says */
    int64_t batch; /* sequences that run together; 0: 4 */
    uint64_t memory; /* bytes that weights, cache and buffers may take; 0: what the device has */
    int check_hashes; /* also of large files, about a second a gigabyte */
    const char *chat; /* file of the chat format that `edgellm package` writes; NULL: `chat.json` in the bundle's
                         parent directory if it is there, else none */
    int no_prefix_cache; /* compute every prompt as a whole, also what an earlier one began with */
    const char *cache; /* existing directory for compiled kernels; NULL: they are compiled at every opening */
};

struct ell_info {
    char device[128];
    int64_t context, batch, blocks; /* a block is room for 16 tokens */
    int64_t vocabulary;
    int chat; /* whether there is a chat format, so that `ell_chat` works */
};

/* A part of a conversation. A system message may come first; then user and assistant take turns, and the last
 * message is a user's. */
struct ell_message {
    const char *role; /* "system", "user", "assistant" */
    const char *text;
    size_t size;
};

/* How an answer is chosen and when it ends; `ell_defaults` gives the bundle's own. */
struct ell_settings {
    int64_t max_tokens; /* 0: until the context is full */
    double temperature; /* 0: always the likeliest token */
    double top_p, min_p; /* 1 and 0: off */
    double repetition_penalty; /* 1: off */
    int32_t top_k; /* 0: off */
    int ignore_end; /* go on after end tokens */
    uint64_t seed; /* same seed, same request: same tokens; 0: a new one each time */
    const char *const *stop; /* texts that end an answer, which has what comes before; at most 16 of 256 bytes */
    size_t stops;
};

struct ell_prompt {
    const int32_t *ids;
    size_t count;
    struct ell_settings settings;
};

enum ell_reason { ELL_RUNNING, ELL_STOP, ELL_LENGTH, ELL_CANCELLED, ELL_FAILED };

struct ell_usage {
    int64_t prompt_tokens, answer_tokens;
    int64_t cached_tokens; /* of the prompt, that were not computed because an earlier request had done so */
    enum ell_reason reason;
    double prompt_seconds, answer_seconds; /* from submitting to the first token; from there to the last so far */
};

/* Version of this interface: 2. Options and settings grow only with it. */
int ell_version(void);

/* Open a bundle: its files are checked, its weights handed to the device, its kernels compiled. */
struct ell_engine *ell_open(const char *bundle, const struct ell_options *options, struct ell_error *error);
/* Cancel what runs, and free everything. Requests must have been freed before. */
void ell_close(struct ell_engine *engine);
void ell_info(const struct ell_engine *engine, struct ell_info *info);

/* Ids of a conversation as the model is to see it, ending where its answer begins: the text that the model's chat
 * template makes, tokenized. The number of ids, of which at most `room` are written; -1 for an error. */
int64_t ell_chat(const struct ell_engine *engine, const struct ell_message *messages, size_t count, int32_t *ids,
                 size_t room, struct ell_error *error);

/* Token ids of a text; special tokens written out in it become single ids. `surround`: put what the model's own
 * tokenizer puts around a text (usually a first token); 0 for text from a chat template. The number of ids, of
 * which at most `room` are written; -1 for an error. */
int64_t ell_tokenize(const struct ell_engine *engine, const char *text, size_t size, int surround, int32_t *ids,
                     size_t room, struct ell_error *error);

void ell_defaults(const struct ell_engine *engine, struct ell_settings *settings);

/* Queue prompts, all or none; they can share their first step. 0, or -1 for an error. */
int ell_submit(struct ell_engine *engine, const struct ell_prompt *prompts, size_t count,
               struct ell_request **requests, struct ell_error *error);

/* Wait for more of an answer's text. 1: `size` bytes, of whole characters, are in `text` (`room`: at least 8).
 * 0: the answer has ended. -1: it failed. */
int ell_next(struct ell_request *request, char *text, size_t room, size_t *size, struct ell_error *error);
/* End an answer soon; `ell_next` then gives what there is, and 0. */
void ell_cancel(struct ell_request *request);
void ell_usage(const struct ell_request *request, struct ell_usage *usage);
/* The ids of an answer so far; the number, of which at most `room` are written. */
size_t ell_answer_ids(const struct ell_request *request, int32_t *ids, size_t room);
/* Cancel and forget a request. */
void ell_free(struct ell_request *request);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

#endif

/* The engine behind edgellm.h: requests, and the thread that runs their steps. */
#ifndef ELL_ENGINE_H
#define ELL_ENGINE_H

#include <pthread.h>

#include "chat.h"
#include "executor.h"
#include "sampler.h"
#include "scheduler.h"
#include "stop.h"
#include "tokenizer.h"

struct ell_request {
    struct ell_sequence sequence; /* first, so that a sequence is its request */
    struct ell_engine *engine;
    struct ell_sampler sampler;
    struct ell_decoding decoding;
    struct ell_stops stops;
    struct ell_bytes text; /* not read yet, from `read` on */
    size_t read, prompt_count, most; /* most: tokens of prompt and answer together */
    enum ell_reason reason;
    bool cancelled;
    struct ell_error error;
    double submitted, first_token, last_token; /* when; the last two 0 before the first token */
    struct ell_request *arrived; /* the next that the thread has not seen yet */
};

struct ell_engine {
    struct ell_bundle *bundle;
    struct ell_tokenizer *tokenizer;
    struct ell_chat_format *chat; /* or none */
    struct ell_executor executor;
    bool executor_open;
    struct ell_scheduler scheduler;
    struct ell_request *arrived, *last_arrived;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool started, closing, sharing;
    /* Arrays of a step, as large as they ever are. */
    int32_t *tokens, *tables, *rows, *ids;
    float *logits;
    struct ell_candidates candidates;
};

/* Room for a step's arrays. */
bool ell_steps_open(struct ell_engine *engine, struct ell_error *error);
void ell_steps_close(struct ell_engine *engine);
/* The thread: runs steps until the engine closes. */
void *ell_steps_run(void *engine);

#endif

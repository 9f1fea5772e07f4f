/* Byte-level and SentencePiece-like BPE from a `tokenizer.json`, as the `tokenizers` library does it: added tokens,
 * normalizers, pre-tokenizers, merges and decoders of the supported families. What is not understood is refused. */
#ifndef ELL_TOKENIZER_H
#define ELL_TOKENIZER_H

#include "json.h"
#include "regex.h"

enum { ELL_MAX_STAGES = 8 };

enum ell_normalizer_kind { ELL_COMPOSE, ELL_PREPEND, ELL_REPLACE };

struct ell_normalizer {
    enum ell_normalizer_kind kind;
    struct ell_text from, to;
};

enum ell_cut_kind { ELL_CUT_REGEX, ELL_CUT_TEXT, ELL_CUT_DIGITS, ELL_METASPACE, ELL_BYTE_LEVEL };
enum ell_behaviour { ELL_ISOLATED, ELL_REMOVED, ELL_WITH_PREVIOUS, ELL_WITH_NEXT };
enum ell_prepend { ELL_NEVER, ELL_FIRST, ELL_ALWAYS };

/* A pre-tokenizer. */
struct ell_cut {
    enum ell_cut_kind kind;
    enum ell_behaviour behaviour;
    struct ell_regex *regex; /* of ELL_CUT_REGEX, and of ELL_BYTE_LEVEL where it cuts */
    struct ell_text text; /* of ELL_CUT_TEXT; the space's stand-in of ELL_METASPACE */
    bool one_by_one; /* digits; metaspace: cut before each stand-in */
    enum ell_prepend prepend; /* of a space: ELL_METASPACE, ELL_BYTE_LEVEL */
};

enum ell_decoder_kind { ELL_DECODE_PLAIN, ELL_DECODE_BYTE_LEVEL, ELL_DECODE_METASPACE };

struct ell_decoder {
    enum ell_decoder_kind kind;
    struct ell_text from, to; /* replaced in each token */
    bool byte_fallback;
    int strip; /* spaces taken from the start of the text */
    bool strip_first; /* metaspace: stand-ins of the first token are left out */
};

struct ell_token {
    struct ell_text text;
    bool added, special, normalized, strip_left, strip_right;
};

struct ell_trie {
    struct ell_trie_node *nodes;
    size_t count, room;
};

struct ell_tokenizer {
    struct ell_arena arena;
    struct ell_token *tokens; /* by id; without text where there is none */
    size_t token_count;
    struct ell_map vocabulary; /* of the model, without added tokens */
    struct ell_merge *merges; /* a hash table */
    size_t merge_room;
    int32_t unknown; /* id of the unknown token, -1 for none */
    bool fuse_unknown, byte_fallback, ignore_merges;
    int32_t byte_ids[256]; /* of <0x00> and so on, -1 */
    struct ell_normalizer normalizers[ELL_MAX_STAGES];
    size_t normalizer_count;
    struct ell_cut cuts[ELL_MAX_STAGES];
    size_t cut_count;
    bool byte_level;
    struct ell_decoder decoder;
    struct ell_trie raw_added, normalized_added;
};

struct ell_token_list {
    int32_t *ids;
    size_t count, room;
};

enum { ELL_MAX_TOKENIZER_BYTES = 64 << 20, ELL_MAX_TEXT_BYTES = 16 << 20 };

struct ell_tokenizer *ell_tokenizer_read(struct ell_text text, struct ell_error *error);
void ell_tokenizer_free(struct ell_tokenizer *tokenizer);

/* Append the tokens of a well-formed UTF-8 text. Added tokens written out in it become single ids. */
bool ell_encode(const struct ell_tokenizer *tokenizer, struct ell_text text, struct ell_token_list *ids,
                struct ell_error *error);

/* Text of tokens one after the other. */
struct ell_decoding {
    const struct ell_tokenizer *tokenizer;
    bool started, keep_special;
    bool at_once; /* give characters out as soon as they are whole */
    int stripped;
    struct ell_bytes held; /* bytes that are not known to be whole characters */
};

/* Append the text that a token adds; what may be the beginning of a character is held back. */
bool ell_decode(struct ell_decoding *decoding, int32_t id, struct ell_bytes *out);
/* Append what is held back, broken characters as U+FFFD, and free the memory. */
bool ell_decode_end(struct ell_decoding *decoding, struct ell_bytes *out);

/* Byte-level BPE's stand-ins: the character of each byte, and the byte of a character, or -1. */
uint32_t ell_byte_character(uint8_t byte);
int ell_character_byte(uint32_t code);

/* The parts of encoding. Normalizers and merges of a piece; see tokenizer_encode.c. */
bool ell_normalize(const struct ell_tokenizer *tokenizer, struct ell_text text, struct ell_bytes *out);
bool ell_merge_word(const struct ell_tokenizer *tokenizer, struct ell_text word, struct ell_token_list *ids);
bool ell_add_id(struct ell_token_list *ids, int32_t id);

struct ell_merge {
    int32_t left, right, made;
    uint32_t rank; /* ELL_NOWHERE: the place is free */
};
const struct ell_merge *ell_merge_find(const struct ell_tokenizer *tokenizer, int32_t left, int32_t right);

/* Texts to look for, bytes at a time. */
bool ell_trie_add(struct ell_trie *trie, struct ell_text text, int32_t id);
/* The longest of them that begins at `at`; its size, 0 for none. */
size_t ell_trie_find(const struct ell_trie *trie, struct ell_text text, size_t at, int32_t *id);

#endif

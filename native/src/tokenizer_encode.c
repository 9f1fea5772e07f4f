/* Text to tokens: added tokens first, then normalizers and pre-tokenizers on what lies between them, then merges. */
#include <stdlib.h>
#include <string.h>

#include "tokenizer.h"
#include "unicode.h"
#include "utf8.h"

struct encoding {
    const struct ell_tokenizer *tokenizer;
    struct ell_token_list *ids;
    struct ell_error *error;
    uint64_t work; /* of patterns, see ell_regex_match */
    bool at_start; /* the piece in hand begins where the text begins */
};

bool ell_add_id(struct ell_token_list *ids, int32_t id)
{
    if (!ell_grow(&ids->ids, &ids->room, ids->count + 1, sizeof *ids->ids))
        return false;
    ids->ids[ids->count++] = id;
    return true;
}

static bool replace_all(struct ell_text text, struct ell_text from, struct ell_text to, struct ell_bytes *out)
{
    bool good = true;
    for (size_t at = 0; good && at < text.size;) {
        if (from.size != 0 && text.size - at >= from.size && memcmp(text.data + at, from.data, from.size) == 0) {
            good = ell_bytes_add(out, to.data, to.size);
            at += from.size;
        } else {
            good = ell_bytes_add(out, text.data + at++, 1);
        }
    }
    return good;
}

bool ell_normalize(const struct ell_tokenizer *tokenizer, struct ell_text text, struct ell_bytes *out)
{
    struct ell_bytes made = {0};
    bool good = ell_bytes_add(out, text.data, text.size);
    for (size_t i = 0; good && i < tokenizer->normalizer_count; i++) {
        const struct ell_normalizer *one = &tokenizer->normalizers[i];
        struct ell_text now = {(char *)out->data, out->size};
        made.size = 0;
        if (one->kind == ELL_COMPOSE)
            good = ell_compose(now, &made);
        else if (one->kind == ELL_REPLACE)
            good = replace_all(now, one->from, one->to, &made);
        else
            good = (now.size == 0 || ell_bytes_add(&made, one->to.data, one->to.size)) &&
                   ell_bytes_add(&made, now.data, now.size);
        struct ell_bytes swapped = *out;
        *out = made;
        made = swapped;
    }
    ell_bytes_free(&made);
    return good;
}

/* A piece as a word of the model. */
static bool encode_word(struct encoding *encoding, struct ell_text piece)
{
    const struct ell_tokenizer *tokenizer = encoding->tokenizer;
    if (piece.size == 0)
        return true;
    if (!tokenizer->byte_level)
        return ell_merge_word(tokenizer, piece, encoding->ids) || ell_fail_memory(encoding->error);
    struct ell_bytes word = {0};
    bool good = true;
    for (size_t i = 0; good && i < piece.size; i++) {
        char bytes[4];
        good = ell_bytes_add(&word, bytes, ell_utf8_write(ell_byte_character((uint8_t)piece.data[i]), bytes));
    }
    good = good && ell_merge_word(tokenizer, (struct ell_text){(char *)word.data, word.size}, encoding->ids);
    ell_bytes_free(&word);
    return good || ell_fail_memory(encoding->error);
}

static bool cut(struct encoding *encoding, struct ell_text piece, size_t stage, bool first);

/* The length of what a pre-tokenizer finds at `at`; 0 for nothing. */
static size_t found_at(struct encoding *encoding, const struct ell_cut *one, struct ell_text piece, size_t at)
{
    uint32_t code;
    size_t length;
    switch (one->kind) {
    case ELL_CUT_TEXT:
    case ELL_METASPACE:
        return piece.size - at >= one->text.size && memcmp(piece.data + at, one->text.data, one->text.size) == 0
                   ? one->text.size
                   : 0;
    case ELL_CUT_DIGITS:
        length = 0;
        do {
            size_t step = ell_utf8_step((struct ell_text){piece.data + at + length, piece.size - at - length}, &code);
            if (ell_class_of(code) != ELL_NUMERIC)
                break;
            length += step;
        } while (!one->one_by_one && at + length < piece.size);
        return length;
    default:
        return ell_regex_match(one->regex, piece, at, &encoding->work);
    }
}

/* Cut a piece at what is found in it, and hand the parts to the next stage. */
static bool cut_piece(struct encoding *encoding, const struct ell_cut *one, struct ell_text piece, size_t stage,
                      bool first)
{
    size_t start = 0, at = 0; /* where the part in hand starts */
    bool matched = false; /* the part before `at` is a match that took the place of its own */
    while (at < piece.size) {
        uint32_t code;
        size_t length = found_at(encoding, one, piece, at);
        if (encoding->work == 0)
            return ell_fail(encoding->error, "the text takes too long to tokenize");
        if (length == 0) {
            if (matched && one->behaviour == ELL_WITH_PREVIOUS) {
                if (!cut(encoding, (struct ell_text){piece.data + start, at - start}, stage, first && start == 0))
                    return false;
                start = at;
            }
            matched = false;
            at += ell_utf8_step((struct ell_text){piece.data + at, piece.size - at}, &code);
            continue;
        }
        /* A match ends the part before it, or is added to its end where only that is not a match itself. */
        bool joins = one->behaviour == ELL_WITH_PREVIOUS && !matched && at > start;
        if (!joins && at > start &&
            !cut(encoding, (struct ell_text){piece.data + start, at - start}, stage, first && start == 0))
            return false;
        if (!joins)
            start = at;
        at += length;
        matched = true;
        if (one->behaviour == ELL_ISOLATED &&
            !cut(encoding, (struct ell_text){piece.data + start, length}, stage, first && start == 0))
            return false;
        if (one->behaviour == ELL_ISOLATED || one->behaviour == ELL_REMOVED)
            start = at;
    }
    return cut(encoding, (struct ell_text){piece.data + start, piece.size - start}, stage, first && start == 0);
}

/* As SentencePiece: spaces become stand-ins, one is put before the text, and words begin with theirs. */
static bool cut_metaspace(struct encoding *encoding, const struct ell_cut *one, struct ell_text piece, size_t stage,
                          bool first)
{
    static const struct ell_text space = {" ", 1};
    struct ell_bytes changed = {0};
    bool begins = piece.data[0] == ' ' ||
                  (piece.size >= one->text.size && memcmp(piece.data, one->text.data, one->text.size) == 0);
    bool prepend = !begins && (one->prepend == ELL_ALWAYS ||
                               (one->prepend == ELL_FIRST && first && encoding->at_start));
    bool good = (!prepend || ell_bytes_add(&changed, one->text.data, one->text.size)) &&
                replace_all(piece, space, one->text, &changed);
    struct ell_text text = {(char *)changed.data, changed.size};
    if (!good)
        ell_fail_memory(encoding->error);
    else if (one->one_by_one)
        good = cut_piece(encoding, one, text, stage, first);
    else
        good = cut(encoding, text, stage, first);
    ell_bytes_free(&changed);
    return good;
}

static bool cut_byte_level(struct encoding *encoding, const struct ell_cut *one, struct ell_text piece, size_t stage,
                           bool first)
{
    struct ell_bytes changed = {0};
    struct ell_text text = piece;
    bool good = true;
    if (one->prepend == ELL_ALWAYS && piece.data[0] != ' ') {
        good = ell_bytes_add(&changed, " ", 1) && ell_bytes_add(&changed, piece.data, piece.size);
        text = (struct ell_text){(char *)changed.data, changed.size};
    }
    if (!good)
        ell_fail_memory(encoding->error);
    else if (one->regex != NULL)
        good = cut_piece(encoding, one, text, stage, first);
    else
        good = cut(encoding, text, stage, first);
    ell_bytes_free(&changed);
    return good;
}

/* Hand a piece to the pre-tokenizer of a stage, or to the model behind the last. */
static bool cut(struct encoding *encoding, struct ell_text piece, size_t stage, bool first)
{
    if (piece.size == 0)
        return true;
    if (stage == encoding->tokenizer->cut_count)
        return encode_word(encoding, piece);
    const struct ell_cut *one = &encoding->tokenizer->cuts[stage];
    if (one->kind == ELL_METASPACE)
        return cut_metaspace(encoding, one, piece, stage + 1, first);
    if (one->kind == ELL_BYTE_LEVEL)
        return cut_byte_level(encoding, one, piece, stage + 1, first);
    return cut_piece(encoding, one, piece, stage + 1, first);
}

static size_t spaces_before(struct ell_text text, size_t at, size_t least)
{
    while (at > least) {
        size_t start = at - 1;
        uint32_t code;
        while (start > least && ((uint8_t)text.data[start] & 0xC0) == 0x80)
            start--;
        ell_utf8_step((struct ell_text){text.data + start, at - start}, &code);
        if (ell_class_of(code) != ELL_SPACE)
            break;
        at = start;
    }
    return at;
}

static size_t spaces_behind(struct ell_text text, size_t at)
{
    while (at < text.size) {
        uint32_t code;
        size_t length = ell_utf8_step((struct ell_text){text.data + at, text.size - at}, &code);
        if (ell_class_of(code) != ELL_SPACE)
            break;
        at += length;
    }
    return at;
}

typedef bool piece_function(struct encoding *encoding, struct ell_text piece);

/* Give what lies between added tokens to `rest`, and note the ids of these. */
static bool split_added(struct encoding *encoding, const struct ell_trie *trie, struct ell_text text,
                        piece_function *rest)
{
    bool at_start = encoding->at_start;
    size_t start = 0;
    for (size_t at = 0; trie->count != 0 && at < text.size;) {
        int32_t id;
        size_t size = ell_trie_find(trie, text, at, &id);
        if (size == 0) {
            at++;
            continue;
        }
        const struct ell_token *token = &encoding->tokenizer->tokens[id];
        size_t from = at < start ? start : at, to = at + size;
        if (token->strip_left)
            from = spaces_before(text, from, start);
        if (token->strip_right)
            to = spaces_behind(text, to);
        encoding->at_start = at_start && start == 0;
        if (from > start && !rest(encoding, (struct ell_text){text.data + start, from - start}))
            return false;
        if (!ell_add_id(encoding->ids, id))
            return ell_fail_memory(encoding->error);
        start = to;
        at += size;
    }
    encoding->at_start = at_start && start == 0;
    return start >= text.size || rest(encoding, (struct ell_text){text.data + start, text.size - start});
}

static bool encode_piece(struct encoding *encoding, struct ell_text piece)
{
    return cut(encoding, piece, 0, true);
}

static bool encode_raw(struct encoding *encoding, struct ell_text piece)
{
    struct ell_bytes normal = {0};
    bool good = ell_normalize(encoding->tokenizer, piece, &normal) || ell_fail_memory(encoding->error);
    good = good && split_added(encoding, &encoding->tokenizer->normalized_added,
                               (struct ell_text){(char *)normal.data, normal.size}, encode_piece);
    ell_bytes_free(&normal);
    return good;
}

bool ell_encode(const struct ell_tokenizer *tokenizer, struct ell_text text, struct ell_token_list *ids,
                struct ell_error *error)
{
    if (text.size > ELL_MAX_TEXT_BYTES)
        return ell_fail(error, "the text has more than %d MiB", ELL_MAX_TEXT_BYTES >> 20);
    for (size_t at = 0; at < text.size;) {
        uint32_t code;
        size_t length = ell_utf8_next((struct ell_text){text.data + at, text.size - at}, &code);
        if (length == 0)
            return ell_fail(error, "the text is no UTF-8 from byte %zu on", at);
        at += length;
    }
    struct encoding encoding = {tokenizer, ids, error, (uint64_t)text.size * 1000 + 100000, true};
    return split_added(&encoding, &tokenizer->raw_added, text, encode_raw);
}

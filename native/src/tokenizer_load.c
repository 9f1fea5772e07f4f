/* Reading `tokenizer.json`: vocabulary, merges and added tokens; its stages are read in tokenizer_stages.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer.h"
#include "tokenizer_stages.h"

enum { MAX_TOKENS = 4 << 20, MAX_MERGES = 8 << 20 };

static bool read_vocabulary(struct ell_tokenizer *tokenizer, struct ell_json vocabulary, struct ell_json added,
                            struct ell_error *error)
{
    if (!ell_json_is(vocabulary, ELL_OBJECT))
        return ell_fail(error, "it has no vocabulary");
    size_t count = ell_json_length(vocabulary), more = ell_json_is(added, ELL_ARRAY) ? ell_json_length(added) : 0;
    struct ell_json_walk walk = ell_json_values(vocabulary);
    struct ell_text key;
    struct ell_json value;
    int64_t id, highest = -1;
    while (ell_json_next(&walk, &key, &value)) {
        if (!ell_json_whole(value, &id) || id >= MAX_TOKENS)
            return ell_fail(error, "the token %.*s has no id below %d", ELL_SHOWN(key), MAX_TOKENS);
        if (id > highest)
            highest = id;
    }
    walk = ell_json_values(added);
    while (more != 0 && ell_json_next(&walk, NULL, &value)) {
        struct ell_json number;
        const struct ell_field fields[] = {{"id", &number, true}};
        if (!ell_json_fields(value, "an added token", true, fields, 1, error))
            return false;
        if (!ell_json_whole(number, &id) || id >= MAX_TOKENS)
            return ell_fail(error, "an added token has no id below %d", MAX_TOKENS);
        if (id > highest)
            highest = id;
    }
    tokenizer->token_count = (size_t)(highest + 1);
    tokenizer->tokens = ell_arena_new(&tokenizer->arena, tokenizer->token_count, sizeof *tokenizer->tokens);
    if (tokenizer->tokens == NULL || !ell_map_reserve(&tokenizer->vocabulary, count))
        return ell_fail_memory(error);
    walk = ell_json_values(vocabulary);
    while (ell_json_next(&walk, &key, &value)) {
        ell_json_whole(value, &id);
        struct ell_token *token = &tokenizer->tokens[id];
        if (!ell_json_key(key, &tokenizer->arena, &token->text))
            return ell_fail_memory(error);
        if (!ell_map_add(&tokenizer->vocabulary, token->text, (uint32_t)id))
            return ell_fail(error, "the token %.*s is there twice", ELL_SHOWN(token->text));
    }
    return true;
}

static size_t merge_place(const struct ell_tokenizer *tokenizer, int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    key = (key ^ key >> 31) * 0x9e3779b97f4a7c15u;
    size_t at = (size_t)(key >> 20) & (tokenizer->merge_room - 1);
    const struct ell_merge *merges = tokenizer->merges;
    while (merges[at].rank != ELL_NOWHERE && (merges[at].left != left || merges[at].right != right))
        at = (at + 1) & (tokenizer->merge_room - 1);
    return at;
}

const struct ell_merge *ell_merge_find(const struct ell_tokenizer *tokenizer, int32_t left, int32_t right)
{
    const struct ell_merge *found = &tokenizer->merges[merge_place(tokenizer, left, right)];
    return found->rank != ELL_NOWHERE ? found : NULL;
}

/* The two sides of a merge: ["a", "b"], or "a b" in older files. */
static bool merge_sides(struct ell_json value, struct ell_arena *arena, struct ell_text sides[2])
{
    struct ell_json parts[3];
    if (ell_json_is(value, ELL_STRING)) {
        struct ell_text text;
        if (!ell_json_string(value, arena, &text))
            return false;
        const char *space = memchr(text.data, ' ', text.size);
        if (space == NULL)
            return false;
        sides[0] = (struct ell_text){text.data, (size_t)(space - text.data)};
        sides[1] = (struct ell_text){space + 1, text.size - sides[0].size - 1};
        return true;
    }
    struct ell_json_walk walk = ell_json_values(value);
    return ell_json_is(value, ELL_ARRAY) && ell_json_next(&walk, NULL, &parts[0]) &&
           ell_json_next(&walk, NULL, &parts[1]) && !ell_json_next(&walk, NULL, &parts[2]) &&
           ell_json_is(parts[0], ELL_STRING) && ell_json_is(parts[1], ELL_STRING) &&
           ell_json_string(parts[0], arena, &sides[0]) && ell_json_string(parts[1], arena, &sides[1]);
}

static bool read_merge(struct ell_tokenizer *tokenizer, struct ell_json value, uint32_t rank,
                       struct ell_bytes *both, struct ell_error *error)
{
    struct ell_arena arena = {0};
    struct ell_text sides[2];
    bool good = merge_sides(value, &arena, sides);
    if (good) {
        both->size = 0;
        good = ell_bytes_add(both, sides[0].data, sides[0].size) && ell_bytes_add(both, sides[1].data, sides[1].size);
    }
    if (good) {
        uint32_t left = ell_map_find(&tokenizer->vocabulary, sides[0]);
        uint32_t right = ell_map_find(&tokenizer->vocabulary, sides[1]);
        uint32_t made = ell_map_find(&tokenizer->vocabulary, (struct ell_text){(char *)both->data, both->size});
        good = left != ELL_NOWHERE && right != ELL_NOWHERE && made != ELL_NOWHERE;
        if (good)
            tokenizer->merges[merge_place(tokenizer, (int32_t)left, (int32_t)right)] =
                (struct ell_merge){(int32_t)left, (int32_t)right, (int32_t)made, rank};
    }
    ell_arena_free(&arena);
    return good || ell_fail(error, "merge %u is of tokens that are not in the vocabulary", (unsigned)rank);
}

static bool read_merges(struct ell_tokenizer *tokenizer, struct ell_json merges, struct ell_error *error)
{
    size_t count = ell_json_is(merges, ELL_ARRAY) ? ell_json_length(merges) : SIZE_MAX;
    if (count > MAX_MERGES)
        return ell_fail(error, "it has no list of merges, or more than %d", MAX_MERGES);
    tokenizer->merge_room = 16;
    while (tokenizer->merge_room < count * 2)
        tokenizer->merge_room *= 2;
    tokenizer->merges = malloc(tokenizer->merge_room * sizeof *tokenizer->merges);
    if (tokenizer->merges == NULL)
        return ell_fail_memory(error);
    for (size_t i = 0; i < tokenizer->merge_room; i++)
        tokenizer->merges[i] = (struct ell_merge){0, 0, 0, ELL_NOWHERE};
    struct ell_json_walk walk = ell_json_values(merges);
    struct ell_json value;
    struct ell_bytes both = {0};
    bool good = true;
    for (uint32_t rank = 0; good && ell_json_next(&walk, NULL, &value); rank++)
        good = read_merge(tokenizer, value, rank, &both, error);
    ell_bytes_free(&both);
    return good;
}

static bool read_model(struct ell_tokenizer *tokenizer, struct ell_json model, struct ell_json added,
                       struct ell_error *error)
{
    struct ell_json type, vocabulary, merges, unknown, fuse, fallback, ignore, dropout, prefix, suffix;
    const struct ell_field fields[] = {
        {"type", &type, false}, {"vocab", &vocabulary, true}, {"merges", &merges, true},
        {"unk_token", &unknown, false}, {"fuse_unk", &fuse, false}, {"byte_fallback", &fallback, false},
        {"ignore_merges", &ignore, false}, {"dropout", &dropout, false},
        {"continuing_subword_prefix", &prefix, false}, {"end_of_word_suffix", &suffix, false}};
    if (!ell_json_fields(model, "its model", true, fields, ELL_COUNT(fields), error))
        return false;
    if (type.at != NULL && !ell_stage_is(type, "BPE"))
        return ell_fail(error, "its model is no byte-pair encoding");
    if ((dropout.at != NULL && !ell_json_is(dropout, ELL_NULL)) || ell_stage_has_text(prefix) ||
        ell_stage_has_text(suffix))
        return ell_fail(error, "its model has dropout, a prefix or a suffix, which is not implemented");
    tokenizer->fuse_unknown = ell_json_true(fuse);
    tokenizer->byte_fallback = ell_json_true(fallback);
    tokenizer->ignore_merges = ell_json_true(ignore);
    if (!read_vocabulary(tokenizer, vocabulary, added, error) || !read_merges(tokenizer, merges, error))
        return false;
    tokenizer->unknown = -1;
    struct ell_text name;
    if (ell_json_is(unknown, ELL_STRING)) {
        if (!ell_json_string(unknown, &tokenizer->arena, &name))
            return ell_fail_memory(error);
        uint32_t id = ell_map_find(&tokenizer->vocabulary, name);
        if (id == ELL_NOWHERE)
            return ell_fail(error, "its unknown token is not in the vocabulary");
        tokenizer->unknown = (int32_t)id;
    }
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", byte);
        uint32_t id = ell_map_find(&tokenizer->vocabulary, ell_text_of(text));
        tokenizer->byte_ids[byte] = id == ELL_NOWHERE ? -1 : (int32_t)id;
    }
    return true;
}

static bool read_added_token(struct ell_tokenizer *tokenizer, struct ell_json value, struct ell_error *error)
{
    struct ell_json number, content, single, left, right, normalized, special;
    const struct ell_field fields[] = {
        {"id", &number, true}, {"content", &content, true}, {"single_word", &single, false},
        {"lstrip", &left, false}, {"rstrip", &right, false}, {"normalized", &normalized, false},
        {"special", &special, false}};
    struct ell_text text;
    int64_t id;
    if (!ell_json_fields(value, "an added token", false, fields, ELL_COUNT(fields), error))
        return false;
    if (!ell_json_is(content, ELL_STRING) || !ell_json_whole(number, &id) || id >= (int64_t)tokenizer->token_count)
        return ell_fail(error, "an added token has no text or id");
    if (!ell_json_string(content, &tokenizer->arena, &text))
        return ell_fail_memory(error);
    if (ell_json_true(single))
        return ell_fail(error, "the added token %.*s matches whole words only, which is not implemented",
                        ELL_SHOWN(text));
    if (text.size == 0)
        return true;
    uint32_t known = ell_map_find(&tokenizer->vocabulary, text);
    if (known != ELL_NOWHERE)
        id = known;
    struct ell_token *token = &tokenizer->tokens[id];
    *token = (struct ell_token){text, true, ell_json_true(special), ell_json_true(normalized), ell_json_true(left),
                                ell_json_true(right)};
    if (!token->normalized)
        return ell_trie_add(&tokenizer->raw_added, text, (int32_t)id) || ell_fail_memory(error);
    struct ell_bytes normal = {0};
    /* Such a token is looked for in normalized text, and is decoded as it stands there. */
    bool good = ell_normalize(tokenizer, text, &normal) &&
                ell_arena_text(&tokenizer->arena, (struct ell_text){(char *)normal.data, normal.size}, &token->text) &&
                (normal.size == 0 || ell_trie_add(&tokenizer->normalized_added, token->text, (int32_t)id));
    ell_bytes_free(&normal);
    return good || ell_fail_memory(error);
}

static bool read_tokenizer(struct ell_tokenizer *tokenizer, struct ell_json value, struct ell_error *error)
{
    struct ell_json model, added, normalizer, cuts, decoder, one;
    const struct ell_field fields[] = {{"model", &model, true}, {"added_tokens", &added, false},
                                       {"normalizer", &normalizer, false}, {"pre_tokenizer", &cuts, false},
                                       {"decoder", &decoder, false}};
    if (!ell_json_fields(value, "it", true, fields, ELL_COUNT(fields), error) ||
        !read_model(tokenizer, model, added, error) || !ell_read_normalizers(tokenizer, normalizer, error) ||
        !ell_read_cuts(tokenizer, cuts, error) || !ell_read_decoder(tokenizer, decoder, error))
        return false;
    struct ell_json_walk walk = ell_json_values(added);
    while (ell_json_is(added, ELL_ARRAY) && ell_json_next(&walk, NULL, &one))
        if (!read_added_token(tokenizer, one, error))
            return false;
    return true;
}

struct ell_tokenizer *ell_tokenizer_read(struct ell_text text, struct ell_error *error)
{
    struct ell_json value;
    struct ell_tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (tokenizer == NULL)
        ell_fail_memory(error);
    else if (text.size > ELL_MAX_TOKENIZER_BYTES)
        ell_fail(error, "it is larger than %d MiB", ELL_MAX_TOKENIZER_BYTES >> 20);
    else if (ell_json_check(text, &value, error) && read_tokenizer(tokenizer, value, error))
        return tokenizer;
    ell_tokenizer_free(tokenizer);
    return NULL;
}

void ell_tokenizer_free(struct ell_tokenizer *tokenizer)
{
    if (tokenizer == NULL)
        return;
    free(tokenizer->merges);
    free(tokenizer->raw_added.nodes);
    free(tokenizer->normalized_added.nodes);
    ell_map_free(&tokenizer->vocabulary);
    ell_arena_free(&tokenizer->arena);
    free(tokenizer);
}

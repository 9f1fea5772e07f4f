#include "weights.h"

#include <stdio.h>
#include <stdlib.h>

enum { MAX_TABLE_BYTES = 16 << 20, MAX_SHARDS = 1000, MAX_ENTRIES = 1 << 20, ALIGNMENT = 256 };

static bool map_shard(struct ell_weights *weights, const char *folder, int64_t shard, struct ell_error *error)
{
    if (weights->shards[shard].data != NULL)
        return true;
    char name[32];
    snprintf(name, sizeof name, "weights-%03d.bin", (int)shard);
    uint64_t size;
    if (!ell_plain_file(folder, ell_text_of(name), &size, error))
        return false;
    char *path = ell_path(folder, ell_text_of(name));
    bool good = path != NULL && ell_map_file(path, &weights->shards[shard], error);
    if (path == NULL)
        ell_fail_memory(error);
    free(path);
    return good;
}

static bool read_entry(struct ell_weights *weights, const char *folder, struct ell_json value, uint32_t index,
                       struct ell_error *error)
{
    struct ell_json name, shard, offset, bytes;
    const struct ell_field fields[] = {
        {"name", &name, true}, {"shard", &shard, true}, {"offset", &offset, true}, {"bytes", &bytes, true}};
    struct ell_text text;
    int64_t number, start, size;
    if (!ell_json_fields(value, "an entry", false, fields, ELL_COUNT(fields), error))
        return false;
    if (!ell_json_is(name, ELL_STRING) || !ell_json_whole(shard, &number) || number >= MAX_SHARDS ||
        !ell_json_whole(offset, &start) || start % ALIGNMENT != 0 || !ell_json_whole(bytes, &size) || size == 0)
        return ell_fail(error, "an entry has a value that is not allowed");
    if (!ell_json_string(name, &weights->arena, &text))
        return ell_fail_memory(error);
    if (!map_shard(weights, folder, number, error))
        return false;
    const struct ell_mapped *mapped = &weights->shards[number];
    if ((uint64_t)start + (uint64_t)size > mapped->size)
        return ell_fail(error, "%.*s lies outside its shard", ELL_SHOWN(text));
    weights->entries[index] = (struct ell_mapped){mapped->data + start, (size_t)size};
    if (!ell_map_add(&weights->names, text, index))
        return ell_fail(error, "%.*s is there twice", ELL_SHOWN(text));
    return true;
}

static bool read_table(struct ell_weights *weights, const char *folder, struct ell_text text,
                       struct ell_error *error)
{
    struct ell_json table, one;
    if (!ell_json_check(text, &table, error))
        return false;
    if (!ell_json_is(table, ELL_ARRAY))
        return ell_fail(error, "it is no list");
    size_t count = ell_json_length(table);
    if (count > MAX_ENTRIES)
        return ell_fail(error, "it has more than %d entries", MAX_ENTRIES);
    weights->entries = ell_arena_new(&weights->arena, count, sizeof *weights->entries);
    weights->shards = ell_arena_new(&weights->arena, MAX_SHARDS, sizeof *weights->shards);
    weights->shard_count = MAX_SHARDS;
    if (weights->entries == NULL || weights->shards == NULL || !ell_map_reserve(&weights->names, count))
        return ell_fail_memory(error);
    struct ell_json_walk walk = ell_json_values(table);
    for (uint32_t i = 0; ell_json_next(&walk, NULL, &one); i++)
        if (!read_entry(weights, folder, one, i, error))
            return false;
    return true;
}

bool ell_weights_open(struct ell_weights *weights, const char *folder, struct ell_error *error)
{
    *weights = (struct ell_weights){0};
    struct ell_bytes bytes = {0};
    struct ell_error reason;
    char *path = ell_path(folder, ell_text_of("weights.json"));
    bool good = false;
    if (path == NULL)
        ell_fail_memory(error);
    else if (ell_read_file(path, MAX_TABLE_BYTES, &bytes, error)) {
        good = read_table(weights, folder, (struct ell_text){(char *)bytes.data, bytes.size}, &reason);
        if (!good)
            ell_fail(error, "%.200s: %.250s; build the bundle again", path, reason.text);
    }
    free(path);
    ell_bytes_free(&bytes);
    if (!good)
        ell_weights_close(weights);
    return good;
}

bool ell_weights_find(const struct ell_weights *weights, struct ell_text name, struct ell_mapped *bytes,
                      struct ell_mapped *shard)
{
    uint32_t index = ell_map_find(&weights->names, name);
    if (index == ELL_NOWHERE)
        return false;
    *bytes = weights->entries[index];
    for (size_t i = 0; i < weights->shard_count; i++)
        if ((uintptr_t)bytes->data - (uintptr_t)weights->shards[i].data < weights->shards[i].size)
            *shard = weights->shards[i];
    return true;
}

void ell_weights_close(struct ell_weights *weights)
{
    for (size_t i = 0; i < weights->shard_count && weights->shards != NULL; i++)
        ell_unmap_file(&weights->shards[i]);
    ell_map_free(&weights->names);
    ell_arena_free(&weights->arena);
    *weights = (struct ell_weights){0};
}

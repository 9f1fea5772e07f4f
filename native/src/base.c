#define _POSIX_C_SOURCE 200809L

#include "base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CHUNK_BYTES = 64 << 10, ALIGNMENT = 16 };

struct ell_chunk {
    struct ell_chunk *next;
    size_t used, room;
};

struct ell_entry {
    struct ell_text name;
    uint32_t value;
    bool taken;
};

/* So that what follows the head of a chunk is aligned for everything. */
static const size_t HEAD = (sizeof(struct ell_chunk) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;

bool ell_fail(struct ell_error *error, const char *format, ...)
{
    if (error != NULL) {
        va_list values;
        va_start(values, format);
        vsnprintf(error->text, sizeof error->text, format, values);
        va_end(values);
    }
    return false;
}

bool ell_fail_memory(struct ell_error *error)
{
    return ell_fail(error, "this machine has no memory left; close other programs");
}

struct ell_text ell_text_of(const char *zero_terminated)
{
    return (struct ell_text){zero_terminated, strlen(zero_terminated)};
}

bool ell_text_equal(struct ell_text one, struct ell_text other)
{
    return one.size == other.size && (one.size == 0 || memcmp(one.data, other.data, one.size) == 0);
}

bool ell_text_is(struct ell_text text, const char *zero_terminated)
{
    return ell_text_equal(text, ell_text_of(zero_terminated));
}

void *ell_arena_new(struct ell_arena *arena, size_t count, size_t size)
{
    if (size != 0 && count > (SIZE_MAX / 2) / size)
        return NULL;
    size_t needed = (count * size + ALIGNMENT) / ALIGNMENT * ALIGNMENT;
    struct ell_chunk *chunk = arena->chunk;
    if (chunk == NULL || chunk->room - chunk->used < needed) {
        size_t room = needed > CHUNK_BYTES / 4 ? needed : CHUNK_BYTES;
        chunk = malloc(HEAD + room);
        if (chunk == NULL)
            return NULL;
        *chunk = (struct ell_chunk){arena->chunk, 0, room};
        if (room == needed && arena->chunk != NULL) {
            /* A large piece has a chunk of its own, below the one that still has room. */
            chunk->next = arena->chunk->next;
            arena->chunk->next = chunk;
        } else {
            arena->chunk = chunk;
        }
    }
    void *found = (char *)chunk + HEAD + chunk->used;
    chunk->used += needed;
    memset(found, 0, needed);
    return found;
}

bool ell_arena_text(struct ell_arena *arena, struct ell_text text, struct ell_text *copy)
{
    char *data = ell_arena_new(arena, text.size + 1, 1);
    if (data == NULL)
        return false;
    if (text.size != 0)
        memcpy(data, text.data, text.size);
    *copy = (struct ell_text){data, text.size};
    return true;
}

void ell_arena_free(struct ell_arena *arena)
{
    for (struct ell_chunk *chunk = arena->chunk; chunk != NULL;) {
        struct ell_chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
    arena->chunk = NULL;
}

bool ell_grow(void *array_pointer, size_t *room, size_t count, size_t size)
{
    if (count <= *room)
        return true;
    size_t wanted = *room < 16 ? 16 : *room;
    while (wanted < count)
        wanted += wanted / 2;
    if (wanted > (SIZE_MAX / 2) / size)
        return false;
    void *old;
    memcpy(&old, array_pointer, sizeof old);
    void *grown = realloc(old, wanted * size);
    if (grown == NULL)
        return false;
    memcpy(array_pointer, &grown, sizeof grown);
    *room = wanted;
    return true;
}

bool ell_bytes_add(struct ell_bytes *bytes, const void *data, size_t size)
{
    if (size == 0)
        return true;
    if (!ell_grow(&bytes->data, &bytes->room, bytes->size + size, 1))
        return false;
    memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
    return true;
}

void ell_bytes_free(struct ell_bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct ell_bytes){0};
}

double ell_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

uint64_t ell_hash(const void *data, size_t size)
{
    /* FNV-1a, with a last mix because only the low bits are looked at. */
    const uint8_t *bytes = data;
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 1099511628211u;
    return hash ^ (hash >> 32);
}

bool ell_map_reserve(struct ell_map *map, size_t count)
{
    size_t room = 16;
    while (room / 2 < count) {
        if (room > SIZE_MAX / 4 / sizeof *map->entries)
            return false;
        room *= 2;
    }
    *map = (struct ell_map){calloc(room, sizeof *map->entries), 0, room};
    return map->entries != NULL;
}

static struct ell_entry *place_of(const struct ell_map *map, struct ell_text name)
{
    size_t at = (size_t)ell_hash(name.data, name.size) & (map->room - 1);
    while (map->entries[at].taken && !ell_text_equal(map->entries[at].name, name))
        at = (at + 1) & (map->room - 1);
    return &map->entries[at];
}

bool ell_map_add(struct ell_map *map, struct ell_text name, uint32_t value)
{
    if (map->count >= map->room / 2)
        return false;
    struct ell_entry *place = place_of(map, name);
    if (place->taken)
        return false;
    *place = (struct ell_entry){name, value, true};
    map->count++;
    return true;
}

uint32_t ell_map_find(const struct ell_map *map, struct ell_text name)
{
    if (map->room == 0)
        return ELL_NOWHERE;
    const struct ell_entry *place = place_of(map, name);
    return place->taken ? place->value : ELL_NOWHERE;
}

void ell_map_free(struct ell_map *map)
{
    free(map->entries);
    *map = (struct ell_map){0};
}

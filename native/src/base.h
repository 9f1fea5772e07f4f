/* What everything here stands on: errors with a text, memory that is freed at once, and maps of names. */
#ifndef ELL_BASE_H
#define ELL_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "edgellm.h"

/* Every processor shall give the same numbers, so products and sums are rounded one by one. Clang is told here, as
 * Xcode builds with flags of its own; GCC knows only -ffp-contract=off. */
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

#define ELL_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Note why something failed, unless `error` is NULL; always false, to be returned. */
bool ell_fail(struct ell_error *error, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;
bool ell_fail_memory(struct ell_error *error);

/* A piece of text that need not end in a zero. */
struct ell_text {
    const char *data;
    size_t size;
};

struct ell_text ell_text_of(const char *zero_terminated);
bool ell_text_is(struct ell_text text, const char *zero_terminated);
bool ell_text_equal(struct ell_text one, struct ell_text other);

/* How much of a text from outside an error message quotes: `printf("%.*s", ELL_SHOWN(text))`. */
#define ELL_SHOWN(text) (int)((text).size < 80 ? (text).size : 80), (text).data

/* Memory that is handed out in small pieces and freed all at once. */
struct ell_arena {
    struct ell_chunk *chunk;
};

/* Zeroed memory for `count` things of `size` bytes; NULL when there is none, or the product is too large. */
void *ell_arena_new(struct ell_arena *arena, size_t count, size_t size);
/* A copy of `text` that also ends in a zero. */
bool ell_arena_text(struct ell_arena *arena, struct ell_text text, struct ell_text *copy);
void ell_arena_free(struct ell_arena *arena);

/* Bytes that grow. */
struct ell_bytes {
    uint8_t *data;
    size_t size, room;
};

bool ell_bytes_add(struct ell_bytes *bytes, const void *data, size_t size);
void ell_bytes_free(struct ell_bytes *bytes);

/* Grow an array to at least `count` things of `size` bytes; false, with the array as it was, without memory. */
bool ell_grow(void *array_pointer, size_t *room, size_t count, size_t size);

/* Names and the numbers that belong to them. The map keeps pointers to the names, not the names. */
struct ell_map {
    struct ell_entry *entries;
    size_t count, room;
};

#define ELL_NOWHERE UINT32_MAX

/* Make room for `count` names. */
bool ell_map_reserve(struct ell_map *map, size_t count);
/* Add a name; false if it is there already or the reserved room is used up. */
bool ell_map_add(struct ell_map *map, struct ell_text name, uint32_t value);
/* The number of a name, ELL_NOWHERE if it has none. */
uint32_t ell_map_find(const struct ell_map *map, struct ell_text name);
void ell_map_free(struct ell_map *map);

/* Since some moment. */
double ell_seconds(void);

uint64_t ell_hash(const void *data, size_t size);

#endif

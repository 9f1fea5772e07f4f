/* Reading JSON (RFC 8259) in place. `ell_json_check` looks at the whole text once; after that values are walked
 * without memory of their own, which keeps the reading of a large tokenizer.json small. */
#ifndef ELL_JSON_H
#define ELL_JSON_H

#include "base.h"

enum { ELL_JSON_DEPTH = 64 };

enum ell_json_type { ELL_NULL, ELL_BOOL, ELL_NUMBER, ELL_STRING, ELL_ARRAY, ELL_OBJECT };

/* A value in a checked text, from its first character to behind its last; without `at` no value at all. */
struct ell_json {
    const char *at, *end;
};

/* Walks the values of an array or an object. */
struct ell_json_walk {
    const char *at, *end;
};

/* Whether `text` is one JSON value in well-formed UTF-8 and not nested deeper than ELL_JSON_DEPTH. */
bool ell_json_check(struct ell_text text, struct ell_json *value, struct ell_error *error);

enum ell_json_type ell_json_type(struct ell_json value);
bool ell_json_is(struct ell_json value, enum ell_json_type type);
bool ell_json_true(struct ell_json value);

/* Values of an array or object; `key` (raw, between its quotes) may be NULL for arrays. False at the end. */
struct ell_json_walk ell_json_values(struct ell_json value);
bool ell_json_next(struct ell_json_walk *walk, struct ell_text *key, struct ell_json *value);
size_t ell_json_length(struct ell_json value);

/* A string's text, escapes resolved, in the arena's memory; false only without memory. Lone surrogates become
 * U+FFFD, as they have no UTF-8. */
bool ell_json_string(struct ell_json value, struct ell_arena *arena, struct ell_text *text);
bool ell_json_key(struct ell_text key, struct ell_arena *arena, struct ell_text *text);

/* A whole number from 0 to 2^53 - 1, written without fraction and exponent; false if it is none. */
bool ell_json_whole(struct ell_json value, int64_t *number);
/* Any number. */
bool ell_json_double(struct ell_json value, double *number);

/* A field that `ell_json_fields` looks for. */
struct ell_field {
    const char *name;
    struct ell_json *value;
    bool required;
};

/* Take the fields of an object apart, the values of those that are not there left empty. Fields twice, fields
 * missing, and unless `open` fields with other names are refused. */
bool ell_json_fields(struct ell_json object, const char *what, bool open, const struct ell_field *fields,
                     size_t count, struct ell_error *error);

#endif

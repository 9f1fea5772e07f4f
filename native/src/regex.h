/* The regular expressions by which tokenizers cut a text: alternatives, groups that may be optional, classes of
 * characters with quantifiers, and looking ahead. Anything else is refused. */
#ifndef ELL_REGEX_H
#define ELL_REGEX_H

#include "base.h"

struct ell_regex;

/* Its parts lie in the arena; NULL and an error where it is not understood. */
struct ell_regex *ell_regex_read(struct ell_text pattern, struct ell_arena *arena, struct ell_error *error);

/* The length of the match at `at` in well-formed UTF-8; 0 where nothing, or nothing but an empty text, matches.
 * `work` counts down with each character looked at, and nothing matches when it is used up. */
size_t ell_regex_match(const struct ell_regex *regex, struct ell_text text, size_t at, uint64_t *work);

#endif

/* What tokenizers need of the Unicode character database. */
#ifndef ELL_UNICODE_H
#define ELL_UNICODE_H

#include "base.h"

/* Classes of characters: general categories, but M, N, P and S as a whole; white space apart. */
enum ell_class {
    ELL_OTHER, ELL_LU, ELL_LL, ELL_LT, ELL_LM, ELL_LO, ELL_MARK, ELL_NUMERIC, ELL_PUNCTUATION, ELL_SYMBOL, ELL_SPACE,
};

#define ELL_LETTERS (1u << ELL_LU | 1u << ELL_LL | 1u << ELL_LT | 1u << ELL_LM | 1u << ELL_LO)

enum ell_class ell_class_of(uint32_t code);

/* Append the Normalization Form C (UAX 15) of well-formed UTF-8. */
bool ell_compose(struct ell_text text, struct ell_bytes *out);

extern const uint32_t ell_class_runs[], ell_combining_runs[], ell_decompositions[];
extern const uint16_t ell_compositions[];
extern const size_t ell_class_runs_count, ell_combining_runs_count, ell_decompositions_count, ell_compositions_count;

#endif

/* Whole-number expressions over a step's sizes, as they stand in a plan (docs/plan.md). */
#ifndef ELL_EXPR_H
#define ELL_EXPR_H

#include "json.h"

#define ELL_LARGEST ((INT64_C(1) << 53) - 1)
enum { ELL_EXPR_DEPTH = 16, ELL_MAX_SIZES = 16 };

/* A number, a size, or what an operator makes of two expressions. */
struct ell_expr {
    char op; /* '0' a number, 's' a size, '+', '*', '/', '<' min, '>' max */
    int64_t value; /* the number, or the size's place in the plan */
    const struct ell_expr *left, *right;
};

/* Read an expression over the sizes in `names`; its parts lie in the arena. */
bool ell_expr_read(struct ell_json value, const struct ell_map *names, struct ell_arena *arena,
                   struct ell_expr *expr, struct ell_error *error);
/* Its value where size i is `sizes[i]`; -1 where that, or a part of it, is beyond ELL_LARGEST. */
int64_t ell_expr_value(const struct ell_expr *expr, const int64_t *sizes);
/* Whether it names a size whose largest value is 0: one that the host chooses. */
bool ell_expr_chosen(const struct ell_expr *expr, const int64_t *largest);
/* a * b for numbers up to ELL_LARGEST, -1 where one is -1 or the product is beyond it. */
int64_t ell_times(int64_t a, int64_t b);

#endif

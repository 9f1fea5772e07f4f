/* Choosing a token from a row of logits: repetition penalty, then temperature, top-k, top-p, min-p. The same numbers
 * give the same tokens on every processor. */
#ifndef ELL_SAMPLER_H
#define ELL_SAMPLER_H

#include "base.h"

struct ell_sampler {
    struct ell_settings settings;
    uint64_t random;
    uint8_t *seen; /* a bit for each token that has come, where there is a penalty */
    int64_t vocabulary;
};

/* Room that choosing needs, shared by the samplers of a thread. */
struct ell_candidates {
    struct ell_candidate *heap;
    size_t room;
};

bool ell_settings_check(const struct ell_settings *settings, struct ell_error *error);
bool ell_sampler_open(struct ell_sampler *sampler, const struct ell_settings *settings, int64_t vocabulary,
                      struct ell_error *error);
void ell_sampler_close(struct ell_sampler *sampler);
/* Note that a token has come, in the prompt or in the answer. */
void ell_sampler_note(struct ell_sampler *sampler, int32_t id);
/* Whether the `top` largest logits of a row are enough. */
bool ell_sampler_enough(const struct ell_sampler *sampler, int64_t top);
/* The next token. `logits`: `count` numbers, which are changed; `ids`: of which tokens, NULL for all in order.
 * -1 without memory, and where the largest logit is infinite or one is not a number. */
int32_t ell_choose(struct ell_sampler *sampler, float *logits, const int32_t *ids, size_t count,
                   struct ell_candidates *candidates);
/* e^x for x <= 0, to within a few units in the last place of a double. */
double ell_exp(double x);

#endif

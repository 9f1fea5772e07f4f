/* Steps of a language model: tokens in, logits out, keys and values kept in blocks (docs/plan.md, "Programs of
 * language models"). */
#ifndef ELL_EXECUTOR_H
#define ELL_EXECUTOR_H

#include "blocks.h"
#include "bundle.h"
#include "host.h"

/* One step: `n` tokens of `b` sequences, each sequence's tokens together and in order. */
struct ell_step {
    const int32_t *tokens; /* n x 4: id, position, place in the cache, sequence */
    const int32_t *tables; /* b x m: the blocks of each sequence */
    const int32_t *rows; /* r: which tokens get logits */
    int64_t n, b, m, r;
};

struct ell_executor {
    struct ell_plan *plan;
    struct ell_weights weights;
    struct ell_host host;
    struct ell_device *device;
    bool open; /* the host */
    int64_t context, blocks, batch; /* tokens of a sequence, blocks of the cache, sequences of a step */
    int64_t step_tokens; /* of a step, at most */
    int64_t vocabulary, padded; /* entries of a row of logits that count, and of all */
    int64_t top; /* largest logits that it can give instead of all; 0: none */
    int64_t steps;
};

/* Open the best program of a bundle for a device, which belongs to the executor from then on, also if this fails.
 * `context` and `batch`: what one sequence, and a step, may hold; 0 for the bundle's context and a batch of 4.
 * `memory`: bytes that all buffers may take, 0 for no limit but the device's. */
bool ell_executor_open(struct ell_executor *executor, const struct ell_bundle *bundle, struct ell_device *device,
                       int64_t context, int64_t batch, uint64_t memory, struct ell_error *error);
void ell_executor_close(struct ell_executor *executor);

/* Run a step. `logits`: r x padded numbers, or NULL; `top`, `ids`: r x top each, or NULL. */
bool ell_executor_step(struct ell_executor *executor, const struct ell_step *step, float *logits, float *top,
                       int32_t *ids, struct ell_error *error);
/* Copy all keys and values of one block over those of another. */
bool ell_executor_copy(struct ell_executor *executor, int64_t source, int64_t target, struct ell_error *error);

#endif

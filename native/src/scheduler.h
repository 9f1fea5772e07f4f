/* Which tokens of which sequences run in the next step, and the blocks that their keys and values lie in: decodes
 * first, chunks of prompts in what is left of the step, waiting sequences as places and blocks become free. When a
 * running sequence finds no block, the youngest gives its own back and is computed again later. What begins like
 * something that was computed before starts from there. */
#ifndef ELL_SCHEDULER_H
#define ELL_SCHEDULER_H

#include "blocks.h"

struct ell_sequence {
    int32_t *tokens; /* prompt and answer so far */
    size_t count, room, computed; /* computed: leading tokens whose keys and values are in the cache */
    int32_t *blocks;
    size_t block_count, block_room;
    size_t sealed; /* leading blocks that are in the tree */
    size_t refused_at; /* blocks there were when these were too few to let it in, plus 1; 0: not refused */
    size_t cached; /* tokens that were there when it first came in */
    bool was_in;
    size_t chunk; /* tokens of it in the step at hand */
    struct ell_sequence *next; /* behind it in the queue */
};

struct ell_copy {
    int32_t source, target;
};

struct ell_scheduler {
    struct ell_blocks blocks;
    bool sharing;
    struct ell_copy *copies; /* of blocks, to be made in this order before the step's chunks run */
    size_t copy_count;
    struct ell_sequence **running; /* in order of admission */
    size_t running_count, batch;
    struct ell_sequence *first, *last; /* waiting */
    size_t step_tokens;
    int64_t preemptions;
};

bool ell_scheduler_open(struct ell_scheduler *scheduler, size_t blocks, size_t batch, size_t step_tokens,
                        bool sharing, struct ell_error *error);
void ell_scheduler_close(struct ell_scheduler *scheduler);
void ell_scheduler_add(struct ell_scheduler *scheduler, struct ell_sequence *sequence);
/* Let a sequence go, wherever it is. */
void ell_scheduler_remove(struct ell_scheduler *scheduler, struct ell_sequence *sequence);
/* Note that the chunk of a sequence has run. */
void ell_scheduler_advance(struct ell_scheduler *scheduler, struct ell_sequence *sequence);
/* After a step that failed: what is in the blocks is not to be trusted. Running sequences must then be removed. */
void ell_scheduler_forget(struct ell_scheduler *scheduler);
/* Set `chunk` of each running sequence for the next step, blocks allocated; the number of tokens of the step, 0 if
 * there is nothing to do. False without memory. */
bool ell_schedule(struct ell_scheduler *scheduler, size_t *tokens, struct ell_error *error);

#endif

#include "scheduler.h"

#include <stdlib.h>
#include <string.h>

#include "executor.h"

bool ell_scheduler_open(struct ell_scheduler *scheduler, size_t blocks, size_t batch, size_t step_tokens,
                        bool sharing, struct ell_error *error)
{
    *scheduler = (struct ell_scheduler){.batch = batch, .step_tokens = step_tokens, .sharing = sharing};
    scheduler->running = calloc(batch, sizeof *scheduler->running);
    scheduler->copies = calloc(batch, sizeof *scheduler->copies);
    if (scheduler->running == NULL || scheduler->copies == NULL)
        return ell_fail_memory(error);
    return ell_blocks_open(&scheduler->blocks, blocks, error);
}

void ell_scheduler_close(struct ell_scheduler *scheduler)
{
    ell_blocks_close(&scheduler->blocks);
    free(scheduler->running);
    free(scheduler->copies);
    *scheduler = (struct ell_scheduler){0};
}

void ell_scheduler_add(struct ell_scheduler *scheduler, struct ell_sequence *sequence)
{
    sequence->next = NULL;
    if (scheduler->last != NULL)
        scheduler->last->next = sequence;
    else
        scheduler->first = sequence;
    scheduler->last = sequence;
}

static int32_t last_sealed(const struct ell_sequence *sequence)
{
    return sequence->sealed > 0 ? sequence->blocks[sequence->sealed - 1] : ELL_NO_BLOCK;
}

static void drop_blocks(struct ell_scheduler *scheduler, struct ell_sequence *sequence)
{
    size_t start = sequence->sealed * ELL_BLOCK;
    if (scheduler->sharing && start < sequence->computed)
        ell_blocks_shelve(&scheduler->blocks, sequence->blocks[sequence->sealed], last_sealed(sequence),
                          sequence->tokens + start, sequence->computed - start);
    ell_blocks_release(&scheduler->blocks, sequence->blocks, sequence->block_count);
    sequence->block_count = sequence->sealed = sequence->computed = sequence->chunk = 0;
}

void ell_scheduler_advance(struct ell_scheduler *scheduler, struct ell_sequence *sequence)
{
    sequence->computed += sequence->chunk;
    while (scheduler->sharing && (sequence->sealed + 1) * ELL_BLOCK <= sequence->computed) {
        int32_t *block = &sequence->blocks[sequence->sealed];
        *block = ell_blocks_seal(&scheduler->blocks, *block, last_sealed(sequence),
                                 sequence->tokens + sequence->sealed * ELL_BLOCK);
        sequence->sealed++;
    }
}

void ell_scheduler_forget(struct ell_scheduler *scheduler)
{
    ell_blocks_forget(&scheduler->blocks);
    for (size_t i = 0; i < scheduler->running_count; i++)
        scheduler->running[i]->computed = scheduler->running[i]->sealed = 0;
}

void ell_scheduler_remove(struct ell_scheduler *scheduler, struct ell_sequence *sequence)
{
    for (size_t i = 0; i < scheduler->running_count; i++) {
        if (scheduler->running[i] == sequence) {
            memmove(&scheduler->running[i], &scheduler->running[i + 1],
                    (scheduler->running_count - i - 1) * sizeof *scheduler->running);
            scheduler->running_count--;
            drop_blocks(scheduler, sequence);
            return;
        }
    }
    struct ell_sequence *before = NULL;
    for (struct ell_sequence *one = scheduler->first; one != NULL; before = one, one = one->next) {
        if (one != sequence)
            continue;
        if (before != NULL)
            before->next = one->next;
        else
            scheduler->first = one->next;
        if (scheduler->last == one)
            scheduler->last = before;
        return;
    }
}

static void preempt_youngest(struct ell_scheduler *scheduler)
{
    struct ell_sequence *youngest = scheduler->running[--scheduler->running_count];
    drop_blocks(scheduler, youngest);
    youngest->next = scheduler->first;
    scheduler->first = youngest;
    if (scheduler->last == NULL)
        scheduler->last = youngest;
    scheduler->preemptions++;
}

static size_t blocks_for(size_t tokens)
{
    return (tokens + ELL_BLOCK - 1) / ELL_BLOCK;
}

/* Give the running sequence at `place` blocks for `count` more tokens. `gone`: it was pre-empted itself. */
static bool grow(struct ell_scheduler *scheduler, size_t place, size_t count, bool *gone, struct ell_error *error)
{
    struct ell_sequence *sequence = scheduler->running[place];
    size_t needed = blocks_for(sequence->computed + count);
    *gone = false;
    if (!ell_grow(&sequence->blocks, &sequence->block_room, needed, sizeof *sequence->blocks))
        return ell_fail_memory(error);
    while (sequence->block_count < needed) {
        int32_t block = ell_blocks_take(&scheduler->blocks);
        if (block != ELL_NO_BLOCK) {
            sequence->blocks[sequence->block_count++] = block;
            continue;
        }
        *gone = place == scheduler->running_count - 1;
        preempt_youngest(scheduler);
        if (*gone)
            return true;
    }
    return true;
}

/* Go on with the running sequences that have one token left, or more; what is left of the budget. */
static bool go_on(struct ell_scheduler *scheduler, bool decodes, size_t *budget, struct ell_error *error)
{
    for (size_t i = 0; i < scheduler->running_count; i++) {
        struct ell_sequence *sequence = scheduler->running[i];
        size_t left = sequence->count - sequence->computed;
        size_t count = left < *budget ? left : *budget;
        bool gone;
        if ((left == 1) != decodes || count == 0)
            continue;
        if (!grow(scheduler, i, count, &gone, error))
            return false;
        if (!gone) {
            sequence->chunk = count;
            *budget -= count;
        }
    }
    return true;
}

/* Take what is there already of a waiting sequence, if there are blocks for the rest too. */
static bool start(struct ell_scheduler *scheduler, struct ell_sequence *sequence, bool *let_in,
                  struct ell_error *error)
{
    struct ell_blocks *blocks = &scheduler->blocks;
    size_t available = ell_blocks_available(blocks), needed = blocks_for(sequence->count + 1);
    struct ell_prefix prefix = {0, ELL_NO_BLOCK, ELL_NO_BLOCK, 0};
    bool copy;
    /* When nothing has come back since it was refused there is no need to look again at every step. */
    *let_in = scheduler->running_count == 0 || available >= sequence->refused_at;
    if (!*let_in)
        return true;
    if (!ell_grow(&sequence->blocks, &sequence->block_room, needed, sizeof *sequence->blocks))
        return ell_fail_memory(error);
    if (scheduler->sharing)
        prefix = ell_blocks_match(blocks, sequence->tokens, sequence->count, sequence->blocks);
    available = ell_blocks_available(blocks);
    if (needed - prefix.count > available && scheduler->running_count > 0) {
        /* Alone, it is let in: what it lacks can only be freed by itself. */
        ell_blocks_release(blocks, sequence->blocks, prefix.count);
        sequence->refused_at = ell_blocks_available(blocks) + 1;
        *let_in = false;
        return true;
    }
    sequence->refused_at = 0;
    sequence->block_count = sequence->sealed = prefix.count;
    sequence->computed = prefix.count * ELL_BLOCK;
    int32_t block = ell_blocks_follow(blocks, &prefix, &copy);
    if (block != ELL_NO_BLOCK) {
        if (copy)
            scheduler->copies[scheduler->copy_count++] = (struct ell_copy){prefix.source, block};
        sequence->blocks[sequence->block_count++] = block;
        sequence->computed += prefix.alike;
    }
    if (!sequence->was_in)
        sequence->cached = sequence->computed;
    sequence->was_in = true;
    return true;
}

static bool admit(struct ell_scheduler *scheduler, size_t *budget, struct ell_error *error)
{
    while (*budget > 0 && scheduler->first != NULL && scheduler->running_count < scheduler->batch) {
        struct ell_sequence *sequence = scheduler->first;
        bool gone, let_in;
        if (!start(scheduler, sequence, &let_in, error))
            return false;
        if (!let_in)
            break;
        scheduler->first = sequence->next;
        if (scheduler->first == NULL)
            scheduler->last = NULL;
        scheduler->running[scheduler->running_count++] = sequence;
        size_t left = sequence->count - sequence->computed, count = left < *budget ? left : *budget;
        if (!grow(scheduler, scheduler->running_count - 1, count, &gone, error))
            return false;
        if (gone)
            break;
        sequence->chunk = count;
        *budget -= count;
    }
    return true;
}

bool ell_schedule(struct ell_scheduler *scheduler, size_t *tokens, struct ell_error *error)
{
    size_t budget = scheduler->step_tokens;
    for (size_t i = 0; i < scheduler->running_count; i++)
        scheduler->running[i]->chunk = 0;
    scheduler->copy_count = 0;
    if (!go_on(scheduler, true, &budget, error))
        return false;
    /* Whoever decodes waits for the prompts beside; half as many tokens of these are read nearly as fast. */
    size_t half = scheduler->step_tokens / 2 > 0 ? scheduler->step_tokens / 2 : 1;
    if (budget < scheduler->step_tokens && budget > half)
        budget = half;
    if (!go_on(scheduler, false, &budget, error) || !admit(scheduler, &budget, error))
        return false;
    *tokens = 0;
    for (size_t i = 0; i < scheduler->running_count; i++)
        *tokens += scheduler->running[i]->chunk;
    return true;
}

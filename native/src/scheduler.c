#include "scheduler.h"

#include <stdlib.h>
#include <string.h>

#include "executor.h"

bool ell_scheduler_open(struct ell_scheduler *scheduler, size_t blocks, size_t batch, size_t step_tokens,
                        struct ell_error *error)
{
    *scheduler = (struct ell_scheduler){.batch = batch, .step_tokens = step_tokens};
    scheduler->free_blocks = calloc(blocks, sizeof *scheduler->free_blocks);
    scheduler->running = calloc(batch, sizeof *scheduler->running);
    if (scheduler->free_blocks == NULL || scheduler->running == NULL)
        return ell_fail_memory(error);
    while (scheduler->free_count < blocks) {
        scheduler->free_blocks[scheduler->free_count] = (int32_t)(blocks - scheduler->free_count - 1);
        scheduler->free_count++;
    }
    return true;
}

void ell_scheduler_close(struct ell_scheduler *scheduler)
{
    free(scheduler->free_blocks);
    free(scheduler->running);
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

static void drop_blocks(struct ell_scheduler *scheduler, struct ell_sequence *sequence)
{
    while (sequence->block_count > 0)
        scheduler->free_blocks[scheduler->free_count++] = sequence->blocks[--sequence->block_count];
    sequence->computed = sequence->chunk = 0;
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
        if (scheduler->free_count > 0) {
            sequence->blocks[sequence->block_count++] = scheduler->free_blocks[--scheduler->free_count];
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

static bool admit(struct ell_scheduler *scheduler, size_t *budget, struct ell_error *error)
{
    while (*budget > 0 && scheduler->first != NULL && scheduler->running_count < scheduler->batch) {
        struct ell_sequence *sequence = scheduler->first;
        bool gone;
        if (scheduler->running_count > 0 && blocks_for(sequence->count + 1) > scheduler->free_count)
            break;
        scheduler->first = sequence->next;
        if (scheduler->first == NULL)
            scheduler->last = NULL;
        scheduler->running[scheduler->running_count++] = sequence;
        size_t count = sequence->count < *budget ? sequence->count : *budget;
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

/* The thread of an engine: between any two steps requests come, go, or are cancelled. */
#include <stdlib.h>
#include <string.h>

#include "engine.h"

static size_t most_blocks(const struct ell_engine *engine)
{
    return (size_t)((engine->executor.context + ELL_BLOCK - 1) / ELL_BLOCK);
}

bool ell_steps_open(struct ell_engine *engine, struct ell_error *error)
{
    const struct ell_executor *executor = &engine->executor;
    size_t batch = (size_t)executor->batch;
    size_t width = (size_t)(executor->padded > executor->top ? executor->padded : executor->top);
    engine->tokens = calloc((size_t)executor->step_tokens, 4 * sizeof *engine->tokens);
    engine->tables = calloc(batch, most_blocks(engine) * sizeof *engine->tables);
    engine->rows = calloc(batch, sizeof *engine->rows);
    engine->logits = calloc(batch, width * sizeof *engine->logits);
    engine->ids = calloc(batch, (size_t)(executor->top + 1) * sizeof *engine->ids);
    if (engine->tokens == NULL || engine->tables == NULL || engine->rows == NULL || engine->logits == NULL ||
        engine->ids == NULL)
        return ell_fail_memory(error);
    return ell_scheduler_open(&engine->scheduler, (size_t)executor->blocks, batch, (size_t)executor->step_tokens,
                              engine->sharing, error);
}

void ell_steps_close(struct ell_engine *engine)
{
    ell_scheduler_close(&engine->scheduler);
    free(engine->tokens);
    free(engine->tables);
    free(engine->rows);
    free(engine->logits);
    free(engine->ids);
    free(engine->candidates.heap);
}

/* Lay the chunks of the schedule out as the arrays of a step. */
static struct ell_step pack(struct ell_engine *engine)
{
    const struct ell_scheduler *scheduler = &engine->scheduler;
    struct ell_step step = {engine->tokens, engine->tables, engine->rows, 0, 0, 1, 0};
    for (size_t i = 0; i < scheduler->running_count; i++)
        if (scheduler->running[i]->chunk > 0 && (int64_t)scheduler->running[i]->block_count > step.m)
            step.m = (int64_t)scheduler->running[i]->block_count;
    for (size_t i = 0; i < scheduler->running_count; i++) {
        const struct ell_sequence *sequence = scheduler->running[i];
        if (sequence->chunk == 0)
            continue;
        int32_t *table = engine->tables + step.b * step.m;
        memset(table, 0, (size_t)step.m * sizeof *table);
        memcpy(table, sequence->blocks, sequence->block_count * sizeof *table);
        for (size_t j = 0; j < sequence->chunk; j++) {
            size_t position = sequence->computed + j;
            int32_t *token = engine->tokens + 4 * step.n++;
            token[0] = sequence->tokens[position];
            token[1] = (int32_t)position;
            token[2] = sequence->blocks[position / ELL_BLOCK] * ELL_BLOCK + (int32_t)(position % ELL_BLOCK);
            token[3] = (int32_t)step.b;
        }
        if (sequence->computed + sequence->chunk == sequence->count)
            engine->rows[step.r++] = (int32_t)step.n - 1;
        step.b++;
    }
    return step;
}

/* Whether the largest logits decide for every sequence that gets a token in this step. */
static bool top_is_enough(const struct ell_engine *engine)
{
    const struct ell_scheduler *scheduler = &engine->scheduler;
    for (size_t i = 0; i < scheduler->running_count; i++) {
        const struct ell_request *request = (const struct ell_request *)scheduler->running[i];
        if (!ell_sampler_enough(&request->sampler, engine->executor.top))
            return false;
    }
    return engine->executor.top > 0;
}

/* End a request: what is held back of its text goes out, up to a stop text should one show. Under the lock. */
static void finish(struct ell_request *request, enum ell_reason reason)
{
    bool stopped = false;
    if (request->reason != ELL_RUNNING)
        return;
    if (!ell_decode_end(&request->decoding, &request->stops.held) ||
        !ell_stops_pass(&request->stops, true, &request->text, &stopped)) {
        ell_fail_memory(&request->error);
        reason = ELL_FAILED;
    }
    request->reason = stopped ? ELL_STOP : reason;
}

static bool is_end(const struct ell_engine *engine, const struct ell_request *request, int32_t id)
{
    const struct ell_ids *ends = &engine->bundle->end_ids;
    for (size_t i = 0; i < ends->count && !request->sampler.settings.ignore_end; i++)
        if (ends->ids[i] == id)
            return true;
    return false;
}

/* Take a newly chosen token. Under the lock. */
static void accept(struct ell_engine *engine, struct ell_request *request, int32_t id)
{
    struct ell_sequence *sequence = &request->sequence;
    bool stopped = false;
    if (id < 0 || id >= engine->executor.vocabulary) {
        ell_fail(&request->error, "the device %s gave no token: its driver may be faulty",
                 engine->executor.device->info.name);
        finish(request, ELL_FAILED);
    } else if (is_end(engine, request, id)) {
        finish(request, ELL_STOP);
    } else if (!ell_grow(&sequence->tokens, &sequence->room, sequence->count + 1, sizeof *sequence->tokens) ||
               !ell_decode(&request->decoding, id, &request->stops.held) ||
               !ell_stops_pass(&request->stops, false, &request->text, &stopped)) {
        ell_fail_memory(&request->error);
        finish(request, ELL_FAILED);
    } else {
        sequence->tokens[sequence->count++] = id;
        request->last_token = ell_seconds();
        if (sequence->count == request->prompt_count + 1)
            request->first_token = request->last_token;
        ell_sampler_note(&request->sampler, id);
        if (stopped)
            request->reason = ELL_STOP;
        else if (sequence->count >= request->most)
            finish(request, ELL_LENGTH);
    }
}

/* Note what was computed, and give each sequence that is through its prompt the next token. Under the lock. */
static void advance(struct ell_engine *engine, const int32_t *chosen)
{
    struct ell_scheduler *scheduler = &engine->scheduler;
    size_t row = 0;
    for (size_t i = 0; i < scheduler->running_count; i++) {
        struct ell_sequence *sequence = scheduler->running[i];
        if (sequence->chunk == 0)
            continue;
        ell_scheduler_advance(scheduler, sequence);
        if (sequence->computed == sequence->count)
            accept(engine, (struct ell_request *)sequence, chosen[row++]);
    }
}

static void fail(struct ell_sequence *sequence, const struct ell_error *error)
{
    struct ell_request *request = (struct ell_request *)sequence;
    request->error = *error;
    finish(request, ELL_FAILED);
}

/* After a step that failed: end what runs, or what could not even be let in. Under the lock. */
static void fail_step(struct ell_engine *engine, const struct ell_error *error)
{
    struct ell_scheduler *scheduler = &engine->scheduler;
    for (size_t i = 0; i < scheduler->running_count; i++)
        fail(scheduler->running[i], error);
    if (scheduler->running_count == 0 && scheduler->first != NULL)
        fail(scheduler->first, error);
    ell_scheduler_forget(scheduler);
}

static bool run_step(struct ell_engine *engine, int32_t *chosen, struct ell_error *error)
{
    struct ell_executor *executor = &engine->executor;
    struct ell_scheduler *scheduler = &engine->scheduler;
    struct ell_step step = pack(engine);
    bool top = top_is_enough(engine);
    for (size_t i = 0; i < scheduler->copy_count; i++)
        if (!ell_executor_copy(executor, scheduler->copies[i].source, scheduler->copies[i].target, error))
            return false;
    if (!ell_executor_step(executor, &step, top ? NULL : engine->logits, top ? engine->logits : NULL,
                           top ? engine->ids : NULL, error))
        return false;
    size_t row = 0;
    int64_t width = top ? executor->top : executor->padded;
    for (size_t i = 0; i < scheduler->running_count; i++) {
        struct ell_request *request = (struct ell_request *)scheduler->running[i];
        struct ell_sequence *sequence = &request->sequence;
        if (sequence->chunk == 0 || sequence->computed + sequence->chunk != sequence->count)
            continue;
        chosen[row] = ell_choose(&request->sampler, engine->logits + (int64_t)row * width,
                                 top ? engine->ids + (int64_t)row * width : NULL,
                                 (size_t)(top ? width : executor->vocabulary), &engine->candidates);
        row++;
    }
    return true;
}

/* Take arrivals in, and let go of what has ended or is cancelled. Under the lock. */
static void collect(struct ell_engine *engine)
{
    struct ell_scheduler *scheduler = &engine->scheduler;
    for (struct ell_request *one = engine->arrived; one != NULL; one = one->arrived)
        ell_scheduler_add(scheduler, &one->sequence);
    engine->arrived = engine->last_arrived = NULL;
    for (size_t i = scheduler->running_count; i > 0; i--) {
        struct ell_request *request = (struct ell_request *)scheduler->running[i - 1];
        if (request->cancelled)
            finish(request, ELL_CANCELLED);
        if (request->reason != ELL_RUNNING)
            ell_scheduler_remove(scheduler, &request->sequence);
    }
    for (struct ell_sequence *one = scheduler->first, *next; one != NULL; one = next) {
        struct ell_request *request = (struct ell_request *)one;
        next = one->next;
        if (request->cancelled)
            finish(request, ELL_CANCELLED);
        if (request->reason != ELL_RUNNING)
            ell_scheduler_remove(scheduler, one);
    }
    pthread_cond_broadcast(&engine->changed);
}

void *ell_steps_run(void *pointer)
{
    struct ell_engine *engine = pointer;
    int32_t *chosen = calloc((size_t)engine->executor.batch, sizeof *chosen);
    pthread_mutex_lock(&engine->lock);
    for (;;) {
        struct ell_error error;
        size_t tokens = 0;
        collect(engine);
        if (engine->closing)
            break;
        if (engine->scheduler.running_count == 0 && engine->scheduler.first == NULL) {
            pthread_cond_wait(&engine->changed, &engine->lock);
            continue;
        }
        bool good = chosen != NULL ? ell_schedule(&engine->scheduler, &tokens, &error) : ell_fail_memory(&error);
        pthread_mutex_unlock(&engine->lock);
        /* Only this thread changes the running sequences, so they can be read without the lock. */
        good = good && (tokens == 0 || run_step(engine, chosen, &error));
        pthread_mutex_lock(&engine->lock);
        if (!good)
            fail_step(engine, &error);
        else
            advance(engine, chosen);
    }
    pthread_mutex_unlock(&engine->lock);
    free(chosen);
    return NULL;
}

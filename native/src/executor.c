#include "executor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char FOLDER[] = "tvm";
static const int64_t DEFAULT_BATCH = 4;

static int64_t *size_of(struct ell_executor *executor, int64_t *sizes, const char *name)
{
    uint32_t at = ell_plan_size(executor->plan, name);
    return at != ELL_NOWHERE ? &sizes[at] : NULL;
}

/* Bytes of one block in all caches, and in the largest. */
static int64_t block_bytes(const struct ell_plan *plan, int64_t *largest)
{
    int64_t ones[ELL_MAX_SIZES], total = 0;
    for (size_t i = 0; i < ELL_MAX_SIZES; i++)
        ones[i] = 1;
    *largest = 0;
    for (size_t i = 0; i < plan->declared_count; i++) {
        if (plan->buffers[i].kind != ELL_CACHE)
            continue;
        int64_t bytes = ell_buffer_bytes(&plan->buffers[i], ones);
        total += bytes;
        if (bytes > *largest)
            *largest = bytes;
    }
    return total;
}

/* Whether the plan has the inputs and outputs of a language model, in their shapes. */
static bool check_interface(const struct ell_plan *plan, struct ell_error *error)
{
    static const struct {
        const char *name;
        enum ell_kind kind;
        enum ell_dtype dtype;
        size_t rank;
        const char *first;
    } wanted[] = {{"tokens", ELL_INPUT, ELL_INT32, 2, "n"}, {"tables", ELL_INPUT, ELL_INT32, 2, "b"},
                  {"rows", ELL_INPUT, ELL_INT32, 1, "r"}, {"logits", ELL_OUTPUT, ELL_FLOAT32, 2, "r"}};
    for (size_t i = 0; i < ELL_COUNT(wanted); i++) {
        uint32_t at = ell_plan_buffer(plan, wanted[i].name), size = ell_plan_size(plan, wanted[i].first);
        const struct ell_plan_buffer *buffer = at != ELL_NOWHERE ? &plan->buffers[at] : NULL;
        if (buffer == NULL || size == ELL_NOWHERE || buffer->kind != wanted[i].kind ||
            buffer->dtype != wanted[i].dtype || buffer->rank != wanted[i].rank || buffer->shape[0].op != 's' ||
            buffer->shape[0].value != size)
            return ell_fail(error, "this is no program of a language model: %s is not as it should be",
                            wanted[i].name);
    }
    if (ell_plan_size(plan, "m") == ELL_NOWHERE || ell_plan_size(plan, "blocks") == ELL_NOWHERE ||
        ell_plan_size(plan, "context") == ELL_NOWHERE)
        return ell_fail(error, "this is no program of a language model: a size is missing");
    return true;
}

/* Columns of an output in rows of logits; 0 if it is not there. */
static int64_t width_of(const struct ell_plan *plan, const char *name, enum ell_dtype dtype)
{
    uint32_t at = ell_plan_buffer(plan, name);
    if (at == ELL_NOWHERE)
        return 0;
    const struct ell_plan_buffer *buffer = &plan->buffers[at];
    bool good = buffer->kind == ELL_OUTPUT && buffer->dtype == dtype && buffer->rank == 2 &&
                buffer->shape[1].op == '0' && buffer->shape[0].op == 's' &&
                buffer->shape[0].value == ell_plan_size(plan, "r");
    return good ? buffer->shape[1].value : 0;
}

/* How many blocks the cache has: room for the whole contexts of a batch, or what fits, but at least one context. */
static bool choose_blocks(struct ell_executor *executor, int64_t *sizes, uint64_t memory, struct ell_error *error)
{
    const struct ell_plan *plan = executor->plan;
    const struct ell_device_info *info = &executor->device->info;
    int64_t largest, each = (executor->context + ELL_BLOCK - 1) / ELL_BLOCK, fixed = 0;
    int64_t block = block_bytes(plan, &largest);
    if (block < 1)
        return ell_fail(error, "this is no program of a language model: it has no cache");
    *size_of(executor, sizes, "blocks") = 1;
    for (size_t i = 0; i < plan->buffer_count; i++) {
        int64_t bytes = ell_host_allocated(&plan->buffers[i], sizes);
        if (bytes < 0)
            return ell_fail(error, "%s would be too large; take a smaller context", plan->buffers[i].name.data);
        if (plan->buffers[i].kind != ELL_CACHE)
            fixed += bytes;
    }
    uint64_t room = memory != 0 ? memory : info->memory;
    int64_t blocks = each * executor->batch;
    if (room != 0) {
        int64_t fit = room > (uint64_t)fixed ? (int64_t)((room - (uint64_t)fixed) / (uint64_t)block) : 0;
        if (fit < each)
            return ell_fail(error, "a context of %lld tokens needs %lld MiB and %s has %llu MiB free; take a context "
                                   "of %lld tokens, close other apps, or build with a smaller quantization",
                            (long long)executor->context, (long long)((fixed + each * block) >> 20), info->name,
                            (unsigned long long)(room >> 20), (long long)(fit * ELL_BLOCK));
        if (blocks > fit)
            blocks = fit;
    }
    if ((uint64_t)blocks > info->buffer_bytes / (uint64_t)largest)
        blocks = (int64_t)(info->buffer_bytes / (uint64_t)largest);
    if (blocks < each)
        return ell_fail(error, "the cache of one layer for %lld tokens is larger than buffers of %s may be; take a "
                               "smaller context",
                        (long long)executor->context, info->name);
    executor->blocks = *size_of(executor, sizes, "blocks") = blocks;
    return true;
}

static bool choose_sizes(struct ell_executor *executor, const struct ell_bundle *bundle, int64_t context,
                         int64_t batch, uint64_t memory, int64_t *sizes, struct ell_error *error)
{
    const struct ell_plan *plan = executor->plan;
    if (!check_interface(plan, error))
        return false;
    memcpy(sizes, plan->sizes, ELL_MAX_SIZES * sizeof *sizes);
    executor->step_tokens = *size_of(executor, sizes, "n");
    executor->context = context != 0 && context < bundle->context ? context : bundle->context;
    executor->batch = batch != 0 ? batch : DEFAULT_BATCH;
    if (executor->batch > executor->step_tokens)
        return ell_fail(error, "a batch of %lld was asked for and steps of this program have %lld tokens",
                        (long long)executor->batch, (long long)executor->step_tokens);
    *size_of(executor, sizes, "b") = executor->batch;
    *size_of(executor, sizes, "m") = (executor->context + ELL_BLOCK - 1) / ELL_BLOCK;
    *size_of(executor, sizes, "context") = executor->context;
    executor->vocabulary = bundle->vocab_size;
    executor->padded = width_of(plan, "logits", ELL_FLOAT32);
    if (executor->padded < executor->vocabulary)
        return ell_fail(error, "the program has %lld logits and the model %lld tokens; build the bundle again",
                        (long long)executor->padded, (long long)executor->vocabulary);
    executor->top = width_of(plan, "top", ELL_FLOAT32);
    if (width_of(plan, "top_ids", ELL_INT32) != executor->top || executor->device->info.only_floats)
        executor->top = 0;
    return choose_blocks(executor, sizes, memory, error);
}

/* Read the plan of the first program that the device can run; its folder's name. */
static bool read_program(struct ell_executor *executor, const struct ell_bundle *bundle, char folder[64],
                         struct ell_error *error)
{
    const struct ell_device_info *info = &executor->device->info;
    static const char *const arithmetics[] = {"fp16", "fp32"};
    for (size_t i = info->fp16 ? 0 : 1; i < ELL_COUNT(arithmetics); i++) {
        snprintf(folder, 64, "%s/%s-%s", FOLDER, info->language, arithmetics[i]);
        if (!ell_bundle_lists(bundle, folder, "plan.json"))
            continue;
        char name[80];
        struct ell_bytes bytes = {0};
        struct ell_error reason;
        snprintf(name, sizeof name, "%s/plan.json", folder);
        char *path = ell_path(bundle->folder, ell_text_of(name));
        if (path == NULL)
            return ell_fail_memory(error);
        if (ell_read_file(path, ELL_MAX_PLAN_BYTES, &bytes, error)) {
            struct ell_text text = {(char *)bytes.data, bytes.size};
            executor->plan = ell_plan_read(text, info->language, &reason);
            if (executor->plan == NULL)
                ell_fail(error, "%.200s: %.250s; build the bundle again", path, reason.text);
        }
        free(path);
        ell_bytes_free(&bytes);
        return executor->plan != NULL;
    }
    return ell_fail(error, "the bundle (for %.64s) has no program that %s runs; build it for this kind of device",
                    bundle->target.data, info->name);
}

static bool open_program(struct ell_executor *executor, const struct ell_bundle *bundle, const int64_t *sizes,
                         const char *program, struct ell_error *error)
{
    for (size_t i = 0; i < executor->plan->kernel_count; i++)
        if (!ell_bundle_lists(bundle, program, executor->plan->kernels[i].source.data))
            return ell_fail(error, "the bundle does not list %s/%s; build it again", program,
                            executor->plan->kernels[i].source.data);
    char *weights = ell_path(bundle->folder, ell_text_of(FOLDER));
    char *folder = ell_path(bundle->folder, ell_text_of(program));
    bool good = weights != NULL && folder != NULL;
    if (!good)
        ell_fail_memory(error);
    good = good && ell_weights_open(&executor->weights, weights, error) &&
           ell_host_open(&executor->host, executor->plan, executor->device, &executor->weights, folder, sizes, error);
    executor->open = good;
    free(weights);
    free(folder);
    return good && ell_host_fill_rotary(&executor->host, error) && ell_host_finish(&executor->host, error);
}

bool ell_executor_open(struct ell_executor *executor, const struct ell_bundle *bundle, struct ell_device *device,
                       int64_t context, int64_t batch, uint64_t memory, struct ell_error *error)
{
    int64_t sizes[ELL_MAX_SIZES];
    char program[64];
    *executor = (struct ell_executor){.device = device};
    if (read_program(executor, bundle, program, error) &&
        choose_sizes(executor, bundle, context, batch, memory, sizes, error) &&
        open_program(executor, bundle, sizes, program, error)) {
        if (!executor->host.adopted)
            ell_weights_close(&executor->weights); /* the device has its own copy now */
        return true;
    }
    ell_executor_close(executor);
    return false;
}

void ell_executor_close(struct ell_executor *executor)
{
    if (executor->open)
        ell_host_close(&executor->host);
    if (executor->device != NULL)
        executor->device->close(executor->device);
    ell_weights_close(&executor->weights);
    ell_plan_free(executor->plan);
    *executor = (struct ell_executor){0};
}

static bool write_inputs(struct ell_executor *executor, const struct ell_step *step, const int32_t *rows,
                         int64_t count, struct ell_error *error)
{
    const struct ell_plan *plan = executor->plan;
    struct ell_host *host = &executor->host;
    return ell_host_write(host, ell_plan_buffer(plan, "tokens"), step->tokens, (size_t)(step->n * 16), error) &&
           ell_host_write(host, ell_plan_buffer(plan, "tables"), step->tables, (size_t)(step->b * step->m * 4),
                          error) &&
           ell_host_write(host, ell_plan_buffer(plan, "rows"), rows, (size_t)(count * 4), error);
}

static bool read_rows(struct ell_executor *executor, const char *output, void *rows, int64_t first, int64_t count,
                      int64_t width, struct ell_error *error)
{
    if (rows == NULL)
        return true;
    return ell_host_read(&executor->host, ell_plan_buffer(executor->plan, output), (float *)rows + first * width,
                         (size_t)(count * width * 4), error);
}

bool ell_executor_step(struct ell_executor *executor, const struct ell_step *step, float *logits, float *top,
                       int32_t *ids, struct ell_error *error)
{
    static const int32_t first_row[] = {0};
    int64_t sizes[ELL_MAX_SIZES];
    memcpy(sizes, executor->host.sizes, sizeof sizes);
    int64_t most = *size_of(executor, sizes, "r"), done = 0;
    *size_of(executor, sizes, "n") = step->n;
    *size_of(executor, sizes, "b") = step->b;
    *size_of(executor, sizes, "m") = step->m;
    bool good = true;
    /* What a step writes to the cache depends on its input alone, so it can run again for more rows. */
    do {
        int64_t count = step->r - done < most ? step->r - done : most;
        *size_of(executor, sizes, "r") = count > 0 ? count : 1;
        good = write_inputs(executor, step, count > 0 ? step->rows + done : first_row, count > 0 ? count : 1,
                            error) &&
               ell_host_run(&executor->host, sizes, error) &&
               (count == 0 || (read_rows(executor, "logits", logits, done, count, executor->padded, error) &&
                               read_rows(executor, "top", top, done, count, executor->top, error) &&
                               read_rows(executor, "top_ids", ids, done, count, executor->top, error)));
        /* Also after a failure: reads must not arrive when their memory is gone. */
        struct ell_error ignored;
        good = ell_host_finish(&executor->host, good ? error : &ignored) && good;
        done += count;
    } while (good && done < step->r);
    executor->steps++;
    return good;
}

bool ell_executor_copy(struct ell_executor *executor, int64_t source, int64_t target, struct ell_error *error)
{
    const struct ell_plan *plan = executor->plan;
    int64_t ones[ELL_MAX_SIZES];
    for (size_t i = 0; i < ELL_MAX_SIZES; i++)
        ones[i] = 1;
    for (size_t i = 0; i < plan->declared_count; i++) {
        if (plan->buffers[i].kind != ELL_CACHE)
            continue;
        uint64_t bytes = (uint64_t)ell_buffer_bytes(&plan->buffers[i], ones);
        if (!executor->device->copy(executor->device, executor->host.buffers[i], (uint64_t)source * bytes,
                                    (uint64_t)target * bytes, bytes, error))
            return false;
    }
    return true;
}

#include "host.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SOURCE_BYTES = 4 << 20 };

/* Weights go to the device in pieces of this size: drivers may copy each before they take it. */
static const size_t PIECE = 16u << 20;

int64_t ell_host_allocated(const struct ell_plan_buffer *buffer, const int64_t *sizes)
{
    int64_t bytes = ell_buffer_bytes(buffer, sizes);
    if (bytes < 0)
        return -1;
    return bytes < 16 ? 16 : (bytes + 15) / 16 * 16;
}

static bool kernel_suits(const struct ell_plan_kernel *kernel, const struct ell_device_info *info,
                         const int64_t *sizes, struct ell_error *error)
{
    const char *const advice = "build the bundle for a target with lower limits";
    int64_t threads = ell_times(ell_times(kernel->threads[0], kernel->threads[1]), kernel->threads[2]);
    if (threads < 0 || (uint64_t)threads > info->threads)
        return ell_fail(error, "%s allows %llu threads in a workgroup and the kernel %s needs %lld; %s",
                        info->name, (unsigned long long)info->threads, kernel->name.data, (long long)threads,
                        advice);
    if ((uint64_t)kernel->shared_bytes > info->shared_bytes)
        return ell_fail(error, "%s allows %llu bytes of workgroup memory and the kernel %s needs %lld; %s",
                        info->name, (unsigned long long)info->shared_bytes, kernel->name.data,
                        (long long)kernel->shared_bytes, advice);
    for (size_t i = 0; i < 3; i++) {
        int64_t extent = ell_expr_value(&kernel->grid[i], sizes);
        if (extent < 0 || extent > ELL_MAX_GRID)
            return ell_fail(error, "kernel %s needs more than %d workgroups in a row; take a smaller context",
                            kernel->name.data, ELL_MAX_GRID);
    }
    return true;
}

bool ell_host_suits(const struct ell_plan *plan, const struct ell_device_info *info, const int64_t *sizes,
                    struct ell_error *error)
{
    if (!ell_text_is(plan->language, info->language))
        return ell_fail(error, "%s runs %s kernels and these are %s", info->name, info->language,
                        plan->language.data);
    if (plan->needs_fp16 && !info->fp16)
        return ell_fail(error, "%s has no 16-bit floats, which this program needs", info->name);
    for (size_t i = 0; i < plan->size_count; i++)
        if (sizes[i] < 1)
            return ell_fail(error, "size %s has no largest value", plan->size_names[i].data);
    for (size_t i = 0; i < plan->buffer_count; i++) {
        int64_t bytes = ell_host_allocated(&plan->buffers[i], sizes);
        if (bytes < 0 || (uint64_t)bytes > info->buffer_bytes)
            return ell_fail(error, "%s takes buffers of at most %llu bytes and %s has %lld; take a smaller context, "
                                   "or build with a smaller quantization",
                            info->name, (unsigned long long)info->buffer_bytes, plan->buffers[i].name.data,
                            (long long)bytes);
    }
    for (size_t i = 0; i < plan->kernel_count; i++)
        if (!kernel_suits(&plan->kernels[i], info, sizes, error))
            return false;
    return true;
}

static bool new_buffer(struct ell_host *host, const struct ell_plan_buffer *buffer, ell_handle *made,
                       struct ell_error *error)
{
    struct ell_error reason;
    uint64_t bytes = (uint64_t)ell_host_allocated(buffer, host->sizes);
    return host->device->buffer(host->device, bytes, made, &reason) ||
           ell_fail(error, "no room for %s of %llu bytes: %.300s", buffer->name.data, (unsigned long long)bytes,
                    reason.text);
}

/* Give the device a weight: where it is mapped, or as a copy. */
static bool place_weight(struct ell_host *host, const struct ell_plan_buffer *buffer, ell_handle *made,
                         const struct ell_weights *weights, struct ell_error *error)
{
    struct ell_device *device = host->device;
    struct ell_mapped bytes, shard;
    if (!ell_weights_find(weights, buffer->name, &bytes, &shard))
        return ell_fail(error, "the weights have no buffer %s; build the bundle again", buffer->name.data);
    if (bytes.size != (uint64_t)buffer->bytes)
        return ell_fail(error, "the weights have %zu bytes of %s and the plan takes %lld; build the bundle again",
                        bytes.size, buffer->name.data, (long long)buffer->bytes);
    if (device->adopt != NULL) {
        uint64_t offset = (uint64_t)(bytes.data - shard.data);
        if (!device->adopt(device, shard.data, shard.size, offset, bytes.size, made, error))
            return false;
        if (*made != NULL)
            return host->adopted = true;
    }
    if (!new_buffer(host, buffer, made, error))
        return false;
    for (size_t at = 0; at < bytes.size; at += PIECE) {
        size_t size = bytes.size - at < PIECE ? bytes.size - at : PIECE;
        if (!device->write(device, *made, at, bytes.data + at, size, error))
            return false;
    }
    return true;
}

static bool make_buffers(struct ell_host *host, const struct ell_weights *weights, struct ell_error *error)
{
    const struct ell_plan *plan = host->plan;
    struct ell_device *device = host->device;
    for (size_t i = 0; i < plan->buffer_count; i++) {
        const struct ell_plan_buffer *buffer = &plan->buffers[i];
        if (buffer->kind == ELL_WEIGHT) {
            if (!place_weight(host, buffer, &host->buffers[i], weights, error))
                return false;
            continue;
        }
        if (!new_buffer(host, buffer, &host->buffers[i], error))
            return false;
        uint64_t bytes = (uint64_t)ell_host_allocated(buffer, host->sizes);
        if (buffer->kind == ELL_CACHE && !device->zero(device, host->buffers[i], bytes, error))
            return false;
    }
    return true;
}

static bool compile_one(struct ell_host *host, const struct ell_plan_kernel *kernel, const char *folder,
                        ell_handle *compiled, struct ell_error *error)
{
    uint64_t size;
    struct ell_bytes text = {0};
    size_t threads = (size_t)(kernel->threads[0] * kernel->threads[1] * kernel->threads[2]);
    if (!ell_plain_file(folder, kernel->source, &size, error))
        return false;
    char *path = ell_path(folder, kernel->source);
    bool good = false;
    if (path == NULL)
        ell_fail_memory(error);
    else if (ell_read_file(path, MAX_SOURCE_BYTES, &text, error)) {
        struct ell_source source = {kernel->name.data, kernel->entry.data, {(char *)text.data, text.size}, threads};
        good = host->device->compile(host->device, &source, compiled, error);
    }
    free(path);
    ell_bytes_free(&text);
    return good;
}

static bool prepare(struct ell_host *host, const ell_handle *compiled, struct ell_error *error)
{
    const struct ell_plan *plan = host->plan;
    ell_handle buffers[ELL_MAX_ARGUMENTS];
    for (size_t r = 0; r < plan->routine_count; r++) {
        const struct ell_plan_routine *routine = &plan->routines[r];
        host->launches[r] = ell_arena_new(&host->arena, routine->launch_count, sizeof *host->launches[r]);
        if (host->launches[r] == NULL)
            return ell_fail_memory(error);
        for (size_t i = 0; i < routine->launch_count; i++) {
            const struct ell_plan_launch *one = &routine->launches[i];
            const struct ell_plan_kernel *kernel = &plan->kernels[one->kernel];
            for (size_t j = 0; j < kernel->arguments; j++)
                buffers[j] = host->buffers[one->arguments[j]];
            struct ell_launch launch = {compiled[one->kernel], buffers, kernel->arguments, kernel->scalar_count,
                                        kernel->access,
                                        {(uint32_t)kernel->threads[0], (uint32_t)kernel->threads[1],
                                         (uint32_t)kernel->threads[2]}};
            if (!host->device->prepare(host->device, &launch, &host->launches[r][i], error))
                return false;
        }
    }
    return true;
}

bool ell_host_open(struct ell_host *host, const struct ell_plan *plan, struct ell_device *device,
                   const struct ell_weights *weights, const char *folder, const int64_t *sizes,
                   struct ell_error *error)
{
    *host = (struct ell_host){.plan = plan, .device = device};
    if (!ell_host_suits(plan, &device->info, sizes, error))
        return false;
    memcpy(host->sizes, sizes, plan->size_count * sizeof *sizes);
    host->buffers = ell_arena_new(&host->arena, plan->buffer_count, sizeof *host->buffers);
    host->launches = ell_arena_new(&host->arena, plan->routine_count, sizeof *host->launches);
    ell_handle *compiled = ell_arena_new(&host->arena, plan->kernel_count, sizeof *compiled);
    bool good = host->buffers != NULL && host->launches != NULL && compiled != NULL;
    if (!good)
        ell_fail_memory(error);
    good = good && make_buffers(host, weights, error);
    for (size_t i = 0; good && i < plan->kernel_count; i++)
        good = compile_one(host, &plan->kernels[i], folder, &compiled[i], error);
    good = good && prepare(host, compiled, error);
    if (!good)
        ell_host_close(host);
    return good;
}

void ell_host_close(struct ell_host *host)
{
    ell_arena_free(&host->arena);
}

bool ell_host_write(struct ell_host *host, uint32_t buffer, const void *data, size_t bytes, struct ell_error *error)
{
    if (bytes > (uint64_t)ell_host_allocated(&host->plan->buffers[buffer], host->sizes))
        return ell_fail(error, "%s is too small for a step", host->plan->buffers[buffer].name.data);
    return bytes == 0 || host->device->write(host->device, host->buffers[buffer], 0, data, bytes, error);
}

bool ell_host_read(struct ell_host *host, uint32_t buffer, void *data, size_t bytes, struct ell_error *error)
{
    if (bytes > (uint64_t)ell_host_allocated(&host->plan->buffers[buffer], host->sizes))
        return ell_fail(error, "%s is too small for a step", host->plan->buffers[buffer].name.data);
    return host->device->read(host->device, host->buffers[buffer], data, bytes, error);
}

bool ell_host_finish(struct ell_host *host, struct ell_error *error)
{
    return host->device->finish(host->device, error);
}

bool ell_host_run(struct ell_host *host, const int64_t *sizes, struct ell_error *error)
{
    const struct ell_plan *plan = host->plan;
    const struct ell_plan_routine *routine = ell_plan_routine(plan, sizes[ell_plan_size(plan, "n")]);
    for (size_t i = 0; i < plan->size_count; i++)
        if (sizes[i] < 1 || sizes[i] > host->sizes[i])
            return ell_fail(error, "a step with %s = %lld, of at most %lld", plan->size_names[i].data,
                            (long long)sizes[i], (long long)host->sizes[i]);
    for (size_t i = 0; i < routine->launch_count; i++) {
        const struct ell_plan_kernel *kernel = &plan->kernels[routine->launches[i].kernel];
        int32_t scalars[ELL_MAX_SIZES];
        uint32_t grid[3];
        for (size_t j = 0; j < kernel->scalar_count; j++)
            scalars[j] = (int32_t)sizes[kernel->scalars[j]];
        for (size_t j = 0; j < 3; j++)
            grid[j] = (uint32_t)ell_expr_value(&kernel->grid[j], sizes);
        if (!host->device->launch(host->device, host->launches[routine - plan->routines][i], scalars, grid, error))
            return false;
    }
    return true;
}

bool ell_host_fill_rotary(struct ell_host *host, struct ell_error *error)
{
    const struct ell_plan *plan = host->plan;
    for (size_t r = 0; r < plan->rotary_count; r++) {
        const struct ell_plan_rotary *rotary = &plan->rotary[r];
        int64_t positions = ell_expr_value(&plan->buffers[rotary->table].shape[0], host->sizes);
        size_t columns = 2 * rotary->pairs;
        float *table = calloc((size_t)positions, columns * sizeof *table);
        if (table == NULL)
            return ell_fail_memory(error);
        for (int64_t p = 0; p < positions; p++) {
            float *row = table + (size_t)p * columns;
            for (size_t i = 0; i < rotary->pairs; i++) {
                double angle = (double)p * rotary->frequencies[i];
                row[i] = (float)(cos(angle) * rotary->factor);
                row[rotary->pairs + i] = (float)(sin(angle) * rotary->factor);
            }
        }
        bool good = ell_host_write(host, rotary->table, table, (size_t)positions * columns * sizeof *table, error);
        free(table);
        if (!good)
            return false;
    }
    return true;
}

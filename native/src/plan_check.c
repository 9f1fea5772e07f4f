/* What must hold of a plan beyond the types of its fields (docs/plan.md, "What a reader checks"). */
#include <stdlib.h>
#include <string.h>

#include "plan.h"

static bool check_rotary(const struct ell_plan *plan, struct ell_error *error)
{
    for (size_t i = 0; i < plan->rotary_count; i++) {
        const struct ell_plan_rotary *one = &plan->rotary[i];
        const struct ell_plan_buffer *table = one->table == ELL_NOWHERE ? NULL : &plan->buffers[one->table];
        if (table == NULL || table->kind != ELL_TABLE || table->dtype != ELL_FLOAT32 || table->rank != 2 ||
            table->shape[1].op != '0' || table->shape[1].value != (int64_t)(2 * one->pairs))
            return ell_fail(error, "rotary angles for %s, which is no float32 table of %zu columns",
                            one->table_name.data, 2 * one->pairs);
        for (size_t j = 0; j < i; j++)
            if (plan->rotary[j].table == one->table)
                return ell_fail(error, "table %s is filled twice", one->table_name.data);
    }
    size_t tables = 0;
    for (size_t i = 0; i < plan->declared_count; i++)
        tables += plan->buffers[i].kind == ELL_TABLE;
    if (tables != plan->rotary_count)
        return ell_fail(error, "nothing says what fills a table");
    return true;
}

static bool check_kernel(const struct ell_plan *plan, const struct ell_plan_kernel *kernel,
                         const int64_t *smallest, const int64_t *ones, struct ell_error *error)
{
    const char *ending = ell_text_is(plan->language, "opencl") ? ".cl"
                         : ell_text_is(plan->language, "cuda") ? ".cu"
                                                               : plan->language.data;
    size_t size = strlen(ending);
    if (kernel->source.size < size || memcmp(kernel->source.data + kernel->source.size - size, ending, size) != 0)
        return ell_fail(error, "kernel %s is in %s, which is no %s text", kernel->name.data, kernel->source.data,
                        plan->language.data);
    for (size_t i = 0; i < 3; i++) {
        const struct ell_expr *extent = &kernel->grid[i];
        if (ell_expr_value(extent, smallest) < 0)
            return ell_fail(error, "the grid of kernel %s is beyond 2^53 - 1", kernel->name.data);
        if (ell_expr_value(extent, ones) < 1)
            return ell_fail(error, "the grid of kernel %s may be empty", kernel->name.data);
        if (!ell_expr_chosen(extent, plan->sizes) && ell_expr_value(extent, plan->sizes) > ELL_MAX_GRID)
            return ell_fail(error, "the grid of kernel %s is larger than %d", kernel->name.data, ELL_MAX_GRID);
    }
    return true;
}

static bool check_launch(const struct ell_plan *plan, const struct ell_plan_launch *launch, bool *written,
                         struct ell_error *error)
{
    const struct ell_plan_kernel *kernel = &plan->kernels[launch->kernel];
    for (size_t i = 0; i < kernel->arguments; i++) {
        uint32_t at = launch->arguments[i];
        const struct ell_plan_buffer *buffer = &plan->buffers[at];
        for (size_t j = 0; j < i; j++)
            if (launch->arguments[j] == at)
                return ell_fail(error, "a launch of kernel %s takes %s twice", kernel->name.data,
                                buffer->name.data);
        if (kernel->access[i] != ELL_WRITE && !written[at])
            return ell_fail(error, "kernel %s reads %s before anything is written to it", kernel->name.data,
                            buffer->name.data);
        if (kernel->access[i] != ELL_READ &&
            (buffer->kind == ELL_INPUT || buffer->kind == ELL_TABLE || buffer->kind == ELL_WEIGHT))
            return ell_fail(error, "kernel %s writes %s, which only the host may", kernel->name.data,
                            buffer->name.data);
    }
    for (size_t i = 0; i < kernel->arguments; i++)
        if (kernel->access[i] != ELL_READ)
            written[launch->arguments[i]] = true;
    return true;
}

static bool check_routines(const struct ell_plan *plan, bool *written, bool *used, struct ell_error *error)
{
    uint32_t step = ell_plan_size(plan, "n");
    int64_t before = 0;
    for (size_t r = 0; r < plan->routine_count; r++) {
        const struct ell_plan_routine *routine = &plan->routines[r];
        if (routine->most <= before)
            return ell_fail(error, "routines do not grow from one to the next");
        before = routine->most;
        for (size_t i = 0; i < plan->buffer_count; i++)
            written[i] = plan->buffers[i].kind != ELL_SLOT && plan->buffers[i].kind != ELL_OUTPUT;
        for (size_t i = 0; i < routine->launch_count; i++) {
            if (!check_launch(plan, &routine->launches[i], written, error))
                return false;
            used[routine->launches[i].kernel] = true;
        }
        for (size_t i = 0; i < plan->declared_count; i++)
            if (plan->buffers[i].kind == ELL_OUTPUT && !written[i])
                return ell_fail(error, "the routine for %lld tokens does not write %s", (long long)routine->most,
                                plan->buffers[i].name.data);
    }
    if (before != plan->sizes[step])
        return ell_fail(error, "routines do not end at %lld tokens", (long long)plan->sizes[step]);
    for (size_t i = 0; i < plan->kernel_count; i++)
        if (!used[i])
            return ell_fail(error, "kernel %s is never launched", plan->kernels[i].name.data);
    return true;
}

bool ell_plan_check(const struct ell_plan *plan, struct ell_error *error)
{
    uint32_t step = ell_plan_size(plan, "n");
    if (step == ELL_NOWHERE || plan->sizes[step] == 0)
        return ell_fail(error, "size n has no largest value");
    int64_t smallest[ELL_MAX_SIZES], ones[ELL_MAX_SIZES];
    for (size_t i = 0; i < plan->size_count; i++) {
        smallest[i] = plan->sizes[i] != 0 ? plan->sizes[i] : 1;
        ones[i] = 1;
    }
    for (size_t i = 0; i < plan->declared_count; i++)
        if (ell_buffer_bytes(&plan->buffers[i], smallest) < 0)
            return ell_fail(error, "buffer %s has more than 2^53 - 1 bytes", plan->buffers[i].name.data);
    if (!check_rotary(plan, error))
        return false;
    for (size_t i = 0; i < plan->kernel_count; i++)
        if (!check_kernel(plan, &plan->kernels[i], smallest, ones, error))
            return false;
    bool *written = calloc(plan->buffer_count + plan->kernel_count, sizeof *written);
    if (written == NULL)
        return ell_fail_memory(error);
    bool good = check_routines(plan, written, written + plan->buffer_count, error);
    free(written);
    return good;
}

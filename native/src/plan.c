#include "plan.h"

#include <stdlib.h>
#include <string.h>

struct reading {
    struct ell_plan *plan;
    struct ell_error *error;
};

static bool letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* The patterns of names in docs/plan.schema.json. */
static bool is_name(struct ell_text text, size_t most, const char *extra)
{
    if (text.size == 0 || text.size > most || !letter(text.data[0]))
        return false;
    for (size_t i = 1; i < text.size; i++) {
        char c = text.data[i];
        if (!letter(c) && !(c >= '0' && c <= '9') && (c == '\0' || strchr(extra, c) == NULL))
            return false;
    }
    return true;
}

static bool is_source(struct ell_text text)
{
    static const char *const endings[] = {".wgsl", ".cl", ".metal", ".cu"};
    for (size_t i = 0; i < ELL_COUNT(endings); i++) {
        size_t size = strlen(endings[i]);
        if (text.size > size && memcmp(text.data + text.size - size, endings[i], size) == 0)
            return is_name((struct ell_text){text.data, text.size - size}, 64, "_");
    }
    return false;
}

enum name_kind { SYMBOL, NAME, SOURCE };

static bool good_name(struct ell_text text, enum name_kind kind)
{
    return kind == SOURCE ? is_source(text) : is_name(text, kind == NAME ? 100 : 64, kind == NAME ? "_." : "_");
}

static bool read_name(struct reading *reading, struct ell_json value, enum name_kind kind, struct ell_text *name)
{
    if (!ell_json_is(value, ELL_STRING))
        return ell_fail(reading->error, "a name is no text");
    if (!ell_json_string(value, &reading->plan->arena, name))
        return ell_fail_memory(reading->error);
    if (!good_name(*name, kind))
        return ell_fail(reading->error, "\"%.*s\" is not allowed as a name", ELL_SHOWN(*name));
    return true;
}

static bool read_word(struct reading *reading, struct ell_json value, const char *const *words, size_t count,
                      const char *what, unsigned *found)
{
    if (ell_json_is(value, ELL_STRING)) {
        struct ell_text text = {value.at + 1, (size_t)(value.end - value.at) - 2};
        for (unsigned i = 0; i < count; i++) {
            if (ell_text_is(text, words[i])) {
                *found = i;
                return true;
            }
        }
    }
    struct ell_text shown = {value.at, (size_t)(value.end - value.at)};
    return ell_fail(reading->error, "%s %.*s is not known", what, ELL_SHOWN(shown));
}

static bool read_number(struct reading *reading, struct ell_json value, int64_t least, int64_t most,
                        const char *what, int64_t *number)
{
    if (ell_json_whole(value, number) && *number >= least && *number <= most)
        return true;
    return ell_fail(reading->error, "%s is no whole number from %lld to %lld", what, (long long)least,
                    (long long)most);
}

/* Memory for the parts of an array or object, whose number must be within bounds. */
static bool read_parts(struct reading *reading, struct ell_json value, enum ell_json_type type, size_t least,
                       size_t most, const char *what, size_t size, void *parts_pointer, size_t *count)
{
    if (!ell_json_is(value, type))
        return ell_fail(reading->error, "%s are no %s", what, type == ELL_ARRAY ? "list" : "object");
    *count = ell_json_length(value);
    if (*count < least || *count > most)
        return ell_fail(reading->error, "there are %zu %s, and from %zu to %zu are allowed", *count, what, least,
                        most);
    void *parts = ell_arena_new(&reading->plan->arena, *count, size);
    if (parts == NULL)
        return ell_fail_memory(reading->error);
    memcpy(parts_pointer, &parts, sizeof parts);
    return true;
}

static bool read_sizes(struct reading *reading, struct ell_json value)
{
    struct ell_plan *plan = reading->plan;
    struct ell_text *names;
    if (!read_parts(reading, value, ELL_OBJECT, 1, ELL_MAX_SIZES, "sizes", sizeof *names, &names,
                    &plan->size_count))
        return false;
    if (!ell_map_reserve(&plan->size_map, plan->size_count))
        return ell_fail_memory(reading->error);
    struct ell_json_walk walk = ell_json_values(value);
    struct ell_text key;
    struct ell_json one;
    for (uint32_t i = 0; ell_json_next(&walk, &key, &one); i++) {
        if (!ell_json_key(key, &plan->arena, &plan->size_names[i]))
            return ell_fail_memory(reading->error);
        if (!good_name(plan->size_names[i], SYMBOL) ||
            !ell_map_add(&plan->size_map, plan->size_names[i], i))
            return ell_fail(reading->error, "the size %.*s is there twice, or not allowed", ELL_SHOWN(key));
        if (!read_number(reading, one, 0, INT32_MAX, "a size", &plan->sizes[i]))
            return false;
    }
    return true;
}

static bool read_buffer(struct reading *reading, struct ell_json value, struct ell_plan_buffer *buffer)
{
    static const char *const kinds[] = {"input", "table", "cache", "slot", "output"};
    static const char *const dtypes[] = {"float32", "float16", "int32", "uint32", "int8", "uint8"};
    struct ell_plan *plan = reading->plan;
    struct ell_json name, kind, dtype, shape;
    const struct ell_field fields[] = {
        {"name", &name, true}, {"kind", &kind, true}, {"dtype", &dtype, true}, {"shape", &shape, true}};
    unsigned found = 0;
    if (!ell_json_fields(value, "a buffer", false, fields, ELL_COUNT(fields), reading->error) ||
        !read_name(reading, name, NAME, &buffer->name) ||
        !read_word(reading, kind, kinds, ELL_COUNT(kinds), "the kind of a buffer", &found))
        return false;
    buffer->kind = (enum ell_kind)found;
    if (!read_word(reading, dtype, dtypes, ELL_COUNT(dtypes), "the dtype of a buffer", &found))
        return false;
    buffer->dtype = (enum ell_dtype)found;
    if (!read_parts(reading, shape, ELL_ARRAY, 1, ELL_MAX_DIMENSIONS, "extents of a buffer",
                    sizeof *buffer->shape, &buffer->shape, &buffer->rank))
        return false;
    struct ell_json_walk walk = ell_json_values(shape);
    struct ell_json one;
    for (size_t i = 0; ell_json_next(&walk, NULL, &one); i++)
        if (!ell_expr_read(one, &plan->size_map, &plan->arena, &buffer->shape[i], reading->error))
            return false;
    return true;
}

static bool read_buffers(struct reading *reading, struct ell_json declared, struct ell_json weights)
{
    struct ell_plan *plan = reading->plan;
    size_t weight_count = 0;
    void *unused;
    if (!read_parts(reading, weights, ELL_OBJECT, 0, 65536, "weights", 0, &unused, &weight_count))
        return false;
    if (!read_parts(reading, declared, ELL_ARRAY, 0, 4096, "buffers", 0, &unused, &plan->declared_count))
        return false;
    plan->buffer_count = plan->declared_count + weight_count;
    plan->buffers = ell_arena_new(&plan->arena, plan->buffer_count, sizeof *plan->buffers);
    if (plan->buffers == NULL || !ell_map_reserve(&plan->buffer_map, plan->buffer_count))
        return ell_fail_memory(reading->error);
    struct ell_json_walk walk = ell_json_values(declared);
    struct ell_json one;
    struct ell_plan_buffer *buffer = plan->buffers;
    for (; ell_json_next(&walk, NULL, &one); buffer++)
        if (!read_buffer(reading, one, buffer))
            return false;
    struct ell_text key;
    walk = ell_json_values(weights);
    for (; ell_json_next(&walk, &key, &one); buffer++) {
        buffer->kind = ELL_WEIGHT;
        if (!ell_json_key(key, &plan->arena, &buffer->name))
            return ell_fail_memory(reading->error);
        if (!good_name(buffer->name, NAME))
            return ell_fail(reading->error, "\"%.*s\" is not allowed as a name", ELL_SHOWN(key));
        if (!read_number(reading, one, 1, ELL_LARGEST, "bytes of a weight", &buffer->bytes))
            return false;
    }
    for (uint32_t i = 0; i < plan->buffer_count; i++)
        if (!ell_map_add(&plan->buffer_map, plan->buffers[i].name, i))
            return ell_fail(reading->error, "buffer %s is there twice", plan->buffers[i].name.data);
    return true;
}

static bool read_rotary(struct reading *reading, struct ell_json value, struct ell_plan_rotary *rotary)
{
    struct ell_json table, frequencies, factor, one;
    const struct ell_field fields[] = {
        {"table", &table, true}, {"frequencies", &frequencies, true}, {"factor", &factor, false}};
    if (!ell_json_fields(value, "a part of rotary", false, fields, ELL_COUNT(fields), reading->error) ||
        !read_name(reading, table, NAME, &rotary->table_name) ||
        !read_parts(reading, frequencies, ELL_ARRAY, 1, 1024, "frequencies", sizeof *rotary->frequencies,
                    &rotary->frequencies, &rotary->pairs))
        return false;
    struct ell_json_walk walk = ell_json_values(frequencies);
    for (size_t i = 0; ell_json_next(&walk, NULL, &one); i++)
        if (!ell_json_double(one, &rotary->frequencies[i]))
            return ell_fail(reading->error, "a frequency of rotary angles is no number");
    rotary->factor = 1;
    if (factor.at != NULL && !ell_json_double(factor, &rotary->factor))
        return ell_fail(reading->error, "the factor of rotary angles is no number");
    return true;
}

static bool read_kernel(struct reading *reading, struct ell_json value, struct ell_plan_kernel *kernel)
{
    static const char *const accesses[] = {"read", "write", "readwrite"};
    struct ell_plan *plan = reading->plan;
    struct ell_json name, source, entry, access, scalars, threads, shared, grid, one;
    const struct ell_field fields[] = {{"name", &name, true},       {"source", &source, true},
                                       {"entry", &entry, true},     {"access", &access, true},
                                       {"scalars", &scalars, true}, {"threads", &threads, true},
                                       {"shared_bytes", &shared, true}, {"grid", &grid, true}};
    if (!ell_json_fields(value, "a kernel", false, fields, ELL_COUNT(fields), reading->error) ||
        !read_name(reading, name, SYMBOL, &kernel->name) || !read_name(reading, source, SOURCE, &kernel->source) ||
        !read_name(reading, entry, SYMBOL, &kernel->entry) ||
        !read_number(reading, shared, 0, INT32_MAX, "shared_bytes", &kernel->shared_bytes))
        return false;
    void *unused;
    size_t three;
    if (!read_parts(reading, access, ELL_ARRAY, 1, ELL_MAX_ARGUMENTS, "arguments of a kernel", 0, &unused,
                    &kernel->arguments) ||
        !read_parts(reading, scalars, ELL_ARRAY, 0, ELL_MAX_SIZES, "scalars of a kernel", 0, &unused,
                    &kernel->scalar_count) ||
        !read_parts(reading, threads, ELL_ARRAY, 3, 3, "threads", 0, &unused, &three) ||
        !read_parts(reading, grid, ELL_ARRAY, 3, 3, "extents of a grid", 0, &unused, &three))
        return false;
    struct ell_json_walk walk = ell_json_values(access);
    for (size_t i = 0; ell_json_next(&walk, NULL, &one); i++) {
        unsigned found = 0;
        if (!read_word(reading, one, accesses, ELL_COUNT(accesses), "the access of an argument", &found))
            return false;
        kernel->access[i] = (uint8_t)found;
    }
    walk = ell_json_values(scalars);
    for (size_t i = 0; ell_json_next(&walk, NULL, &one); i++) {
        struct ell_text size;
        if (!read_name(reading, one, SYMBOL, &size))
            return false;
        kernel->scalars[i] = ell_map_find(&plan->size_map, size);
        if (kernel->scalars[i] == ELL_NOWHERE)
            return ell_fail(reading->error, "kernel %s takes %s, which is no size of this plan",
                            kernel->name.data, size.data);
        for (size_t j = 0; j < i; j++)
            if (kernel->scalars[j] == kernel->scalars[i])
                return ell_fail(reading->error, "kernel %s takes %s twice", kernel->name.data, size.data);
    }
    walk = ell_json_values(threads);
    for (size_t i = 0; ell_json_next(&walk, NULL, &one); i++)
        if (!read_number(reading, one, 1, ELL_LARGEST, "threads", &kernel->threads[i]))
            return false;
    walk = ell_json_values(grid);
    for (size_t i = 0; ell_json_next(&walk, NULL, &one); i++)
        if (!ell_expr_read(one, &plan->size_map, &plan->arena, &kernel->grid[i], reading->error))
            return false;
    return true;
}

static bool read_launch(struct reading *reading, struct ell_json value, struct ell_plan_launch *launch)
{
    struct ell_plan *plan = reading->plan;
    struct ell_json kernel, arguments, one;
    const struct ell_field fields[] = {{"kernel", &kernel, true}, {"arguments", &arguments, true}};
    struct ell_text name;
    uint32_t *taken = NULL;
    size_t count = 0;
    if (!ell_json_fields(value, "a launch", false, fields, ELL_COUNT(fields), reading->error) ||
        !read_name(reading, kernel, SYMBOL, &name))
        return false;
    launch->kernel = ell_map_find(&plan->kernel_map, name);
    if (launch->kernel == ELL_NOWHERE)
        return ell_fail(reading->error, "a launch of kernel %s, which is not there", name.data);
    if (!read_parts(reading, arguments, ELL_ARRAY, 1, ELL_MAX_ARGUMENTS, "arguments of a launch", sizeof *taken,
                    &taken, &count))
        return false;
    if (count != plan->kernels[launch->kernel].arguments)
        return ell_fail(reading->error, "a launch of kernel %s, which takes %zu buffers, with %zu", name.data,
                        plan->kernels[launch->kernel].arguments, count);
    struct ell_json_walk walk = ell_json_values(arguments);
    for (size_t i = 0; ell_json_next(&walk, NULL, &one); i++) {
        struct ell_text buffer;
        if (!read_name(reading, one, NAME, &buffer))
            return false;
        taken[i] = ell_map_find(&plan->buffer_map, buffer);
        if (taken[i] == ELL_NOWHERE)
            return ell_fail(reading->error, "a launch of kernel %s takes %s, which is no buffer", name.data,
                            buffer.data);
    }
    launch->arguments = taken;
    return true;
}

static bool read_routine(struct reading *reading, struct ell_json value, struct ell_plan_routine *routine)
{
    struct ell_json most, launches, one;
    const struct ell_field fields[] = {{"most", &most, true}, {"launches", &launches, true}};
    if (!ell_json_fields(value, "a routine", false, fields, ELL_COUNT(fields), reading->error) ||
        !read_number(reading, most, 1, ELL_LARGEST, "most", &routine->most) ||
        !read_parts(reading, launches, ELL_ARRAY, 1, 65536, "launches", sizeof *routine->launches,
                    &routine->launches, &routine->launch_count))
        return false;
    struct ell_json_walk walk = ell_json_values(launches);
    for (size_t i = 0; ell_json_next(&walk, NULL, &one); i++)
        if (!read_launch(reading, one, &routine->launches[i]))
            return false;
    return true;
}

static bool read_head(struct reading *reading, struct ell_json format, struct ell_json language,
                      struct ell_json arithmetic, struct ell_json needs, const char *wanted)
{
    static const char *const languages[] = {"wgsl", "opencl", "metal", "cuda"}, *const arithmetics[] = {"fp16", "fp32"};
    static const char *const features[] = {"fp16"};
    struct ell_plan *plan = reading->plan;
    int64_t version;
    unsigned found = 0;
    if (!ell_json_whole(format, &version) || version != 1)
        return ell_fail(reading->error, "its plan format is not 1: use the edgellm that built the bundle");
    if (!read_word(reading, language, languages, ELL_COUNT(languages), "the language", &found))
        return false;
    plan->language = ell_text_of(languages[found]);
    if (wanted != NULL && !ell_text_is(plan->language, wanted))
        return ell_fail(reading->error, "its kernels are %s, and this device runs %s", languages[found], wanted);
    if (!read_word(reading, arithmetic, arithmetics, ELL_COUNT(arithmetics), "the arithmetic", &found))
        return false;
    plan->arithmetic = ell_text_of(arithmetics[found]);
    void *unused;
    size_t count = 0;
    if (!read_parts(reading, needs, ELL_ARRAY, 0, 8, "needs", 0, &unused, &count))
        return false;
    struct ell_json_walk walk = ell_json_values(needs);
    struct ell_json one;
    while (ell_json_next(&walk, NULL, &one)) {
        if (!read_word(reading, one, features, ELL_COUNT(features), "the need", &found))
            return false;
        plan->needs_fp16 = true;
    }
    return true;
}

static bool read_plan(struct reading *reading, struct ell_json value, const char *wanted)
{
    struct ell_plan *plan = reading->plan;
    struct ell_json format, language, arithmetic, needs, sizes, rotary, buffers, weights, kernels, routines, one;
    const struct ell_field fields[] = {
        {"format", &format, true},   {"language", &language, true}, {"arithmetic", &arithmetic, true},
        {"needs", &needs, true},     {"sizes", &sizes, true},       {"rotary", &rotary, true},
        {"buffers", &buffers, true}, {"weights", &weights, true},   {"kernels", &kernels, true},
        {"routines", &routines, true}};
    if (!ell_json_fields(value, "the plan", false, fields, ELL_COUNT(fields), reading->error) ||
        !read_head(reading, format, language, arithmetic, needs, wanted) || !read_sizes(reading, sizes) ||
        !read_buffers(reading, buffers, weights) ||
        !read_parts(reading, rotary, ELL_ARRAY, 0, 16, "parts of rotary", sizeof *plan->rotary, &plan->rotary,
                    &plan->rotary_count) ||
        !read_parts(reading, kernels, ELL_ARRAY, 1, 1024, "kernels", sizeof *plan->kernels, &plan->kernels,
                    &plan->kernel_count) ||
        !read_parts(reading, routines, ELL_ARRAY, 1, 16, "routines", sizeof *plan->routines, &plan->routines,
                    &plan->routine_count))
        return false;
    struct ell_json_walk walk = ell_json_values(rotary);
    for (size_t i = 0; ell_json_next(&walk, NULL, &one); i++) {
        if (!read_rotary(reading, one, &plan->rotary[i]))
            return false;
        plan->rotary[i].table = ell_map_find(&plan->buffer_map, plan->rotary[i].table_name);
    }
    if (!ell_map_reserve(&plan->kernel_map, plan->kernel_count))
        return ell_fail_memory(reading->error);
    walk = ell_json_values(kernels);
    for (uint32_t i = 0; ell_json_next(&walk, NULL, &one); i++) {
        if (!read_kernel(reading, one, &plan->kernels[i]))
            return false;
        if (!ell_map_add(&plan->kernel_map, plan->kernels[i].name, i))
            return ell_fail(reading->error, "kernel %s is there twice", plan->kernels[i].name.data);
    }
    walk = ell_json_values(routines);
    for (size_t i = 0; ell_json_next(&walk, NULL, &one); i++)
        if (!read_routine(reading, one, &plan->routines[i]))
            return false;
    return ell_plan_check(plan, reading->error);
}

struct ell_plan *ell_plan_read(struct ell_text text, const char *language, struct ell_error *error)
{
    struct ell_json value;
    if (text.size > ELL_MAX_PLAN_BYTES) {
        ell_fail(error, "it is larger than %d MiB: it is no plan", ELL_MAX_PLAN_BYTES >> 20);
        return NULL;
    }
    struct ell_plan *plan = calloc(1, sizeof *plan);
    struct reading reading = {plan, error};
    if (plan == NULL)
        ell_fail_memory(error);
    else if (ell_json_check(text, &value, error) && read_plan(&reading, value, language))
        return plan;
    ell_plan_free(plan);
    return NULL;
}

void ell_plan_free(struct ell_plan *plan)
{
    if (plan == NULL)
        return;
    ell_map_free(&plan->size_map);
    ell_map_free(&plan->buffer_map);
    ell_map_free(&plan->kernel_map);
    ell_arena_free(&plan->arena);
    free(plan);
}

uint32_t ell_plan_size(const struct ell_plan *plan, const char *name)
{
    return ell_map_find(&plan->size_map, ell_text_of(name));
}

uint32_t ell_plan_buffer(const struct ell_plan *plan, const char *name)
{
    return ell_map_find(&plan->buffer_map, ell_text_of(name));
}

size_t ell_dtype_bytes(enum ell_dtype dtype)
{
    static const size_t bytes[] = {4, 2, 4, 4, 1, 1};
    return bytes[dtype];
}

int64_t ell_buffer_count(const struct ell_plan_buffer *buffer, const int64_t *sizes)
{
    int64_t count = 1;
    for (size_t i = buffer->rank; i > 0; i--)
        count = ell_times(ell_expr_value(&buffer->shape[i - 1], sizes), count);
    return count;
}

int64_t ell_buffer_bytes(const struct ell_plan_buffer *buffer, const int64_t *sizes)
{
    if (buffer->kind == ELL_WEIGHT)
        return buffer->bytes;
    return ell_times((int64_t)ell_dtype_bytes(buffer->dtype), ell_buffer_count(buffer, sizes));
}

const struct ell_plan_routine *ell_plan_routine(const struct ell_plan *plan, int64_t tokens)
{
    for (size_t i = 0; i < plan->routine_count; i++)
        if (tokens <= plan->routines[i].most)
            return &plan->routines[i];
    return NULL;
}

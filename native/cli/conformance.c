/* Runs conformance programs on a device: conformance DEVICE PROGRAM..., each a folder as docs/plan.md describes.
 * Prints a line for each, and exits with 1 if one fails. DEVICE: number or part of the name of a device.
 * EDGELLM_KERNELS: folder for compiled kernels. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

enum { MAX_STEPS_BYTES = 16 << 20 };

struct test {
    struct ell_arena arena;
    struct ell_plan *plan;
    struct ell_weights weights;
    struct ell_device *device;
    struct ell_host host;
    struct ell_bytes plan_text, steps_text;
    bool open;
};

/* binary16 (IEEE 754) of a number, rounded to nearest, ties to even. */
static uint16_t half_of(double value)
{
    uint16_t sign = (uint16_t)(signbit(value) ? 0x8000 : 0);
    int exponent;
    double part = frexp(fabs(value), &exponent); /* 0.5 <= part < 1 */
    if (part == 0)
        return sign;
    if (exponent > 16)
        return (uint16_t)(sign | 0x7C00);
    int shift = exponent < -13 ? -13 - exponent : 0; /* numbers below 2^-14 have fewer digits */
    double digits = nearbyint(ldexp(part, 11 - shift));
    unsigned bits = (unsigned)digits + (shift != 0 ? 0 : (unsigned)(exponent + 13) << 10);
    return (uint16_t)(sign | bits);
}

static bool read_text(const char *folder, const char *name, struct ell_bytes *bytes, struct ell_error *error)
{
    char *path = ell_path(folder, ell_text_of(name));
    bool good = path != NULL && ell_read_file(path, MAX_STEPS_BYTES, bytes, error);
    free(path);
    return good;
}

/* Sizes of an object over those of the plan. */
static bool read_sizes(const struct ell_plan *plan, struct ell_json object, int64_t *sizes)
{
    struct ell_json_walk walk = ell_json_values(object);
    struct ell_text key;
    struct ell_json value;
    while (ell_json_next(&walk, &key, &value)) {
        uint32_t at = ell_map_find(&plan->size_map, key);
        if (at == ELL_NOWHERE || !ell_json_whole(value, &sizes[at]))
            return false;
    }
    return true;
}

static bool write_input(struct test *test, struct ell_text name, struct ell_json values, struct ell_error *error)
{
    uint32_t at = ell_map_find(&test->plan->buffer_map, name);
    size_t count = ell_json_length(values), i = 0;
    if (at == ELL_NOWHERE)
        return ell_fail(error, "there is no input %.*s", ELL_SHOWN(name));
    enum ell_dtype dtype = test->plan->buffers[at].dtype;
    size_t each = ell_dtype_bytes(dtype);
    uint8_t *data = ell_arena_new(&test->arena, count, each);
    struct ell_json_walk walk = ell_json_values(values);
    struct ell_json one;
    double number;
    while (data != NULL && ell_json_next(&walk, NULL, &one) && ell_json_double(one, &number)) {
        float as_float = (float)number;
        int64_t whole = (int64_t)number;
        uint16_t half = half_of(number);
        const void *from = dtype == ELL_FLOAT32 ? (void *)&as_float : dtype == ELL_FLOAT16 ? (void *)&half : &whole;
        memcpy(data + each * i++, from, each); /* little-endian, as the device is */
    }
    return ell_host_write(&test->host, at, data, count * each, error);
}

static bool run_step(struct test *test, struct ell_json step, uint32_t output, double tolerance, size_t index,
                     struct ell_error *error)
{
    struct ell_json sizes, inputs, expected, one;
    const struct ell_field fields[] = {{"sizes", &sizes, true}, {"inputs", &inputs, true},
                                       {"output", &expected, true}};
    int64_t values[ELL_MAX_SIZES];
    memcpy(values, test->host.sizes, sizeof values);
    if (!ell_json_fields(step, "a step", false, fields, ELL_COUNT(fields), error))
        return false;
    if (!read_sizes(test->plan, sizes, values))
        return ell_fail(error, "a step has other sizes than the plan");
    struct ell_json_walk walk = ell_json_values(inputs);
    struct ell_text key;
    while (ell_json_next(&walk, &key, &one))
        if (!write_input(test, key, one, error))
            return false;
    size_t count = ell_json_length(expected);
    float *got = ell_arena_new(&test->arena, count, sizeof *got);
    if (!ell_host_run(&test->host, values, error) ||
        !ell_host_read(&test->host, output, got, count * sizeof *got, error) ||
        !ell_host_finish(&test->host, error))
        return false;
    walk = ell_json_values(expected);
    for (size_t i = 0; ell_json_next(&walk, NULL, &one); i++) {
        double wanted;
        ell_json_double(one, &wanted);
        if (!(fabs(got[i] - wanted) <= tolerance * (1 + fabs(wanted))))
            return ell_fail(error, "step %zu: number %zu is %.9g and should be %.9g", index, i, got[i], wanted);
    }
    return true;
}

static bool run_steps(struct test *test, const char *program, struct ell_error *error)
{
    struct ell_json value, about, tolerance, sizes, output, steps, one;
    const struct ell_field fields[] = {{"about", &about, true}, {"tolerance", &tolerance, true},
                                       {"sizes", &sizes, true}, {"output", &output, true},
                                       {"steps", &steps, true}};
    struct ell_text text = {(char *)test->steps_text.data, test->steps_text.size}, name;
    double allowed;
    if (!ell_json_check(text, &value, error) ||
        !ell_json_fields(value, "steps.json", false, fields, ELL_COUNT(fields), error))
        return false;
    int64_t largest[ELL_MAX_SIZES];
    memcpy(largest, test->plan->sizes, sizeof largest);
    if (!read_sizes(test->plan, sizes, largest) || !ell_json_double(tolerance, &allowed) ||
        !ell_json_string(output, &test->arena, &name))
        return ell_fail(error, "steps.json cannot be read");
    if (!ell_host_open(&test->host, test->plan, test->device, &test->weights, program, largest, error))
        return false;
    test->open = true;
    if (!ell_host_fill_rotary(&test->host, error))
        return false;
    struct ell_json_walk walk = ell_json_values(steps);
    for (size_t i = 0; ell_json_next(&walk, NULL, &one); i++)
        if (!run_step(test, one, ell_map_find(&test->plan->buffer_map, name), allowed, i, error))
            return false;
    return true;
}

static bool run(const char *device, const char *folder, struct ell_error *error)
{
    static const char *const arithmetics[] = {"fp32", "fp16"};
    struct test test = {0};
    char *program = NULL, name[32];
    test.device = ell_device_open(device, getenv("EDGELLM_KERNELS"), error);
    if (test.device == NULL)
        return false;
    const char *language = test.device->info.language;
    for (size_t i = 0; i < ELL_COUNT(arithmetics) && test.plan_text.data == NULL; i++) {
        free(program);
        snprintf(name, sizeof name, "%s-%s", language, arithmetics[i]);
        program = ell_path(folder, ell_text_of(name));
        read_text(program, "plan.json", &test.plan_text, error);
    }
    struct ell_text text = {(char *)test.plan_text.data, test.plan_text.size};
    bool good = test.plan_text.data != NULL && read_text(folder, "steps.json", &test.steps_text, error) &&
                (test.plan = ell_plan_read(text, language, error)) != NULL &&
                ell_weights_open(&test.weights, folder, error);
    if (good && test.plan->needs_fp16 && !test.device->info.fp16) {
        good = !run_steps(&test, program, error); /* must be refused */
        if (!good)
            ell_fail(error, "a device without 16-bit floats ran kernels that need them");
        else
            printf("%s: refused: %s\n", folder, error->text);
    } else {
        good = good && run_steps(&test, program, error);
        if (good)
            printf("%s: passed\n", folder);
    }
    if (test.open)
        ell_host_close(&test.host);
    test.device->close(test.device);
    ell_weights_close(&test.weights);
    ell_plan_free(test.plan);
    ell_bytes_free(&test.plan_text);
    ell_bytes_free(&test.steps_text);
    ell_arena_free(&test.arena);
    free(program);
    return good;
}

int main(int count, char **arguments)
{
    int status = count < 3;
    if (status)
        fprintf(stderr, "usage: %s DEVICE PROGRAM...\n", arguments[0]);
    for (int i = 2; i < count; i++) {
        struct ell_error error = {""};
        if (!run(arguments[1], arguments[i], &error)) {
            fprintf(stderr, "%s: failed: %s\n", arguments[i], error.text);
            status = 1;
        }
    }
    return status;
}

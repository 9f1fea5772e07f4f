/* The plan of a program (docs/plan.md): kernels, buffers, and which launches make a step. */
#ifndef ELL_PLAN_H
#define ELL_PLAN_H

#include "expr.h"

enum {
    ELL_MAX_PLAN_BYTES = 32 << 20,
    ELL_MAX_DIMENSIONS = 8,
    ELL_MAX_ARGUMENTS = 31,
    ELL_MAX_GRID = 65535,
};

enum ell_kind { ELL_INPUT, ELL_TABLE, ELL_CACHE, ELL_SLOT, ELL_OUTPUT, ELL_WEIGHT };
enum ell_dtype { ELL_FLOAT32, ELL_FLOAT16, ELL_INT32, ELL_UINT32, ELL_INT8, ELL_UINT8 };
enum ell_access { ELL_READ, ELL_WRITE, ELL_READWRITE };

/* A buffer. Of a weight only name and bytes are known. */
struct ell_plan_buffer {
    struct ell_text name;
    enum ell_kind kind;
    enum ell_dtype dtype;
    struct ell_expr *shape; /* rank extents */
    size_t rank;
    int64_t bytes; /* of a weight */
};

struct ell_plan_rotary {
    struct ell_text table_name;
    uint32_t table; /* buffer */
    double *frequencies;
    size_t pairs;
    double factor;
};

struct ell_plan_kernel {
    struct ell_text name, source, entry; /* end in zeros */
    uint8_t access[ELL_MAX_ARGUMENTS];
    size_t arguments;
    uint32_t scalars[ELL_MAX_SIZES];
    size_t scalar_count;
    int64_t threads[3];
    int64_t shared_bytes;
    struct ell_expr grid[3];
};

struct ell_plan_launch {
    uint32_t kernel;
    const uint32_t *arguments; /* buffers, as many as the kernel takes */
};

struct ell_plan_routine {
    int64_t most;
    struct ell_plan_launch *launches;
    size_t launch_count;
};

struct ell_plan {
    struct ell_arena arena;
    struct ell_text language, arithmetic;
    bool needs_fp16;
    struct ell_text size_names[ELL_MAX_SIZES];
    int64_t sizes[ELL_MAX_SIZES]; /* largest values, 0: the host chooses */
    size_t size_count;
    struct ell_plan_rotary *rotary;
    size_t rotary_count;
    struct ell_plan_buffer *buffers; /* declared ones, then weights */
    size_t declared_count, buffer_count;
    struct ell_plan_kernel *kernels;
    size_t kernel_count;
    struct ell_plan_routine *routines;
    size_t routine_count;
    struct ell_map size_map, buffer_map, kernel_map;
};

/* Read and check a plan. `language`: the only one that is taken; NULL for any. The text is needed no longer
 * than this call. NULL and an error where something is wrong. */
struct ell_plan *ell_plan_read(struct ell_text text, const char *language, struct ell_error *error);
void ell_plan_free(struct ell_plan *plan);

/* A size's, buffer's place by its name, ELL_NOWHERE if there is none. */
uint32_t ell_plan_size(const struct ell_plan *plan, const char *name);
uint32_t ell_plan_buffer(const struct ell_plan *plan, const char *name);

size_t ell_dtype_bytes(enum ell_dtype dtype);
/* Numbers of a buffer, or its bytes, where size i is `sizes[i]`; -1 where that is beyond ELL_LARGEST. */
int64_t ell_buffer_count(const struct ell_plan_buffer *buffer, const int64_t *sizes);
int64_t ell_buffer_bytes(const struct ell_plan_buffer *buffer, const int64_t *sizes);
/* The routine of a step of so many tokens: the first that holds it; NULL if none does. */
const struct ell_plan_routine *ell_plan_routine(const struct ell_plan *plan, int64_t tokens);

/* What must hold beyond the types of fields; part of ell_plan_read. */
bool ell_plan_check(const struct ell_plan *plan, struct ell_error *error);

#endif

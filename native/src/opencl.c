/* Plans on OpenCL 1.2, whose library is opened when it is wanted: on a phone it is the vendor's. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "kernel_cache.h"
#include "opencl_api.h"
#include "sha256.h"

enum { MAX_PLATFORMS = 16, MAX_DEVICES = 64, MAX_SCALARS = 16 };

/* Where the vendors of phones put the library, if it is not found by its name. */
static const char *const LIBRARIES[] = {
    "libOpenCL.so",
    "libOpenCL.so.1",
    "libOpenCL-pixel.so",
    "libOpenCL-car.so",
    "/vendor/lib64/libOpenCL.so",
    "/system/vendor/lib64/libOpenCL.so",
    "/vendor/lib64/egl/libGLES_mali.so",
    "/System/Library/Frameworks/OpenCL.framework/OpenCL",
};

struct functions {
#define DECLARE(result, name, parameters) result(*name) parameters;
    ELL_OPENCL_FUNCTIONS(DECLARE)
#undef DECLARE
};

enum made_kind { BUFFER, PROGRAM, KERNEL };

/* What has been made, to be let go of at the end. */
struct made {
    enum made_kind kind;
    cl_object object;
};

struct compiled {
    cl_object program;
    const char *entry;
};

struct bound {
    cl_object kernel;
    uint32_t first; /* index of the first scalar */
    size_t scalar_count, local[3];
    int32_t told[MAX_SCALARS];
    bool is_told;
};

struct opencl {
    struct ell_device device;
    void *library;
    struct functions cl;
    cl_object id, context, queue;
    const char *cache; /* folder of compiled kernels, or NULL */
    struct ell_arena arena;
    struct made *made;
    size_t made_count, made_room;
};

static bool refuse(struct opencl *self, const char *what, int32_t code, struct ell_error *error)
{
    return ell_fail(error,
                    "%s: %s failed (OpenCL error %d). Likely causes: its memory ran out (close what else uses it, "
                    "or take a smaller context), the driver ended a step that took too long, or it went away",
                    self->device.info.name, what, code);
}

static bool keep(struct opencl *self, enum made_kind kind, cl_object object, struct ell_error *error)
{
    if (!ell_grow(&self->made, &self->made_room, self->made_count + 1, sizeof *self->made))
        return ell_fail_memory(error);
    self->made[self->made_count++] = (struct made){kind, object};
    return true;
}

static bool make_buffer(struct ell_device *device, uint64_t bytes, ell_handle *made, struct ell_error *error)
{
    struct opencl *self = (struct opencl *)device;
    int32_t code;
    cl_object buffer = self->cl.CreateBuffer(self->context, CL_MEM_READ_WRITE, (size_t)bytes, NULL, &code);
    if (code != 0)
        return refuse(self, "making a buffer", code, error);
    *made = buffer;
    if (keep(self, BUFFER, buffer, error))
        return true;
    self->cl.ReleaseMemObject(buffer);
    return false;
}

static bool write_buffer(struct ell_device *device, ell_handle buffer, uint64_t offset, const void *data,
                         size_t bytes, struct ell_error *error)
{
    struct opencl *self = (struct opencl *)device;
    int32_t code = self->cl.EnqueueWriteBuffer(self->queue, buffer, 1, (size_t)offset, bytes, data, 0, NULL, NULL);
    return code == 0 || refuse(self, "writing a buffer", code, error);
}

static bool zero_buffer(struct ell_device *device, ell_handle buffer, uint64_t bytes, struct ell_error *error)
{
    struct opencl *self = (struct opencl *)device;
    const uint8_t pattern[16] = {0};
    int32_t code = self->cl.EnqueueFillBuffer(self->queue, buffer, pattern, sizeof pattern, 0, (size_t)bytes, 0,
                                              NULL, NULL);
    return code == 0 || refuse(self, "clearing a buffer", code, error);
}

static bool read_buffer(struct ell_device *device, ell_handle buffer, void *data, size_t bytes,
                        struct ell_error *error)
{
    struct opencl *self = (struct opencl *)device;
    int32_t code = self->cl.EnqueueReadBuffer(self->queue, buffer, 0, 0, bytes, data, 0, NULL, NULL);
    return code == 0 || refuse(self, "reading a buffer", code, error);
}

static bool copy_buffer(struct ell_device *device, ell_handle buffer, uint64_t source, uint64_t target,
                        uint64_t bytes, struct ell_error *error)
{
    struct opencl *self = (struct opencl *)device;
    int32_t code = self->cl.EnqueueCopyBuffer(self->queue, buffer, buffer, (size_t)source, (size_t)target,
                                              (size_t)bytes, 0, NULL, NULL);
    return code == 0 || refuse(self, "copying in a buffer", code, error);
}

static bool build_failed(struct opencl *self, cl_object program, const struct ell_source *source,
                         struct ell_error *error)
{
    char log[4096] = "";
    size_t size = 0;
    self->cl.GetProgramBuildInfo(program, self->id, CL_PROGRAM_BUILD_LOG, sizeof log - 1, log, &size);
    log[size < sizeof log ? size : sizeof log - 1] = '\0';
    return ell_fail(error, "the driver of %s refuses the kernel %s: %.200s; a newer driver may take it",
                    self->device.info.name, source->kernel, log);
}

/* What a compiled kernel depends on: device, driver, text. */
static void cache_key(struct opencl *self, const struct ell_source *source, char key[65])
{
    static const uint32_t asked[] = {CL_DEVICE_NAME, CL_DEVICE_VENDOR, CL_DRIVER_VERSION, CL_DEVICE_VERSION};
    struct ell_sha256 hash;
    char answer[512];
    ell_sha256_start(&hash);
    for (size_t i = 0; i < ELL_COUNT(asked); i++) {
        memset(answer, 0, sizeof answer);
        self->cl.GetDeviceInfo(self->id, asked[i], sizeof answer - 1, answer, NULL);
        ell_sha256_add(&hash, answer, sizeof answer);
    }
    ell_sha256_add(&hash, source->text.data, source->text.size);
    ell_sha256_end(&hash, key);
}

/* The built program of a kernel that was compiled before; NULL if there is none that the driver takes. */
static cl_object cached_program(struct opencl *self, const char *key)
{
    struct ell_bytes bytes = {0};
    int32_t status = -1, code = -1;
    if (!ell_cache_read(self->cache, key, &bytes))
        return NULL;
    const unsigned char *data = bytes.data;
    cl_object program = self->cl.CreateProgramWithBinary(self->context, 1, &self->id, &bytes.size, &data, &status, &code);
    if (code == 0 && (status != 0 || self->cl.BuildProgram(program, 1, &self->id, "", NULL, NULL) != 0)) {
        self->cl.ReleaseProgram(program);
        code = -1;
    }
    ell_bytes_free(&bytes);
    return code == 0 ? program : NULL;
}

static void cache_program(struct opencl *self, cl_object program, const char *key)
{
    size_t size = 0;
    if (self->cl.GetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, sizeof size, &size, NULL) != 0 || size == 0)
        return;
    unsigned char *data = malloc(size);
    if (data != NULL && self->cl.GetProgramInfo(program, CL_PROGRAM_BINARIES, sizeof data, &data, NULL) == 0)
        ell_cache_write(self->cache, key, data, size);
    free(data);
}

/* A built program, which is kept. */
static bool build_program(struct opencl *self, const struct ell_source *source, cl_object *program,
                          struct ell_error *error)
{
    int32_t code;
    char key[65];
    const char *text = source->text.data;
    size_t size = source->text.size;
    if (self->cache != NULL) {
        cache_key(self, source, key);
        *program = cached_program(self, key);
        if (*program != NULL && keep(self, PROGRAM, *program, error))
            return true;
        if (*program != NULL) {
            self->cl.ReleaseProgram(*program);
            return false;
        }
    }
    *program = self->cl.CreateProgramWithSource(self->context, 1, &text, &size, &code);
    if (code != 0)
        return refuse(self, "taking in a kernel", code, error);
    if (!keep(self, PROGRAM, *program, error)) {
        self->cl.ReleaseProgram(*program);
        return false;
    }
    if (self->cl.BuildProgram(*program, 1, &self->id, "", NULL, NULL) != 0)
        return build_failed(self, *program, source, error);
    if (self->cache != NULL)
        cache_program(self, *program, key);
    return true;
}

static bool compile_kernel(struct ell_device *device, const struct ell_source *source, ell_handle *kernel,
                           struct ell_error *error)
{
    struct opencl *self = (struct opencl *)device;
    struct ell_text entry;
    struct compiled *made = ell_arena_new(&self->arena, 1, sizeof *made);
    if (made == NULL || !ell_arena_text(&self->arena, ell_text_of(source->entry), &entry))
        return ell_fail_memory(error);
    made->entry = entry.data;
    *kernel = made;
    return build_program(self, source, &made->program, error);
}

static bool prepare_launch(struct ell_device *device, const struct ell_launch *launch, ell_handle *made,
                           struct ell_error *error)
{
    struct opencl *self = (struct opencl *)device;
    struct compiled *source = launch->kernel;
    int32_t code;
    struct bound *bound = ell_arena_new(&self->arena, 1, sizeof *bound);
    if (bound == NULL)
        return ell_fail_memory(error);
    bound->kernel = self->cl.CreateKernel(source->program, source->entry, &code);
    if (code != 0)
        return refuse(self, "taking a kernel from its program", code, error);
    if (!keep(self, KERNEL, bound->kernel, error)) {
        self->cl.ReleaseKernel(bound->kernel);
        return false;
    }
    for (size_t i = 0; i < launch->buffer_count; i++) {
        cl_object buffer = launch->buffers[i];
        code = self->cl.SetKernelArg(bound->kernel, (uint32_t)i, sizeof buffer, &buffer);
        if (code != 0)
            return refuse(self, "giving a kernel its buffers", code, error);
    }
    bound->first = (uint32_t)launch->buffer_count;
    bound->scalar_count = launch->scalar_count;
    for (size_t i = 0; i < 3; i++)
        bound->local[i] = launch->threads[i];
    *made = bound;
    return true;
}

static bool launch_kernel(struct ell_device *device, ell_handle launch, const int32_t *scalars,
                          const uint32_t grid[3], struct ell_error *error)
{
    struct opencl *self = (struct opencl *)device;
    struct bound *bound = launch;
    for (size_t i = 0; i < bound->scalar_count; i++) {
        if (bound->is_told && bound->told[i] == scalars[i])
            continue;
        bound->told[i] = scalars[i];
        int32_t code = self->cl.SetKernelArg(bound->kernel, bound->first + (uint32_t)i, 4, &scalars[i]);
        if (code != 0)
            return refuse(self, "giving a kernel its sizes", code, error);
    }
    bound->is_told = true;
    size_t global[3];
    for (size_t i = 0; i < 3; i++)
        global[i] = grid[i] * bound->local[i];
    int32_t code = self->cl.EnqueueNDRangeKernel(self->queue, bound->kernel, 3, NULL, global, bound->local, 0, NULL,
                                                 NULL);
    return code == 0 || refuse(self, "launching a kernel", code, error);
}

static bool finish(struct ell_device *device, struct ell_error *error)
{
    struct opencl *self = (struct opencl *)device;
    int32_t code = self->cl.Finish(self->queue);
    return code == 0 || refuse(self, "a step", code, error);
}

static void close_device(struct ell_device *device)
{
    struct opencl *self = (struct opencl *)device;
    if (self->queue != NULL)
        self->cl.Finish(self->queue);
    for (size_t i = self->made_count; i > 0; i--) {
        struct made one = self->made[i - 1];
        if (one.kind == BUFFER)
            self->cl.ReleaseMemObject(one.object);
        else if (one.kind == KERNEL)
            self->cl.ReleaseKernel(one.object);
        else
            self->cl.ReleaseProgram(one.object);
    }
    if (self->queue != NULL)
        self->cl.ReleaseCommandQueue(self->queue);
    if (self->context != NULL)
        self->cl.ReleaseContext(self->context);
    /* The library stays: drivers keep threads of their own, which would run into nothing. */
    free(self->made);
    ell_arena_free(&self->arena);
    free(self);
}

/* The functions' finder in drivers whose library does not export them: those of Google's phones. It works once
 * OpenCL has been enabled. NULL: there is none. */
typedef void *find_function(const char *name);

static find_function *own_finder(void *library)
{
    void *enable = dlsym(library, "enableOpenCL"), *find = dlsym(library, "loadOpenCLPointer");
    if (enable == NULL || find == NULL)
        return NULL;
    void (*call)(void);
    find_function *finder;
    memcpy(&call, &enable, sizeof call);
    memcpy(&finder, &find, sizeof finder);
    call();
    return finder;
}

static bool load_library(struct opencl *self, struct ell_error *error)
{
    for (size_t i = 0; i < ELL_COUNT(LIBRARIES) && self->library == NULL; i++)
        self->library = dlopen(LIBRARIES[i], RTLD_NOW | RTLD_LOCAL);
    if (self->library == NULL)
        return ell_fail(error, "this device has no OpenCL: its library libOpenCL.so is not there, or (Android) not "
                               "declared by the app with uses-native-library");
    find_function *finder = own_finder(self->library);
    void *found;
#define LOOK_UP(result, name, parameters)                                                                         \
    found = dlsym(self->library, "cl" #name);                                                                     \
    if (found == NULL && finder != NULL)                                                                          \
        found = finder("cl" #name);                                                                               \
    if (found == NULL)                                                                                            \
        return ell_fail(error, "this device's OpenCL has no cl" #name "; version 1.2 is needed");                 \
    memcpy(&self->cl.name, &found, sizeof found);
    ELL_OPENCL_FUNCTIONS(LOOK_UP)
#undef LOOK_UP
    return true;
}

static uint64_t number_of(struct opencl *self, cl_object id, uint32_t what)
{
    uint64_t value = 0;
    self->cl.GetDeviceInfo(id, what, sizeof value, &value, NULL);
    return value;
}

static bool has_word(const char *words, const char *wanted)
{
    size_t size = strlen(wanted);
    for (const char *at = strstr(words, wanted); at != NULL; at = strstr(at + 1, wanted))
        if ((at == words || at[-1] == ' ') && (at[size] == '\0' || at[size] == ' '))
            return true;
    return false;
}

static void describe(struct opencl *self, cl_object id)
{
    struct ell_device_info *info = &self->device.info;
    size_t size = 0;
    memset(info->name, 0, sizeof info->name);
    self->cl.GetDeviceInfo(id, CL_DEVICE_NAME, sizeof info->name - 1, info->name, NULL);
    char *words = NULL;
    if (self->cl.GetDeviceInfo(id, CL_DEVICE_EXTENSIONS, 0, NULL, &size) == 0 && size > 0)
        words = calloc(size + 1, 1);
    if (words != NULL) {
        self->cl.GetDeviceInfo(id, CL_DEVICE_EXTENSIONS, size, words, NULL);
        info->fp16 = has_word(words, "cl_khr_fp16");
        free(words);
    }
    info->language = "opencl";
    info->memory = number_of(self, id, CL_DEVICE_GLOBAL_MEM_SIZE);
    info->buffer_bytes = number_of(self, id, CL_DEVICE_MAX_MEM_ALLOC_SIZE);
    info->threads = number_of(self, id, CL_DEVICE_MAX_WORK_GROUP_SIZE);
    info->shared_bytes = number_of(self, id, CL_DEVICE_LOCAL_MEM_SIZE);
}

/* Whether a device is the wanted one: by number, by a part of its name, or the first GPU. */
static bool suits(struct opencl *self, cl_object id, unsigned number, const char *wanted)
{
    if (wanted == NULL || *wanted == '\0')
        return (number_of(self, id, CL_DEVICE_TYPE) & CL_DEVICE_TYPE_GPU) != 0;
    char *end;
    unsigned long chosen = strtoul(wanted, &end, 10);
    return *end == '\0' ? chosen == number : strstr(self->device.info.name, wanted) != NULL;
}

static bool choose_device(struct opencl *self, const char *wanted, struct ell_error *error)
{
    cl_object platforms[MAX_PLATFORMS], devices[MAX_DEVICES];
    uint32_t platform_count = 0;
    unsigned number = 0;
    char seen[256] = "";
    if (self->cl.GetPlatformIDs(MAX_PLATFORMS, platforms, &platform_count) != 0)
        platform_count = 0;
    for (uint32_t i = 0; i < platform_count && i < MAX_PLATFORMS; i++) {
        uint32_t count = 0;
        if (self->cl.GetDeviceIDs(platforms[i], CL_DEVICE_TYPE_ALL, MAX_DEVICES, devices, &count) != 0)
            continue;
        for (uint32_t j = 0; j < count && j < MAX_DEVICES; j++, number++) {
            describe(self, devices[j]);
            if (suits(self, devices[j], number, wanted)) {
                self->id = devices[j];
                return true;
            }
            size_t used = strlen(seen);
            snprintf(seen + used, sizeof seen - used, "%s%u: %.100s", number != 0 ? "; " : "", number,
                     self->device.info.name);
        }
    }
    if (wanted != NULL && *wanted != '\0')
        return ell_fail(error, "no OpenCL device is called %.80s; there are %s", wanted, *seen ? seen : "none");
    return ell_fail(error, "OpenCL sees no GPU (%s); name a software device to use it, slowly",
                    *seen ? seen : "nothing at all");
}

struct ell_device *ell_opencl_open(const char *wanted, const char *cache, struct ell_error *error)
{
    struct opencl *self = calloc(1, sizeof *self);
    if (self == NULL) {
        ell_fail_memory(error);
        return NULL;
    }
    self->device.buffer = make_buffer;
    self->device.write = write_buffer;
    self->device.zero = zero_buffer;
    self->device.read = read_buffer;
    self->device.copy = copy_buffer;
    self->device.compile = compile_kernel;
    self->device.prepare = prepare_launch;
    self->device.launch = launch_kernel;
    self->device.finish = finish;
    self->device.close = close_device;
    struct ell_text copy;
    if (cache != NULL && !ell_arena_text(&self->arena, ell_text_of(cache), &copy)) {
        ell_fail_memory(error);
        close_device(&self->device);
        return NULL;
    }
    self->cache = cache != NULL ? copy.data : NULL;
    if (load_library(self, error) && choose_device(self, wanted, error)) {
        int32_t code;
        self->context = self->cl.CreateContext(NULL, 1, &self->id, NULL, NULL, &code);
        if (code == 0)
            self->queue = self->cl.CreateCommandQueue(self->context, self->id, 0, &code);
        if (code == 0)
            return &self->device;
        ell_fail(error, "%s cannot be used (OpenCL error %d); another program may hold it, or its driver needs an "
                        "update",
                 self->device.info.name, code);
    }
    close_device(&self->device);
    return NULL;
}

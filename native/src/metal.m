/* Plans on Metal: iOS 16 or macOS 13 and later, on Apple's own GPUs, whose memory is the processor's too. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#include <TargetConditionals.h>
#if TARGET_OS_IPHONE
#include <os/proc.h>
#endif

#include "metal.h"

/* A command buffer has so many launches: the GPU begins while the rest is still being told, and none of them takes so
 * long that iOS ends it. */
enum { MAX_LAUNCHES = 32, MAX_COMMITTED = 64, MAX_SCALARS = 16 };

struct buffer {
    void *object; /* id<MTLBuffer> */
    uint64_t offset, bytes; /* in the object */
};

/* Bytes that buffers lie in without being copied. */
struct mapping {
    const void *data;
    void *object; /* NULL: Metal does not take them */
};

struct bound {
    void *pipeline; /* id<MTLComputePipelineState> */
    const struct buffer **buffers;
    size_t buffer_count, scalar_count;
    uint32_t threads[3];
};

/* An output that is copied when all that was launched has ended. */
struct reading {
    const struct buffer *buffer;
    void *data;
    size_t bytes;
};

struct metal {
    struct ell_device device;
    char *cache; /* directory of compiled kernels, or NULL */
    void *gpu, *queue; /* id<MTLDevice>, id<MTLCommandQueue> */
    void *commands, *encoder; /* open now: id<MTLCommandBuffer>, id<MTLComputeCommandEncoder> */
    size_t launches; /* in them */
    void *committed[MAX_COMMITTED];
    size_t committed_count;
    struct ell_arena arena;
    void **made; /* what is let go of at the end */
    size_t made_count, made_room;
    struct mapping *mappings;
    size_t mapping_count, mapping_room;
    struct reading *readings;
    size_t reading_count, reading_room;
};

static bool keep(struct metal *self, void *object, struct ell_error *error)
{
    if (!ell_grow(&self->made, &self->made_room, self->made_count + 1, sizeof *self->made)) {
        LET_GO(object);
        return ell_fail_memory(error);
    }
    self->made[self->made_count++] = object;
    return true;
}

/* Hand over what was launched so far. */
static void commit(struct metal *self)
{
    if (self->commands == NULL)
        return;
    [AS(id<MTLComputeCommandEncoder>, self->encoder) endEncoding];
    [AS(id<MTLCommandBuffer>, self->commands) commit];
    LET_GO(self->encoder);
    self->committed[self->committed_count++] = self->commands;
    self->commands = self->encoder = NULL;
    self->launches = 0;
}

static bool refuse(struct metal *self, NSError *problem, struct ell_error *error)
{
    const char *name = self->device.info.name;
    switch ([problem code]) {
    case MTLCommandBufferErrorNotPermitted:
        return ell_fail(error, "%s: the system ended a step, because apps may not compute on the GPU while they are "
                               "in the background; ask again when the app is in front",
                        name);
    case MTLCommandBufferErrorOutOfMemory:
        return ell_fail(error, "%s: a step failed for lack of memory; close other apps, or take a smaller context",
                        name);
    case MTLCommandBufferErrorTimeout:
        return ell_fail(error, "%s: the system ended a step that took too long; close other apps, or take a smaller "
                               "model",
                        name);
    default:
        return ell_fail(error, "%s: a step failed: %.300s", name, ell_metal_reason(problem));
    }
}

/* Wait for all that was launched; the first failure is told. */
static bool settle(struct metal *self, struct ell_error *error)
{
    bool good = true;
    @autoreleasepool {
        commit(self);
        for (size_t i = 0; i < self->committed_count; i++) {
            id<MTLCommandBuffer> commands = AS(id<MTLCommandBuffer>, self->committed[i]);
            [commands waitUntilCompleted];
            if (good && [commands status] != MTLCommandBufferStatusCompleted)
                good = refuse(self, [commands error], error);
            LET_GO(self->committed[i]);
        }
        self->committed_count = 0;
    }
    for (size_t i = 0; i < self->reading_count && good; i++) {
        const struct reading *one = &self->readings[i];
        const char *contents = [AS(id<MTLBuffer>, one->buffer->object) contents];
        memcpy(one->data, contents + one->buffer->offset, one->bytes);
    }
    self->reading_count = 0;
    return good;
}

/* Before the processor touches a buffer: what was launched may still use it. */
static bool idle(struct metal *self, struct ell_error *error)
{
    return (self->commands == NULL && self->committed_count == 0 && self->reading_count == 0) || settle(self, error);
}

static char *contents_of(const struct buffer *buffer)
{
    return (char *)[AS(id<MTLBuffer>, buffer->object) contents] + buffer->offset;
}

static bool inside(const struct buffer *buffer, uint64_t offset, uint64_t bytes, struct ell_error *error)
{
    return (offset <= buffer->bytes && bytes <= buffer->bytes - offset) ||
           ell_fail(error, "bytes %llu to %llu of a buffer that has %llu", (unsigned long long)offset,
                    (unsigned long long)(offset + bytes), (unsigned long long)buffer->bytes);
}

static bool make_buffer(struct ell_device *device, uint64_t bytes, ell_handle *made, struct ell_error *error)
{
    struct metal *self = (struct metal *)device;
    struct buffer *buffer = ell_arena_new(&self->arena, 1, sizeof *buffer);
    if (buffer == NULL)
        return ell_fail_memory(error);
    @autoreleasepool {
        buffer->object = KEEP_NEW([AS(id<MTLDevice>, self->gpu) newBufferWithLength:(NSUInteger)bytes
                                                                            options:MTLResourceStorageModeShared]);
    }
    if (buffer->object == NULL)
        return ell_fail(error, "%s has no memory for it: close other apps, or take a smaller context",
                        device->info.name);
    buffer->bytes = bytes;
    *made = buffer;
    return keep(self, buffer->object, error);
}

/* The object over a whole mapping, made when its first piece is asked for. */
static struct mapping *mapping_of(struct metal *self, const void *data, size_t size)
{
    for (size_t i = 0; i < self->mapping_count; i++)
        if (self->mappings[i].data == data)
            return &self->mappings[i];
    if (!ell_grow(&self->mappings, &self->mapping_room, self->mapping_count + 1, sizeof *self->mappings))
        return NULL;
    struct mapping *mapping = &self->mappings[self->mapping_count++];
    *mapping = (struct mapping){data, NULL};
    /* Whole pages: what follows a file in its last page can be read and is zero. */
    size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (size + page - 1) / page * page;
    if ((uintptr_t)data % page != 0 || whole > self->device.info.buffer_bytes)
        return mapping;
    @autoreleasepool {
        id<MTLBuffer> object = [AS(id<MTLDevice>, self->gpu) newBufferWithBytesNoCopy:(void *)(uintptr_t)data
                                                                               length:(NSUInteger)whole
                                                                              options:MTLResourceStorageModeShared
                                                                          deallocator:NULL];
        mapping->object = KEEP_NEW(object);
    }
    return mapping;
}

static bool adopt_bytes(struct ell_device *device, const void *mapped, size_t size, uint64_t offset, uint64_t bytes,
                        ell_handle *made, struct ell_error *error)
{
    struct metal *self = (struct metal *)device;
    const struct mapping *mapping = mapping_of(self, mapped, size);
    *made = NULL;
    if (mapping == NULL)
        return ell_fail_memory(error);
    if (mapping->object == NULL)
        return true;
    struct buffer *buffer = ell_arena_new(&self->arena, 1, sizeof *buffer);
    if (buffer == NULL)
        return ell_fail_memory(error);
    *buffer = (struct buffer){mapping->object, offset, bytes};
    *made = buffer;
    return true;
}

static bool write_buffer(struct ell_device *device, ell_handle buffer, uint64_t offset, const void *data,
                         size_t bytes, struct ell_error *error)
{
    if (!inside(buffer, offset, bytes, error) || !idle((struct metal *)device, error))
        return false;
    memcpy(contents_of(buffer) + offset, data, bytes);
    return true;
}

static bool zero_buffer(struct ell_device *device, ell_handle buffer, uint64_t bytes, struct ell_error *error)
{
    if (!inside(buffer, 0, bytes, error) || !idle((struct metal *)device, error))
        return false;
    memset(contents_of(buffer), 0, (size_t)bytes);
    return true;
}

static bool copy_buffer(struct ell_device *device, ell_handle buffer, uint64_t source, uint64_t target,
                        uint64_t bytes, struct ell_error *error)
{
    if (!inside(buffer, source, bytes, error) || !inside(buffer, target, bytes, error) ||
        !idle((struct metal *)device, error))
        return false;
    memmove(contents_of(buffer) + target, contents_of(buffer) + source, (size_t)bytes);
    return true;
}

static bool read_buffer(struct ell_device *device, ell_handle buffer, void *data, size_t bytes,
                        struct ell_error *error)
{
    struct metal *self = (struct metal *)device;
    if (!inside(buffer, 0, bytes, error))
        return false;
    if (!ell_grow(&self->readings, &self->reading_room, self->reading_count + 1, sizeof *self->readings))
        return ell_fail_memory(error);
    self->readings[self->reading_count++] = (struct reading){buffer, data, bytes};
    return true;
}

static bool compile_kernel(struct ell_device *device, const struct ell_source *source, ell_handle *kernel,
                           struct ell_error *error)
{
    struct metal *self = (struct metal *)device;
    void *pipeline = NULL;
    @autoreleasepool {
        pipeline = ell_metal_compile(AS(id<MTLDevice>, self->gpu), self->cache, source, error);
    }
    *kernel = pipeline;
    return pipeline != NULL && keep(self, pipeline, error);
}

static bool prepare_launch(struct ell_device *device, const struct ell_launch *launch, ell_handle *made,
                           struct ell_error *error)
{
    struct metal *self = (struct metal *)device;
    struct bound *bound = ell_arena_new(&self->arena, 1, sizeof *bound);
    if (bound == NULL)
        return ell_fail_memory(error);
    bound->buffers = ell_arena_new(&self->arena, launch->buffer_count, sizeof *bound->buffers);
    if (bound->buffers == NULL)
        return ell_fail_memory(error);
    bound->pipeline = launch->kernel;
    for (size_t i = 0; i < launch->buffer_count; i++)
        bound->buffers[i] = launch->buffers[i];
    bound->buffer_count = launch->buffer_count;
    bound->scalar_count = launch->scalar_count;
    for (size_t i = 0; i < 3; i++)
        bound->threads[i] = launch->threads[i];
    *made = bound;
    return true;
}

/* An encoder for the next launch. */
static bool begin(struct metal *self, struct ell_error *error)
{
    if (self->launches == MAX_LAUNCHES)
        commit(self);
    if (self->committed_count == MAX_COMMITTED && !settle(self, error))
        return false;
    self->launches++;
    if (self->commands != NULL)
        return true;
    /* What launches use is kept here until all have ended. */
    id<MTLCommandBuffer> commands =
        [AS(id<MTLCommandQueue>, self->queue) commandBufferWithUnretainedReferences];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder]; /* launches in order */
    if (commands == nil || encoder == nil)
        return ell_fail(error, "%s takes no more commands; close the app and open it again",
                        self->device.info.name);
    self->commands = KEEP(commands);
    self->encoder = KEEP(encoder);
    return true;
}

static bool launch_kernel(struct ell_device *device, ell_handle launch, const int32_t *scalars,
                          const uint32_t grid[3], struct ell_error *error)
{
    struct metal *self = (struct metal *)device;
    const struct bound *bound = launch;
    /* What is read later must not have been written over by then. */
    if (self->reading_count != 0 && !settle(self, error))
        return false;
    @autoreleasepool {
        if (!begin(self, error))
            return false;
        id<MTLComputeCommandEncoder> encoder = AS(id<MTLComputeCommandEncoder>, self->encoder);
        [encoder setComputePipelineState:AS(id<MTLComputePipelineState>, bound->pipeline)];
        for (size_t i = 0; i < bound->buffer_count; i++)
            [encoder setBuffer:AS(id<MTLBuffer>, bound->buffers[i]->object)
                        offset:(NSUInteger)bound->buffers[i]->offset
                       atIndex:i];
        if (bound->scalar_count != 0)
            [encoder setBytes:scalars length:bound->scalar_count * sizeof *scalars atIndex:bound->buffer_count];
        [encoder dispatchThreadgroups:MTLSizeMake(grid[0], grid[1], grid[2])
                threadsPerThreadgroup:MTLSizeMake(bound->threads[0], bound->threads[1], bound->threads[2])];
    }
    return true;
}

static bool finish(struct ell_device *device, struct ell_error *error)
{
    return settle((struct metal *)device, error);
}

static void close_device(struct ell_device *device)
{
    struct metal *self = (struct metal *)device;
    struct ell_error ignored;
    self->reading_count = 0;
    settle(self, &ignored);
    @autoreleasepool {
        while (self->made_count > 0)
            LET_GO(self->made[--self->made_count]);
        for (size_t i = 0; i < self->mapping_count; i++)
            LET_GO(self->mappings[i].object);
        LET_GO(self->queue);
        LET_GO(self->gpu);
    }
    free(self->made);
    free(self->mappings);
    free(self->readings);
    free(self->cache);
    ell_arena_free(&self->arena);
    free(self);
}

static void describe(struct metal *self, id<MTLDevice> gpu)
{
    struct ell_device_info *info = &self->device.info;
    const char *name = [[gpu name] UTF8String];
    snprintf(info->name, sizeof info->name, "%s", name != NULL ? name : "the GPU");
    info->language = "metal";
    info->fp16 = true;
    info->memory = [gpu recommendedMaxWorkingSetSize];
    uint64_t taken = [gpu currentAllocatedSize];
    info->memory = info->memory > taken ? info->memory - taken : 1;
#if TARGET_OS_IPHONE
    /* Above this the system ends the app. Mapped weights do not count there; that is left as a margin. */
    uint64_t left = os_proc_available_memory();
    if (left != 0 && left < info->memory)
        info->memory = left;
#endif
    info->buffer_bytes = [gpu maxBufferLength];
    info->threads = [gpu maxThreadsPerThreadgroup].width;
    info->shared_bytes = [gpu maxThreadgroupMemoryLength];
}

static bool open_device(struct metal *self, const char *wanted, struct ell_error *error)
{
    id<MTLDevice> gpu = MTLCreateSystemDefaultDevice();
    self->gpu = KEEP_NEW(gpu);
    if (gpu == nil)
        return ell_fail(error, "this device has no GPU that Metal can use");
    describe(self, gpu);
    if (wanted != NULL && *wanted != '\0' && strcmp(wanted, "0") != 0 &&
        strstr(self->device.info.name, wanted) == NULL)
        return ell_fail(error, "no Metal device is called %.80s; there is 0: %s", wanted, self->device.info.name);
    self->queue = KEEP_NEW([gpu newCommandQueue]);
    return self->queue != NULL || ell_fail(error, "%s cannot be used; another program may hold it",
                                           self->device.info.name);
}

struct ell_device *ell_metal_open(const char *wanted, const char *cache, struct ell_error *error)
{
    struct metal *self = calloc(1, sizeof *self);
    if (self == NULL) {
        ell_fail_memory(error);
        return NULL;
    }
    self->device.buffer = make_buffer;
    self->device.adopt = adopt_bytes;
    self->device.write = write_buffer;
    self->device.zero = zero_buffer;
    self->device.read = read_buffer;
    self->device.copy = copy_buffer;
    self->device.compile = compile_kernel;
    self->device.prepare = prepare_launch;
    self->device.launch = launch_kernel;
    self->device.finish = finish;
    self->device.close = close_device;
    bool good = true;
    if (cache != NULL) {
        self->cache = malloc(strlen(cache) + 1);
        good = self->cache != NULL || ell_fail_memory(error);
        if (good)
            memcpy(self->cache, cache, strlen(cache) + 1);
    }
    @autoreleasepool {
        good = good && open_device(self, wanted, error);
    }
    if (good)
        return &self->device;
    close_device(&self->device);
    return NULL;
}

/* A device without arithmetic. It keeps one number that depends on all that it was told, in order, and gives
 * outputs made from it: hosts that do the same see the same outputs, on every processor. */
#include <stdlib.h>
#include <string.h>

#include "device.h"

struct recording {
    struct ell_device device;
    struct ell_arena arena;
    uint64_t state;
    uint64_t next; /* number of the next thing that is made */
};

struct made {
    uint64_t number;
    uint64_t bytes; /* of a buffer */
    size_t scalar_count; /* of a launch */
};

static void note(struct recording *self, char what, const void *data, size_t size)
{
    uint64_t both[2] = {self->state ^ (uint64_t)what, ell_hash(data, size)};
    uint8_t bytes[16];
    /* Byte by byte, so that the order of a processor's bytes does not count. */
    for (size_t i = 0; i < 16; i++)
        bytes[i] = (uint8_t)(both[i / 8] >> (8 * (i % 8)));
    self->state = ell_hash(bytes, sizeof bytes);
}

static void note_number(struct recording *self, char what, uint64_t number)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(number >> (8 * i));
    note(self, what, bytes, sizeof bytes);
}

static struct made *make(struct recording *self, char what, ell_handle *handle, struct ell_error *error)
{
    struct made *made = ell_arena_new(&self->arena, 1, sizeof *made);
    if (made == NULL) {
        ell_fail_memory(error);
        return NULL;
    }
    made->number = self->next++;
    note_number(self, what, made->number);
    *handle = made;
    return made;
}

static uint64_t number_of(ell_handle handle)
{
    return ((const struct made *)handle)->number;
}

static bool make_buffer(struct ell_device *device, uint64_t bytes, ell_handle *handle, struct ell_error *error)
{
    struct recording *self = (struct recording *)device;
    struct made *made = make(self, 'b', handle, error);
    if (made != NULL)
        made->bytes = bytes;
    note_number(self, 's', bytes);
    return made != NULL;
}

static bool inside(ell_handle buffer, uint64_t offset, uint64_t bytes, struct ell_error *error)
{
    const struct made *made = buffer;
    if (offset <= made->bytes && bytes <= made->bytes - offset)
        return true;
    return ell_fail(error, "bytes %llu to %llu of a buffer that has %llu", (unsigned long long)offset,
                    (unsigned long long)(offset + bytes), (unsigned long long)made->bytes);
}

static bool write_buffer(struct ell_device *device, ell_handle buffer, uint64_t offset, const void *data,
                         size_t bytes, struct ell_error *error)
{
    struct recording *self = (struct recording *)device;
    note_number(self, 'w', number_of(buffer));
    note_number(self, 'o', offset);
    note(self, 'd', data, bytes);
    return inside(buffer, offset, bytes, error);
}

static bool zero_buffer(struct ell_device *device, ell_handle buffer, uint64_t bytes, struct ell_error *error)
{
    note_number((struct recording *)device, 'z', number_of(buffer));
    return inside(buffer, 0, bytes, error);
}

static bool read_buffer(struct ell_device *device, ell_handle buffer, void *data, size_t bytes,
                        struct ell_error *error)
{
    struct recording *self = (struct recording *)device;
    note_number(self, 'r', number_of(buffer));
    note_number(self, 's', bytes);
    uint64_t random = self->state;
    for (size_t at = 0; at + 4 <= bytes; at += 4) {
        /* Steele et al., "Fast splittable pseudorandom number generators" (SplitMix64). */
        uint64_t mixed = random += 0x9e3779b97f4a7c15u;
        mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
        mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
        float value = (float)((double)(mixed >> 40) / (1 << 20) - 8); /* -8 up to 8, in steps of 2^-20 */
        memcpy((char *)data + at, &value, 4);
    }
    return inside(buffer, 0, bytes, error);
}

static bool copy_buffer(struct ell_device *device, ell_handle buffer, uint64_t source, uint64_t target,
                        uint64_t bytes, struct ell_error *error)
{
    struct recording *self = (struct recording *)device;
    note_number(self, 'c', number_of(buffer));
    note_number(self, 'f', source);
    note_number(self, 't', target);
    if ((source < target ? target - source : source - target) < bytes)
        return ell_fail(error, "a copy of %llu bytes to where a part of them lies", (unsigned long long)bytes);
    return inside(buffer, source, bytes, error) && inside(buffer, target, bytes, error);
}

static bool compile_kernel(struct ell_device *device, const struct ell_source *source, ell_handle *kernel,
                           struct ell_error *error)
{
    struct recording *self = (struct recording *)device;
    note(self, 'k', source->text.data, source->text.size);
    note(self, 'e', source->entry, strlen(source->entry));
    return make(self, 'k', kernel, error) != NULL;
}

static bool prepare_launch(struct ell_device *device, const struct ell_launch *launch, ell_handle *handle,
                           struct ell_error *error)
{
    struct recording *self = (struct recording *)device;
    struct made *made = make(self, 'p', handle, error);
    if (made == NULL)
        return false;
    made->scalar_count = launch->scalar_count;
    note_number(self, 'k', number_of(launch->kernel));
    for (size_t i = 0; i < launch->buffer_count; i++)
        note_number(self, 'a', number_of(launch->buffers[i]));
    for (size_t i = 0; i < 3; i++)
        note_number(self, 'x', launch->threads[i]);
    return true;
}

static bool launch_kernel(struct ell_device *device, ell_handle launch, const int32_t *scalars,
                          const uint32_t grid[3], struct ell_error *error)
{
    struct recording *self = (struct recording *)device;
    const struct made *made = launch;
    (void)error;
    note_number(self, 'l', made->number);
    for (size_t i = 0; i < made->scalar_count; i++)
        note_number(self, 'n', (uint32_t)scalars[i]);
    for (size_t i = 0; i < 3; i++)
        note_number(self, 'g', grid[i]);
    return true;
}

static bool finish(struct ell_device *device, struct ell_error *error)
{
    (void)error;
    note((struct recording *)device, 'f', "", 0);
    return true;
}

static void close_device(struct ell_device *device)
{
    struct recording *self = (struct recording *)device;
    ell_arena_free(&self->arena);
    free(self);
}

uint64_t ell_recording_state(const struct ell_device *device)
{
    return ((const struct recording *)device)->state;
}

struct ell_device *ell_recording_open(const char *language, struct ell_error *error)
{
    struct recording *self = calloc(1, sizeof *self);
    if (self == NULL) {
        ell_fail_memory(error);
        return NULL;
    }
    const uint64_t all = UINT64_C(1) << 40;
    self->device = (struct ell_device){
        .info = {"recording", language, true, true, all, all, 1 << 20, 1 << 20},
        .buffer = make_buffer, .write = write_buffer, .zero = zero_buffer, .read = read_buffer,
        .copy = copy_buffer, .compile = compile_kernel, .prepare = prepare_launch, .launch = launch_kernel,
        .finish = finish, .close = close_device};
    return &self->device;
}

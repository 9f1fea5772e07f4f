/* What a device is to the host of a plan: buffers, kernels and launches in order. OpenCL is one; Metal, and a
 * device that only records, are others. A device is used by one thread at a time. */
#ifndef ELL_DEVICE_H
#define ELL_DEVICE_H

#include "base.h"

struct ell_device_info {
    char name[128];
    const char *language; /* of plans that it runs: "opencl", "metal" */
    bool fp16;
    bool only_floats; /* outputs of whole numbers mean nothing: take what is wanted from the logits */
    uint64_t memory; /* bytes for all buffers, 0 if unknown */
    uint64_t buffer_bytes; /* of one buffer */
    uint64_t threads; /* of a workgroup */
    uint64_t shared_bytes; /* of a workgroup */
};

/* What a buffer, a kernel and a launch are to the device that made them. */
typedef void *ell_handle;

struct ell_source {
    const char *kernel; /* the plan's name of it, for messages */
    const char *entry;
    struct ell_text text;
    size_t threads; /* of its workgroups */
};

struct ell_launch {
    ell_handle kernel;
    const ell_handle *buffers;
    size_t buffer_count, scalar_count;
    const uint8_t *access; /* enum ell_access of each buffer */
    uint32_t threads[3];
};

struct ell_device {
    struct ell_device_info info;
    /* A buffer; what is in it at first is not known. */
    bool (*buffer)(struct ell_device *, uint64_t bytes, ell_handle *made, struct ell_error *);
    /* A buffer that is `bytes` of a mapped file (`mapped`, of `size` bytes) from `offset` on, where they are: only
     * launches read it, and the mapping must last as long as the device. `made` is NULL where the device needs a copy
     * of its own; so does one whose `adopt` is NULL. */
    bool (*adopt)(struct ell_device *, const void *mapped, size_t size, uint64_t offset, uint64_t bytes,
                  ell_handle *made, struct ell_error *);
    /* Fill, read or copy parts. Reads are finished only after `finish`; all else may be forgotten at once. */
    bool (*write)(struct ell_device *, ell_handle, uint64_t offset, const void *data, size_t bytes,
                  struct ell_error *);
    bool (*zero)(struct ell_device *, ell_handle, uint64_t bytes, struct ell_error *);
    bool (*read)(struct ell_device *, ell_handle, void *data, size_t bytes, struct ell_error *);
    bool (*copy)(struct ell_device *, ell_handle, uint64_t source, uint64_t target, uint64_t bytes,
                 struct ell_error *);
    bool (*compile)(struct ell_device *, const struct ell_source *, ell_handle *kernel, struct ell_error *);
    /* Bind a kernel to its buffers, for as many launches as there will be. */
    bool (*prepare)(struct ell_device *, const struct ell_launch *, ell_handle *launch, struct ell_error *);
    bool (*launch)(struct ell_device *, ell_handle launch, const int32_t *scalars, const uint32_t grid[3],
                   struct ell_error *);
    bool (*finish)(struct ell_device *, struct ell_error *);
    /* Frees the device with all that it made. */
    void (*close)(struct ell_device *);
};

/* An OpenCL device: the one whose number or part of whose name is `wanted`, or NULL for the first GPU. Software
 * devices must be asked for. */
struct ell_device *ell_opencl_open(const char *wanted, const char *cache, struct ell_error *error);

/* A Metal device: the system's own; `wanted`, if it is given, is 0 or a part of its name. `cache`: directory where
 * compiled kernels are kept, or NULL. */
struct ell_device *ell_metal_open(const char *wanted, const char *cache, struct ell_error *error);

/* The device of this platform: Metal where the core was built with ELL_METAL (Apple systems), else OpenCL. */
struct ell_device *ell_device_open(const char *wanted, const char *cache, struct ell_error *error);

/* A device without arithmetic: outputs are numbers made from a hash of all that was done, so two hosts that do
 * the same get the same. `language`: of the plans that it takes. */
struct ell_device *ell_recording_open(const char *language, struct ell_error *error);
/* The hash so far. */
uint64_t ell_recording_state(const struct ell_device *device);

#endif

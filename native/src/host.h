/* A plan on a device: buffers allocated, kernels compiled, weights handed over. */
#ifndef ELL_HOST_H
#define ELL_HOST_H

#include "device.h"
#include "plan.h"
#include "weights.h"

struct ell_host {
    const struct ell_plan *plan;
    struct ell_device *device;
    struct ell_arena arena;
    int64_t sizes[ELL_MAX_SIZES]; /* largest, as the host has chosen them */
    ell_handle *buffers; /* by the plan's places */
    ell_handle **launches; /* of each routine */
    bool adopted; /* the device uses weights where they are mapped */
};

/* Whether the device can hold the plan's buffers and run its kernels where size i is at most `sizes[i]`. */
bool ell_host_suits(const struct ell_plan *plan, const struct ell_device_info *info, const int64_t *sizes,
                    struct ell_error *error);

/* Bytes to allocate for a buffer: a whole number of times 16. */
int64_t ell_host_allocated(const struct ell_plan_buffer *buffer, const int64_t *sizes);

/* Set `host` up. `folder` has the kernels' texts; `sizes` are the largest values, none of them 0. Plan and device
 * must outlive the host, and stay the caller's. */
bool ell_host_open(struct ell_host *host, const struct ell_plan *plan, struct ell_device *device,
                   const struct ell_weights *weights, const char *folder, const int64_t *sizes,
                   struct ell_error *error);
/* Frees what is not the device's. */
void ell_host_close(struct ell_host *host);

/* Fill the beginning of an input or a table. */
bool ell_host_write(struct ell_host *host, uint32_t buffer, const void *data, size_t bytes,
                    struct ell_error *error);
/* Queue a step: the routine that holds `sizes[n]` tokens. */
bool ell_host_run(struct ell_host *host, const int64_t *sizes, struct ell_error *error);
/* Queue the reading of an output's beginning; it is there after `ell_host_finish`. */
bool ell_host_read(struct ell_host *host, uint32_t buffer, void *data, size_t bytes, struct ell_error *error);
bool ell_host_finish(struct ell_host *host, struct ell_error *error);

/* Compute and write the tables of rotary angles for positions up to size `context`. */
bool ell_host_fill_rotary(struct ell_host *host, struct ell_error *error);

#endif

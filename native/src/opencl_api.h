/* The part of OpenCL 1.2's interface that is used (Khronos, OpenCL 1.2 specification), so that no header and no
 * library of it is needed where this is compiled. */
#ifndef ELL_OPENCL_API_H
#define ELL_OPENCL_API_H

#include <stddef.h>
#include <stdint.h>

typedef struct cl_object_ *cl_object; /* platforms, devices, contexts, queues, buffers, programs, kernels */

enum {
    CL_DEVICE_NOT_FOUND = -1,
    CL_DEVICE_TYPE_CPU = 1 << 1,
    CL_DEVICE_TYPE_GPU = 1 << 2,
    CL_MEM_READ_WRITE = 1 << 0,
    CL_DEVICE_TYPE = 0x1000,
    CL_DEVICE_MAX_WORK_GROUP_SIZE = 0x1004,
    CL_DEVICE_MAX_MEM_ALLOC_SIZE = 0x1010,
    CL_DEVICE_GLOBAL_MEM_SIZE = 0x101F,
    CL_DEVICE_LOCAL_MEM_SIZE = 0x1023,
    CL_DEVICE_NAME = 0x102B,
    CL_DEVICE_VENDOR = 0x102C,
    CL_DRIVER_VERSION = 0x102D,
    CL_DEVICE_VERSION = 0x102F,
    CL_DEVICE_EXTENSIONS = 0x1030,
    CL_PROGRAM_BINARY_SIZES = 0x1165,
    CL_PROGRAM_BINARIES = 0x1166,
    CL_PROGRAM_BUILD_LOG = 0x1183,
};

#define CL_DEVICE_TYPE_ALL 0xFFFFFFFFu

/* Every function that is looked up: its result, its name without cl, its parameters. */
#define ELL_OPENCL_FUNCTIONS(F)                                                                                   \
    F(int32_t, GetPlatformIDs, (uint32_t, cl_object *, uint32_t *))                                               \
    F(int32_t, GetDeviceIDs, (cl_object, uint64_t, uint32_t, cl_object *, uint32_t *))                            \
    F(int32_t, GetDeviceInfo, (cl_object, uint32_t, size_t, void *, size_t *))                                    \
    F(cl_object, CreateContext, (const intptr_t *, uint32_t, const cl_object *, void *, void *, int32_t *))       \
    F(cl_object, CreateCommandQueue, (cl_object, cl_object, uint64_t, int32_t *))                                 \
    F(cl_object, CreateBuffer, (cl_object, uint64_t, size_t, void *, int32_t *))                                  \
    F(cl_object, CreateProgramWithSource, (cl_object, uint32_t, const char **, const size_t *, int32_t *))        \
    F(cl_object, CreateProgramWithBinary, (cl_object, uint32_t, const cl_object *, const size_t *,                \
                                           const unsigned char **, int32_t *, int32_t *))                         \
    F(int32_t, GetProgramInfo, (cl_object, uint32_t, size_t, void *, size_t *))                                   \
    F(int32_t, BuildProgram, (cl_object, uint32_t, const cl_object *, const char *, void *, void *))              \
    F(int32_t, GetProgramBuildInfo, (cl_object, cl_object, uint32_t, size_t, void *, size_t *))                   \
    F(cl_object, CreateKernel, (cl_object, const char *, int32_t *))                                              \
    F(int32_t, SetKernelArg, (cl_object, uint32_t, size_t, const void *))                                         \
    F(int32_t, EnqueueNDRangeKernel, (cl_object, cl_object, uint32_t, const size_t *, const size_t *,             \
                                      const size_t *, uint32_t, const cl_object *, cl_object *))                  \
    F(int32_t, EnqueueWriteBuffer, (cl_object, cl_object, uint32_t, size_t, size_t, const void *, uint32_t,       \
                                    const cl_object *, cl_object *))                                              \
    F(int32_t, EnqueueReadBuffer, (cl_object, cl_object, uint32_t, size_t, size_t, void *, uint32_t,              \
                                   const cl_object *, cl_object *))                                               \
    F(int32_t, EnqueueCopyBuffer, (cl_object, cl_object, cl_object, size_t, size_t, size_t, uint32_t,             \
                                   const cl_object *, cl_object *))                                               \
    F(int32_t, EnqueueFillBuffer, (cl_object, cl_object, const void *, size_t, size_t, size_t, uint32_t,          \
                                   const cl_object *, cl_object *))                                               \
    F(int32_t, Flush, (cl_object))                                                                                \
    F(int32_t, Finish, (cl_object))                                                                               \
    F(int32_t, ReleaseContext, (cl_object))                                                                       \
    F(int32_t, ReleaseCommandQueue, (cl_object))                                                                  \
    F(int32_t, ReleaseMemObject, (cl_object))                                                                     \
    F(int32_t, ReleaseProgram, (cl_object))                                                                       \
    F(int32_t, ReleaseKernel, (cl_object))

#endif

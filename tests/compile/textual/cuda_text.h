// CUDA C on the processor: what edgellm's own device.h says of it, over a thread's place in run.h.
//
// To be included within a namespace, after run.h.

#define __nvvm_read_ptx_sreg_ctaid_x() here().block[0]
#define __nvvm_read_ptx_sreg_ctaid_y() here().block[1]
#define __nvvm_read_ptx_sreg_ctaid_z() here().block[2]
#define __nvvm_read_ptx_sreg_tid_x() here().thread[0]
#define __nvvm_read_ptx_sreg_tid_y() here().thread[1]
#define __nvvm_read_ptx_sreg_tid_z() here().thread[2]
#define __nvvm_ex2_approx_f __builtin_exp2f
#define __nvvm_lg2_approx_f __builtin_log2f
#define __syncthreads() run_others()

#include "device.h"

#undef __global__
#undef __shared__
#define __global__
#define __shared__ static
#define alignas(n) __attribute__((aligned(n)))

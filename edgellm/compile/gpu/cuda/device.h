// What kernels' texts use of CUDA C, for a C++ compiler that has none of NVIDIA's headers (see ptx.py).
//
// Registers and instructions are those of NVIDIA's PTX ISA reference. Division and square root are rounded as
// IEEE 754 says; ex2.approx and lg2.approx are good to about 2^-22.
#pragma once

#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __shared__ __attribute__((shared))
#define __launch_bounds__(n) __attribute__((launch_bounds(n)))
#define __align__(n) __attribute__((aligned(n)))
#define __forceinline__ inline __attribute__((always_inline))
#define FUNCTION static __device__ __forceinline__

typedef unsigned int uint;
typedef _Float16 half;

struct Index {
  uint x, y, z;
};
FUNCTION Index block_index() {
  return {(uint)__nvvm_read_ptx_sreg_ctaid_x(), (uint)__nvvm_read_ptx_sreg_ctaid_y(),
          (uint)__nvvm_read_ptx_sreg_ctaid_z()};
}
FUNCTION Index thread_index() {
  return {(uint)__nvvm_read_ptx_sreg_tid_x(), (uint)__nvvm_read_ptx_sreg_tid_y(),
          (uint)__nvvm_read_ptx_sreg_tid_z()};
}
#define blockIdx block_index()
#define threadIdx thread_index()

#define VECTORS(T) \
  struct __align__(2 * sizeof(T)) T##2 { T x, y; }; \
  struct __align__(4 * sizeof(T)) T##4 { T x, y, z, w; }; \
  FUNCTION T##2 make_##T##2(T x, T y) { return {x, y}; } \
  FUNCTION T##4 make_##T##4(T x, T y, T z, T w) { return {x, y, z, w}; }
VECTORS(float)
VECTORS(int)
VECTORS(uint)
#undef VECTORS

FUNCTION half __float2half_rn(float x) { return (half)x; }

FUNCTION int min(int a, int b) { return b < a ? b : a; }
FUNCTION int max(int a, int b) { return a < b ? b : a; }
FUNCTION float min(float a, float b) { return __builtin_fminf(a, b); }
FUNCTION float max(float a, float b) { return __builtin_fmaxf(a, b); }
FUNCTION float fabsf(float x) { return __builtin_fabsf(x); }
FUNCTION float sqrtf(float x) { return __builtin_sqrtf(x); }

// e^x = 2^n e^r with n whole and |r| <= ln(2) / 2; ln(2) is taken off in two parts, which keeps r exact to its last
// bits where x is large.
FUNCTION float expf(float x) {
  float n = __builtin_rintf(x * 1.44269504f);
  float r = __builtin_fmaf(n, -1.42860677e-6f, __builtin_fmaf(n, -0.693145752f, x));
  return __nvvm_ex2_approx_f(n) * __nvvm_ex2_approx_f(r * 1.44269504f);
}
FUNCTION float logf(float x) { return __nvvm_lg2_approx_f(x) * 0.693147181f; }

// What generated kernels use of OpenCL C, for a C++ compiler; see metal_stdlib.
//
// `select` takes an int beside 32-bit numbers only, as in OpenCL, where half needs a short.
#pragma once

#include "run.h"

#define __kernel extern "C"
#define __global
#define __local static
#define restrict __restrict
#define cl_khr_fp16
#define reqd_work_group_size(x, y, z) annotate("")
enum { CLK_LOCAL_MEM_FENCE = 1, CLK_GLOBAL_MEM_FENCE = 2 };

inline void barrier(int) { run_others(); }
inline size_t get_group_id(uint i) { return here().block[i]; }
inline size_t get_local_id(uint i) { return here().thread[i]; }

template <typename T> inline int convert_int(T x) { return (int)x; }
template <typename T> inline uint convert_uint(T x) { return (uint)x; }
template <typename T> inline float convert_float(T x) { return (float)x; }
template <typename T> inline half convert_half(T x) { return (half)x; }
template <typename T> inline float as_float(T x) { return __builtin_bit_cast(float, x); }
template <typename T> inline int as_int(T x) { return __builtin_bit_cast(int, x); }
template <typename T> inline uint as_uint(T x) { return __builtin_bit_cast(uint, x); }

#define SELECT(T) inline T select(T if_false, T if_true, int which) { return which ? if_true : if_false; }
SELECT(int)
SELECT(uint)
SELECT(float)
#undef SELECT

#define FUNCTIONS(T) \
  inline T min(T a, T b) { return b < a ? b : a; } \
  inline T max(T a, T b) { return a < b ? b : a; }
FUNCTIONS(int)
FUNCTIONS(uint)
FUNCTIONS(float)
FUNCTIONS(half)
#undef FUNCTIONS

#define FUNCTIONS(T) \
  inline T fmin(T a, T b) { return b < a ? b : a; } \
  inline T fmax(T a, T b) { return a < b ? b : a; } \
  inline T fma(T a, T b, T c) { return (T)__builtin_fma((double)a, (double)b, (double)c); } \
  inline T pow(T a, T b) { return (T)__builtin_pow((double)a, (double)b); } \
  inline T fabs(T x) { return x < (T)0 ? -x : x; } \
  inline T sqrt(T x) { return (T)__builtin_sqrt((double)x); } \
  inline T exp(T x) { return (T)__builtin_exp((double)x); } \
  inline T exp2(T x) { return (T)__builtin_exp2((double)x); } \
  inline T log(T x) { return (T)__builtin_log((double)x); } \
  inline T tanh(T x) { return (T)__builtin_tanh((double)x); } \
  inline T floor(T x) { return (T)__builtin_floor((double)x); }
FUNCTIONS(float)
FUNCTIONS(half)
#undef FUNCTIONS

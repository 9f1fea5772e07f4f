#include <metal_stdlib>
using namespace metal;

struct digits_kernel_args_t {
  int a;
  int b;
  int c;
  int m;
  int n;
};

kernel void digits_kernel(
  device float* b0_y_ptr [[ buffer(0) ]],
  constant digits_kernel_args_t& arg [[ buffer(1) ]],
  uint blockIdx [[threadgroup_position_in_grid]],
  uint threadIdx [[thread_position_in_threadgroup]]
) {
  b0_y_ptr[((int)blockIdx)] = ((float)((((((((arg.n * 10) + arg.c) * 10) + arg.a) * 10) + arg.m) * 10) + arg.b));
}

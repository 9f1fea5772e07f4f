#include <metal_stdlib>
using namespace metal;

struct squares_kernel_args_t {
  int n;
};

kernel void squares_kernel(
  device const float* b0_x_ptr [[ buffer(0) ]],
  device float* b1_y_ptr [[ buffer(1) ]],
  constant squares_kernel_args_t& arg [[ buffer(2) ]],
  uint blockIdx [[threadgroup_position_in_grid]],
  uint threadIdx [[thread_position_in_threadgroup]]
) {
  int v = ((((int)blockIdx) * 64) + ((int)threadIdx));
  if (v < (arg.n * 200)) {
    b1_y_ptr[v] = (b0_x_ptr[v] * b0_x_ptr[v]);
  }
}

#include <metal_stdlib>
using namespace metal;

kernel void add2_kernel(
  device const float* b0_x_ptr [[ buffer(0) ]],
  device float* b1_y_ptr [[ buffer(1) ]],
  uint blockIdx [[threadgroup_position_in_grid]],
  uint threadIdx [[thread_position_in_threadgroup]]
) {
  b1_y_ptr[((int)blockIdx)] = (b0_x_ptr[((int)blockIdx)] + 2.000000e+00f);
}

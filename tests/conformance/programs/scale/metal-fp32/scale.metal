#include <metal_stdlib>
using namespace metal;

kernel void scale_kernel(
  device const float* b0_x_ptr [[ buffer(0) ]],
  device const float* b1_w_ptr [[ buffer(1) ]],
  device float* b2_y_ptr [[ buffer(2) ]],
  uint2 blockIdx [[threadgroup_position_in_grid]],
  uint2 threadIdx [[thread_position_in_threadgroup]]
) {
  int v = ((((int)blockIdx.x) * 32) + ((int)threadIdx.x));
  if (v < 48) {
    int v_1 = ((((int)blockIdx.y) * 48) + v);
    b2_y_ptr[v_1] = ((b0_x_ptr[v_1] * b1_w_ptr[v]) + 1.23456791e-01f);
  }
}

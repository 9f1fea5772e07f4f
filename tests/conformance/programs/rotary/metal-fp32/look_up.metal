#include <metal_stdlib>
using namespace metal;

kernel void look_up_kernel(
  device const float* b0_angles_ptr [[ buffer(0) ]],
  device const int* b1_positions_ptr [[ buffer(1) ]],
  device float* b2_y_ptr [[ buffer(2) ]],
  uint blockIdx [[threadgroup_position_in_grid]],
  uint threadIdx [[thread_position_in_threadgroup]]
) {
  b2_y_ptr[((((int)blockIdx) * 8) + ((int)threadIdx))] = b0_angles_ptr[((b1_positions_ptr[((int)blockIdx)] * 8) + ((int)threadIdx))];
}

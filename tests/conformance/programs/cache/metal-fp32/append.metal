#include <metal_stdlib>
using namespace metal;

kernel void append_kernel(
  device const float* b0_x_ptr [[ buffer(0) ]],
  device const int* b1_places_ptr [[ buffer(1) ]],
  device float* b2_kept_ptr [[ buffer(2) ]],
  uint blockIdx [[threadgroup_position_in_grid]],
  uint threadIdx [[thread_position_in_threadgroup]]
) {
  b2_kept_ptr[((b1_places_ptr[((int)blockIdx)] * 8) + ((int)threadIdx))] = b0_x_ptr[((((int)blockIdx) * 8) + ((int)threadIdx))];
}

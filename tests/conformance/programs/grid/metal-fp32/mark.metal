#include <metal_stdlib>
using namespace metal;

kernel void mark_kernel(
  device float* b0_y_ptr [[ buffer(0) ]],
  uint2 blockIdx [[threadgroup_position_in_grid]],
  uint2 threadIdx [[thread_position_in_threadgroup]]
) {
  b0_y_ptr[((((int)blockIdx.y) * 1040) + ((int)blockIdx.x))] = ((float)(((int)blockIdx.x) + (10000 * ((int)blockIdx.y))));
}

#include <metal_stdlib>
using namespace metal;

kernel void total_kernel(
  device const float* b0_x_ptr [[ buffer(0) ]],
  device float* b1_y_ptr [[ buffer(1) ]],
  uint blockIdx [[threadgroup_position_in_grid]],
  uint threadIdx [[thread_position_in_threadgroup]]
) {
  thread float v[1];
  threadgroup float v_1[64];
  v[0] = 0.000000e+00f;
  for (int v_2 = 0; v_2 < 17; ++v_2) {
    int v_3 = ((v_2 * 64) + ((int)threadIdx));
    if (v_3 < 1040) {
      v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 1040) + v_3)] - (((float)((int)blockIdx)) * 1.000000e+04f)));
    }
  }
  v_1[((int)threadIdx)] = v[0];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (((int)threadIdx) < 32) {
    v_1[((int)threadIdx)] = (v_1[((int)threadIdx)] + v_1[(((int)threadIdx) + 32)]);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (((int)threadIdx) < 16) {
    v_1[((int)threadIdx)] = (v_1[((int)threadIdx)] + v_1[(((int)threadIdx) + 16)]);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (((int)threadIdx) < 8) {
    v_1[((int)threadIdx)] = (v_1[((int)threadIdx)] + v_1[(((int)threadIdx) + 8)]);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (((int)threadIdx) < 4) {
    v_1[((int)threadIdx)] = (v_1[((int)threadIdx)] + v_1[(((int)threadIdx) + 4)]);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (((int)threadIdx) < 2) {
    v_1[((int)threadIdx)] = (v_1[((int)threadIdx)] + v_1[(((int)threadIdx) + 2)]);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (((int)threadIdx) < 1) {
    v_1[0] = (v_1[0] + v_1[1]);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (((int)threadIdx) < 1) {
    b1_y_ptr[((int)blockIdx)] = (v_1[0] + ((float)((int)blockIdx)));
  }
}

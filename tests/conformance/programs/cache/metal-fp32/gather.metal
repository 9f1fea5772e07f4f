#include <metal_stdlib>
using namespace metal;

struct gather_kernel_args_t {
  int m;
};

kernel void gather_kernel(
  device const float* b0_kept_ptr [[ buffer(0) ]],
  device const int* b1_tables_ptr [[ buffer(1) ]],
  device float* b2_y_ptr [[ buffer(2) ]],
  constant gather_kernel_args_t& arg [[ buffer(3) ]],
  uint blockIdx [[threadgroup_position_in_grid]],
  uint threadIdx [[thread_position_in_threadgroup]]
) {
  thread float v[1];
  v[0] = 0.000000e+00f;
  for (int v_1 = 0; v_1 < arg.m; ++v_1) {
    v[0] = (v[0] + b0_kept_ptr[((b1_tables_ptr[((((int)blockIdx) * arg.m) + v_1)] * 8) + ((int)threadIdx))]);
  }
  b2_y_ptr[((((int)blockIdx) * 8) + ((int)threadIdx))] = v[0];
}

#include <metal_stdlib>
using namespace metal;

struct half_sum_kernel_args_t {
  int n;
};

kernel void half_sum_kernel(
  device const half* b0_x_ptr [[ buffer(0) ]],
  device const half* b1_w_ptr [[ buffer(1) ]],
  device half* b2_kept_ptr [[ buffer(2) ]],
  device float* b3_y_ptr [[ buffer(3) ]],
  constant half_sum_kernel_args_t& arg [[ buffer(4) ]],
  uint blockIdx [[threadgroup_position_in_grid]],
  uint threadIdx [[thread_position_in_threadgroup]]
) {
  for (int v = 0; v < arg.n; ++v) {
    b2_kept_ptr[((int)threadIdx)] = (b2_kept_ptr[((int)threadIdx)] + (b0_x_ptr[((v * 32) + ((int)threadIdx))] * b1_w_ptr[((int)threadIdx)]));
  }
  b3_y_ptr[((int)threadIdx)] = ((float)b2_kept_ptr[((int)threadIdx)]);
}

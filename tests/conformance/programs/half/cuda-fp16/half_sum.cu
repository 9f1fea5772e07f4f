#include <cuda_fp16.h>

extern "C" __global__ void __launch_bounds__(32) half_sum_kernel(const half* __restrict__ b0_x_ptr, const half* __restrict__ b1_w_ptr, half* __restrict__ b2_kept_ptr, float* __restrict__ b3_y_ptr, int n) {
  for (int v = 0; v < n; ++v) {
    b2_kept_ptr[((int)threadIdx.x)] = (b2_kept_ptr[((int)threadIdx.x)] + (b0_x_ptr[((v * 32) + ((int)threadIdx.x))] * b1_w_ptr[((int)threadIdx.x)]));
  }
  b3_y_ptr[((int)threadIdx.x)] = ((float)b2_kept_ptr[((int)threadIdx.x)]);
}

extern "C" __global__ void __launch_bounds__(1) mark_kernel(float* __restrict__ b0_y_ptr) {
  b0_y_ptr[((((int)blockIdx.y) * 1040) + ((int)blockIdx.x))] = ((float)(((int)blockIdx.x) + (10000 * ((int)blockIdx.y))));
}

extern "C" __global__ void __launch_bounds__(64) squares_kernel(const float* __restrict__ b0_x_ptr, float* __restrict__ b1_y_ptr, int n) {
  int v = ((((int)blockIdx.x) * 64) + ((int)threadIdx.x));
  if (v < (n * 200)) {
    b1_y_ptr[v] = (b0_x_ptr[v] * b0_x_ptr[v]);
  }
}

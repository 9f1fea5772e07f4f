extern "C" __global__ void __launch_bounds__(1) digits_kernel(float* __restrict__ b0_y_ptr, int a, int b, int c, int m, int n) {
  b0_y_ptr[((int)blockIdx.x)] = ((float)((((((((n * 10) + c) * 10) + a) * 10) + m) * 10) + b));
}

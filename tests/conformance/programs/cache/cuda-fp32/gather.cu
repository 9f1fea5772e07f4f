extern "C" __global__ void __launch_bounds__(8) gather_kernel(const float* __restrict__ b0_kept_ptr, const int* __restrict__ b1_tables_ptr, float* __restrict__ b2_y_ptr, int m) {
  alignas(64) float _ptr[1];
  _ptr[0] = 0x0.0p+0f;
  for (int v = 0; v < m; ++v) {
    _ptr[0] = (_ptr[0] + b0_kept_ptr[((b1_tables_ptr[((((int)blockIdx.x) * m) + v)] * 8) + ((int)threadIdx.x))]);
  }
  b2_y_ptr[((((int)blockIdx.x) * 8) + ((int)threadIdx.x))] = _ptr[0];
}

extern "C" __global__ void __launch_bounds__(32) scale_kernel(const float* __restrict__ b0_x_ptr, const float* __restrict__ b1_w_ptr, float* __restrict__ b2_y_ptr) {
  int v = ((((int)blockIdx.x) * 32) + ((int)threadIdx.x));
  if (v < 48) {
    int v_1 = ((((int)blockIdx.y) * 48) + v);
    b2_y_ptr[v_1] = ((b0_x_ptr[v_1] * b1_w_ptr[v]) + 0x1.f9add4p-4f);
  }
}

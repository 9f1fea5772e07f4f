extern "C" __global__ void __launch_bounds__(8) look_up_kernel(const float* __restrict__ b0_angles_ptr, const int* __restrict__ b1_positions_ptr, float* __restrict__ b2_y_ptr) {
  b2_y_ptr[((((int)blockIdx.x) * 8) + ((int)threadIdx.x))] = b0_angles_ptr[((b1_positions_ptr[((int)blockIdx.x)] * 8) + ((int)threadIdx.x))];
}

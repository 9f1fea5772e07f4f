extern "C" __global__ void __launch_bounds__(8) append_kernel(const float* __restrict__ b0_x_ptr, const int* __restrict__ b1_places_ptr, float* __restrict__ b2_kept_ptr) {
  b2_kept_ptr[((b1_places_ptr[((int)blockIdx.x)] * 8) + ((int)threadIdx.x))] = b0_x_ptr[((((int)blockIdx.x) * 8) + ((int)threadIdx.x))];
}

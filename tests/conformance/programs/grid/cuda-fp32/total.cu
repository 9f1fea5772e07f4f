extern "C" __global__ void __launch_bounds__(64) total_kernel(const float* __restrict__ b0_x_ptr, float* __restrict__ b1_y_ptr) {
  alignas(64) float _ptr[1];
  alignas(64) __shared__ float _ptr_1[64];
  _ptr[0] = 0x0.0p+0f;
  for (int v = 0; v < 17; ++v) {
    int v_1 = ((v * 64) + ((int)threadIdx.x));
    if (v_1 < 1040) {
      _ptr[0] = (_ptr[0] + (b0_x_ptr[((((int)blockIdx.x) * 1040) + v_1)] - (((float)((int)blockIdx.x)) * 0x1.388p+13f)));
    }
  }
  _ptr_1[((int)threadIdx.x)] = _ptr[0];
  __syncthreads();
  if (((int)threadIdx.x) < 32) {
    _ptr_1[((int)threadIdx.x)] = (_ptr_1[((int)threadIdx.x)] + _ptr_1[(((int)threadIdx.x) + 32)]);
  }
  __syncthreads();
  if (((int)threadIdx.x) < 16) {
    _ptr_1[((int)threadIdx.x)] = (_ptr_1[((int)threadIdx.x)] + _ptr_1[(((int)threadIdx.x) + 16)]);
  }
  __syncthreads();
  if (((int)threadIdx.x) < 8) {
    _ptr_1[((int)threadIdx.x)] = (_ptr_1[((int)threadIdx.x)] + _ptr_1[(((int)threadIdx.x) + 8)]);
  }
  __syncthreads();
  if (((int)threadIdx.x) < 4) {
    _ptr_1[((int)threadIdx.x)] = (_ptr_1[((int)threadIdx.x)] + _ptr_1[(((int)threadIdx.x) + 4)]);
  }
  __syncthreads();
  if (((int)threadIdx.x) < 2) {
    _ptr_1[((int)threadIdx.x)] = (_ptr_1[((int)threadIdx.x)] + _ptr_1[(((int)threadIdx.x) + 2)]);
  }
  __syncthreads();
  if (((int)threadIdx.x) < 1) {
    _ptr_1[0] = (_ptr_1[0] + _ptr_1[1]);
  }
  __syncthreads();
  if (((int)threadIdx.x) < 1) {
    b1_y_ptr[((int)blockIdx.x)] = (_ptr_1[0] + ((float)((int)blockIdx.x)));
  }
}

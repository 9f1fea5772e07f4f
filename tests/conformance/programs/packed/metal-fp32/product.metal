#include <metal_stdlib>
using namespace metal;

kernel void product_kernel(
  device const float* b0_x_ptr [[ buffer(0) ]],
  device const uint4* b1_words_ptr [[ buffer(1) ]],
  device const float* b2_scales_ptr [[ buffer(2) ]],
  device float* b3_y_ptr [[ buffer(3) ]],
  uint blockIdx [[threadgroup_position_in_grid]],
  uint threadIdx [[thread_position_in_threadgroup]]
) {
  thread float v[1];
  uint4 v_1 = b1_words_ptr[((int)threadIdx)];
  v[0] = 0.000000e+00f;
  v[0] = (v[0] + (b0_x_ptr[(((int)blockIdx) * 32)] * ((float)(((int)(((v_1)[0] >> (uint)0) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 1)] * ((float)(((int)(((v_1)[0] >> (uint)4) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 2)] * ((float)(((int)(((v_1)[0] >> (uint)8) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 3)] * ((float)(((int)(((v_1)[0] >> (uint)12) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 4)] * ((float)(((int)(((v_1)[0] >> (uint)16) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 5)] * ((float)(((int)(((v_1)[0] >> (uint)20) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 6)] * ((float)(((int)(((v_1)[0] >> (uint)24) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 7)] * ((float)(((int)(((v_1)[0] >> (uint)28) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 8)] * ((float)(((int)(((v_1)[1] >> (uint)0) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 9)] * ((float)(((int)(((v_1)[1] >> (uint)4) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 10)] * ((float)(((int)(((v_1)[1] >> (uint)8) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 11)] * ((float)(((int)(((v_1)[1] >> (uint)12) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 12)] * ((float)(((int)(((v_1)[1] >> (uint)16) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 13)] * ((float)(((int)(((v_1)[1] >> (uint)20) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 14)] * ((float)(((int)(((v_1)[1] >> (uint)24) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 15)] * ((float)(((int)(((v_1)[1] >> (uint)28) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 16)] * ((float)(((int)(((v_1)[2] >> (uint)0) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 17)] * ((float)(((int)(((v_1)[2] >> (uint)4) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 18)] * ((float)(((int)(((v_1)[2] >> (uint)8) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 19)] * ((float)(((int)(((v_1)[2] >> (uint)12) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 20)] * ((float)(((int)(((v_1)[2] >> (uint)16) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 21)] * ((float)(((int)(((v_1)[2] >> (uint)20) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 22)] * ((float)(((int)(((v_1)[2] >> (uint)24) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 23)] * ((float)(((int)(((v_1)[2] >> (uint)28) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 24)] * ((float)(((int)(((v_1)[3] >> (uint)0) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 25)] * ((float)(((int)(((v_1)[3] >> (uint)4) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 26)] * ((float)(((int)(((v_1)[3] >> (uint)8) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 27)] * ((float)(((int)(((v_1)[3] >> (uint)12) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 28)] * ((float)(((int)(((v_1)[3] >> (uint)16) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 29)] * ((float)(((int)(((v_1)[3] >> (uint)20) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 30)] * ((float)(((int)(((v_1)[3] >> (uint)24) & (uint)15)) - 8))));
  v[0] = (v[0] + (b0_x_ptr[((((int)blockIdx) * 32) + 31)] * ((float)(((int)(((v_1)[3] >> (uint)28) & (uint)15)) - 8))));
  b3_y_ptr[((((int)blockIdx) * 64) + ((int)threadIdx))] = (v[0] * b2_scales_ptr[((int)threadIdx)]);
}

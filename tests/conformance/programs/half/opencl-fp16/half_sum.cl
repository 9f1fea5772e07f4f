#ifdef cl_khr_fp16
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#elif defined(cl_amd_fp16)
#pragma OPENCL EXTENSION cl_amd_fp16 : enable
#else
#error "Half precision floating point not supported by OpenCL implementation on your device." 
#endif

__kernel __attribute__((reqd_work_group_size(32, 1, 1))) void half_sum_kernel(__global const half* restrict b0_x_ptr, __global const half* restrict b1_w_ptr, __global half* restrict b2_kept_ptr, __global float* restrict b3_y_ptr, int n) {
  for (int v = 0; v < n; ++v) {
    b2_kept_ptr[(convert_int(get_local_id(0)))] = (b2_kept_ptr[(convert_int(get_local_id(0)))] + (b0_x_ptr[((v * 32) + (convert_int(get_local_id(0))))] * b1_w_ptr[(convert_int(get_local_id(0)))]));
  }
  b3_y_ptr[(convert_int(get_local_id(0)))] = (convert_float(b2_kept_ptr[(convert_int(get_local_id(0)))]));
}

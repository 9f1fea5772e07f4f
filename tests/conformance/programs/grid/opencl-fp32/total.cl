__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void total_kernel(__global const float* restrict b0_x_ptr, __global float* restrict b1_y_ptr) {
  float _ptr[1];
  __local float _ptr_1[64];
  _ptr[0] = 0.000000e+00f;
  for (int v = 0; v < 17; ++v) {
    int v_1 = ((v * 64) + (convert_int(get_local_id(0))));
    if (v_1 < 1040) {
      _ptr[0] = (_ptr[0] + (b0_x_ptr[(((convert_int(get_group_id(0))) * 1040) + v_1)] - ((convert_float((convert_int(get_group_id(0))))) * 1.000000e+04f)));
    }
  }
  _ptr_1[(convert_int(get_local_id(0)))] = _ptr[0];
  barrier(CLK_LOCAL_MEM_FENCE);
  if ((convert_int(get_local_id(0))) < 32) {
    _ptr_1[(convert_int(get_local_id(0)))] = (_ptr_1[(convert_int(get_local_id(0)))] + _ptr_1[((convert_int(get_local_id(0))) + 32)]);
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  if ((convert_int(get_local_id(0))) < 16) {
    _ptr_1[(convert_int(get_local_id(0)))] = (_ptr_1[(convert_int(get_local_id(0)))] + _ptr_1[((convert_int(get_local_id(0))) + 16)]);
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  if ((convert_int(get_local_id(0))) < 8) {
    _ptr_1[(convert_int(get_local_id(0)))] = (_ptr_1[(convert_int(get_local_id(0)))] + _ptr_1[((convert_int(get_local_id(0))) + 8)]);
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  if ((convert_int(get_local_id(0))) < 4) {
    _ptr_1[(convert_int(get_local_id(0)))] = (_ptr_1[(convert_int(get_local_id(0)))] + _ptr_1[((convert_int(get_local_id(0))) + 4)]);
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  if ((convert_int(get_local_id(0))) < 2) {
    _ptr_1[(convert_int(get_local_id(0)))] = (_ptr_1[(convert_int(get_local_id(0)))] + _ptr_1[((convert_int(get_local_id(0))) + 2)]);
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  if ((convert_int(get_local_id(0))) < 1) {
    _ptr_1[0] = (_ptr_1[0] + _ptr_1[1]);
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  if ((convert_int(get_local_id(0))) < 1) {
    b1_y_ptr[(convert_int(get_group_id(0)))] = (_ptr_1[0] + (convert_float((convert_int(get_group_id(0))))));
  }
}

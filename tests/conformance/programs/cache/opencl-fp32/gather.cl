__kernel __attribute__((reqd_work_group_size(8, 1, 1))) void gather_kernel(__global const float* restrict b0_kept_ptr, __global const int* restrict b1_tables_ptr, __global float* restrict b2_y_ptr, int m) {
  float _ptr[1];
  _ptr[0] = 0.000000e+00f;
  for (int v = 0; v < m; ++v) {
    _ptr[0] = (_ptr[0] + b0_kept_ptr[((b1_tables_ptr[(((convert_int(get_group_id(0))) * m) + v)] * 8) + (convert_int(get_local_id(0))))]);
  }
  b2_y_ptr[(((convert_int(get_group_id(0))) * 8) + (convert_int(get_local_id(0))))] = _ptr[0];
}

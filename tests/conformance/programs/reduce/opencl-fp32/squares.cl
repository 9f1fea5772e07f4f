__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void squares_kernel(__global const float* restrict b0_x_ptr, __global float* restrict b1_y_ptr, int n) {
  int v = (((convert_int(get_group_id(0))) * 64) + (convert_int(get_local_id(0))));
  if (v < (n * 200)) {
    b1_y_ptr[v] = (b0_x_ptr[v] * b0_x_ptr[v]);
  }
}

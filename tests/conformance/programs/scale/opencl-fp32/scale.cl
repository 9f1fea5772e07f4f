__kernel __attribute__((reqd_work_group_size(32, 1, 1))) void scale_kernel(__global const float* restrict b0_x_ptr, __global const float* restrict b1_w_ptr, __global float* restrict b2_y_ptr) {
  int v = (((convert_int(get_group_id(0))) * 32) + (convert_int(get_local_id(0))));
  if (v < 48) {
    int v_1 = (((convert_int(get_group_id(1))) * 48) + v);
    b2_y_ptr[v_1] = ((b0_x_ptr[v_1] * b1_w_ptr[v]) + 1.23456791e-01f);
  }
}

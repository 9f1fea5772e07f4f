__kernel __attribute__((reqd_work_group_size(8, 1, 1))) void look_up_kernel(__global const float* restrict b0_angles_ptr, __global const int* restrict b1_positions_ptr, __global float* restrict b2_y_ptr) {
  b2_y_ptr[(((convert_int(get_group_id(0))) * 8) + (convert_int(get_local_id(0))))] = b0_angles_ptr[((b1_positions_ptr[(convert_int(get_group_id(0)))] * 8) + (convert_int(get_local_id(0))))];
}

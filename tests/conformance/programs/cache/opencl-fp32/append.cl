__kernel __attribute__((reqd_work_group_size(8, 1, 1))) void append_kernel(__global const float* restrict b0_x_ptr, __global const int* restrict b1_places_ptr, __global float* restrict b2_kept_ptr) {
  b2_kept_ptr[((b1_places_ptr[(convert_int(get_group_id(0)))] * 8) + (convert_int(get_local_id(0))))] = b0_x_ptr[(((convert_int(get_group_id(0))) * 8) + (convert_int(get_local_id(0))))];
}

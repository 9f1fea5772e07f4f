__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void mark_kernel(__global float* restrict b0_y_ptr) {
  b0_y_ptr[(((convert_int(get_group_id(1))) * 1040) + (convert_int(get_group_id(0))))] = (convert_float(((convert_int(get_group_id(0))) + (10000 * (convert_int(get_group_id(1)))))));
}

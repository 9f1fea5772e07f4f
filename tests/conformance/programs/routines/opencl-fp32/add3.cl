__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void add3_kernel(__global const float* restrict b0_x_ptr, __global float* restrict b1_y_ptr) {
  b1_y_ptr[(convert_int(get_group_id(0)))] = (b0_x_ptr[(convert_int(get_group_id(0)))] + 3.000000e+00f);
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void digits_kernel(__global float* restrict b0_y_ptr, int a, int b, int c, int m, int n) {
  b0_y_ptr[(convert_int(get_group_id(0)))] = (convert_float(((((((((n * 10) + c) * 10) + a) * 10) + m) * 10) + b)));
}

@group(0) @binding(0) var<storage, read> b0_x_ptr : array<f32>;
@group(0) @binding(1) var<storage, read_write> b1_y_ptr : array<f32>;

@compute @workgroup_size(1, 1, 1)
fn add3_kernel(
  @builtin(workgroup_id) blockIdx : vec3<u32>,
  @builtin(local_invocation_id) threadIdx : vec3<u32>
) {
  let v__1 : i32 = i32(blockIdx.x);
  b1_y_ptr[v__1] = (b0_x_ptr[v__1] + 3.000000e+00f);
}

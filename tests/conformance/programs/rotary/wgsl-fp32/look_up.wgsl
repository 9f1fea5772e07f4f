@group(0) @binding(0) var<storage, read> b0_angles_ptr : array<f32>;
@group(0) @binding(1) var<storage, read> b1_positions_ptr : array<i32>;
@group(0) @binding(2) var<storage, read_write> b2_y_ptr : array<f32>;

@compute @workgroup_size(8, 1, 1)
fn look_up_kernel(
  @builtin(workgroup_id) blockIdx : vec3<u32>,
  @builtin(local_invocation_id) threadIdx : vec3<u32>
) {
  let v__1 : i32 = i32(blockIdx.x);
  b2_y_ptr[((v__1 * 8i) + i32(threadIdx.x))] = b0_angles_ptr[((b1_positions_ptr[v__1] * 8i) + i32(threadIdx.x))];
}

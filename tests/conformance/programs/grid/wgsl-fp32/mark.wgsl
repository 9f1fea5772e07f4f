@group(0) @binding(0) var<storage, read_write> b0_y_ptr : array<f32>;

@compute @workgroup_size(1, 1, 1)
fn mark_kernel(
  @builtin(workgroup_id) blockIdx : vec3<u32>,
  @builtin(local_invocation_id) threadIdx : vec3<u32>
) {
  let v__1 : i32 = i32(blockIdx.x);
  b0_y_ptr[((i32(blockIdx.y) * 1040i) + v__1)] = f32((v__1 + (10000i * i32(blockIdx.y))));
}

@group(0) @binding(0) var<storage, read> b0_x_ptr : array<f32>;
@group(0) @binding(1) var<storage, read> b1_places_ptr : array<i32>;
@group(0) @binding(2) var<storage, read_write> b2_kept_ptr : array<f32>;

@compute @workgroup_size(8, 1, 1)
fn append_kernel(
  @builtin(workgroup_id) blockIdx : vec3<u32>,
  @builtin(local_invocation_id) threadIdx : vec3<u32>
) {
  let v__1 : i32 = i32(blockIdx.x);
  b2_kept_ptr[((b1_places_ptr[v__1] * 8i) + i32(threadIdx.x))] = b0_x_ptr[((v__1 * 8i) + i32(threadIdx.x))];
}

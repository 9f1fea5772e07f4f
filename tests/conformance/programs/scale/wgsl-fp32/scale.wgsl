@group(0) @binding(0) var<storage, read> b0_x_ptr : array<f32>;
@group(0) @binding(1) var<storage, read> b1_w_ptr : array<f32>;
@group(0) @binding(2) var<storage, read_write> b2_y_ptr : array<f32>;

@compute @workgroup_size(32, 1, 1)
fn scale_kernel(
  @builtin(workgroup_id) blockIdx : vec3<u32>,
  @builtin(local_invocation_id) threadIdx : vec3<u32>
) {
  let v__1 : i32 = i32(blockIdx.x);
  let v : i32 = ((v__1 * 32i) + i32(threadIdx.x));
  if (v < 48i) {
    let v_1 : i32 = ((i32(blockIdx.y) * 48i) + v);
    b2_y_ptr[v_1] = fma(b0_x_ptr[v_1], b1_w_ptr[v], 1.23456791e-01f);
  }
}

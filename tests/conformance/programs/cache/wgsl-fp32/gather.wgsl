@group(0) @binding(0) var<storage, read> b0_kept_ptr : array<f32>;
@group(0) @binding(1) var<storage, read> b1_tables_ptr : array<i32>;
@group(0) @binding(2) var<storage, read_write> b2_y_ptr : array<f32>;

struct PODArgs {
  m: i32
}
@group(0) @binding(3) var<uniform> podArgs : PODArgs;

@compute @workgroup_size(8, 1, 1)
fn gather_kernel(
  @builtin(workgroup_id) blockIdx : vec3<u32>,
  @builtin(local_invocation_id) threadIdx : vec3<u32>
) {
  let v__1 : i32 = i32(blockIdx.x);
  var v : array<f32, 1>;
  v[0i] = 0.000000e+00f;
  for (var v_1 : i32 = 0i; v_1 < podArgs.m; v_1++) {
    v[0i] = (v[0i] + b0_kept_ptr[((b1_tables_ptr[((v__1 * podArgs.m) + v_1)] * 8i) + i32(threadIdx.x))]);
  }
  b2_y_ptr[((v__1 * 8i) + i32(threadIdx.x))] = v[0i];
}

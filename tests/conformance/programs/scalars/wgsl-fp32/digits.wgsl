@group(0) @binding(0) var<storage, read_write> b0_y_ptr : array<f32>;

struct PODArgs {
  a: i32,
  b: i32,
  c: i32,
  m: i32,
  n: i32
}
@group(0) @binding(1) var<uniform> podArgs : PODArgs;

@compute @workgroup_size(1, 1, 1)
fn digits_kernel(
  @builtin(workgroup_id) blockIdx : vec3<u32>,
  @builtin(local_invocation_id) threadIdx : vec3<u32>
) {
  let v__1 : i32 = i32(blockIdx.x);
  b0_y_ptr[v__1] = f32(((((((((podArgs.n * 10i) + podArgs.c) * 10i) + podArgs.a) * 10i) + podArgs.m) * 10i) + podArgs.b));
}

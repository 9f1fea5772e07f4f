enable f16;

@group(0) @binding(0) var<storage, read> b0_x_ptr : array<f16>;
@group(0) @binding(1) var<storage, read> b1_w_ptr : array<f16>;
@group(0) @binding(2) var<storage, read_write> b2_kept_ptr : array<f16>;
@group(0) @binding(3) var<storage, read_write> b3_y_ptr : array<f32>;

struct PODArgs {
  n: i32
}
@group(0) @binding(4) var<uniform> podArgs : PODArgs;

@compute @workgroup_size(32, 1, 1)
fn half_sum_kernel(
  @builtin(workgroup_id) blockIdx : vec3<u32>,
  @builtin(local_invocation_id) threadIdx : vec3<u32>
) {
  let v__1 : i32 = i32(blockIdx.x);
  for (var v : i32 = 0i; v < podArgs.n; v++) {
    b2_kept_ptr[i32(threadIdx.x)] = fma(b0_x_ptr[((v * 32i) + i32(threadIdx.x))], b1_w_ptr[i32(threadIdx.x)], b2_kept_ptr[i32(threadIdx.x)]);
  }
  b3_y_ptr[i32(threadIdx.x)] = f32(b2_kept_ptr[i32(threadIdx.x)]);
}

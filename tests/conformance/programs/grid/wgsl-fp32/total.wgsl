@group(0) @binding(0) var<storage, read> b0_x_ptr : array<f32>;
@group(0) @binding(1) var<storage, read_write> b1_y_ptr : array<f32>;

var<workgroup> v_1 : array<f32, 64>;
@compute @workgroup_size(64, 1, 1)
fn total_kernel(
  @builtin(workgroup_id) blockIdx : vec3<u32>,
  @builtin(local_invocation_id) threadIdx : vec3<u32>
) {
  let v__1 : i32 = i32(blockIdx.x);
  var v : array<f32, 1>;
  v[0i] = 0.000000e+00f;
  for (var v_2 : i32 = 0i; v_2 < 17i; v_2++) {
    let v_3 : i32 = ((v_2 * 64i) + i32(threadIdx.x));
    if (v_3 < 1040i) {
      v[0i] = (v[0i] + (b0_x_ptr[((v__1 * 1040i) + v_3)] - (f32(v__1) * 1.000000e+04f)));
    }
  }
  v_1[i32(threadIdx.x)] = v[0i];
  workgroupBarrier();
  if (i32(threadIdx.x) < 32i) {
    v_1[i32(threadIdx.x)] = (v_1[i32(threadIdx.x)] + v_1[(i32(threadIdx.x) + 32i)]);
  }
  workgroupBarrier();
  if (i32(threadIdx.x) < 16i) {
    v_1[i32(threadIdx.x)] = (v_1[i32(threadIdx.x)] + v_1[(i32(threadIdx.x) + 16i)]);
  }
  workgroupBarrier();
  if (i32(threadIdx.x) < 8i) {
    v_1[i32(threadIdx.x)] = (v_1[i32(threadIdx.x)] + v_1[(i32(threadIdx.x) + 8i)]);
  }
  workgroupBarrier();
  if (i32(threadIdx.x) < 4i) {
    v_1[i32(threadIdx.x)] = (v_1[i32(threadIdx.x)] + v_1[(i32(threadIdx.x) + 4i)]);
  }
  workgroupBarrier();
  if (i32(threadIdx.x) < 2i) {
    v_1[i32(threadIdx.x)] = (v_1[i32(threadIdx.x)] + v_1[(i32(threadIdx.x) + 2i)]);
  }
  workgroupBarrier();
  if (i32(threadIdx.x) < 1i) {
    v_1[0i] = (v_1[0i] + v_1[1i]);
  }
  workgroupBarrier();
  if (i32(threadIdx.x) < 1i) {
    b1_y_ptr[v__1] = (v_1[0i] + f32(v__1));
  }
}

@group(0) @binding(0) var<storage, read> b0_x_ptr : array<f32>;
@group(0) @binding(1) var<storage, read> b1_words_ptr : array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> b2_scales_ptr : array<f32>;
@group(0) @binding(3) var<storage, read_write> b3_y_ptr : array<f32>;

@compute @workgroup_size(64, 1, 1)
fn product_kernel(
  @builtin(workgroup_id) blockIdx : vec3<u32>,
  @builtin(local_invocation_id) threadIdx : vec3<u32>
) {
  let v__1 : i32 = i32(blockIdx.x);
  var v : array<f32, 1>;
  let v_1 : vec4<u32> = b1_words_ptr[i32(threadIdx.x)];
  v[0i] = 0.000000e+00f;
  v[0i] = fma(b0_x_ptr[(v__1 * 32i)], f32((i32((((v_1)[0]>>0u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 1i)], f32((i32((((v_1)[0]>>4u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 2i)], f32((i32((((v_1)[0]>>8u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 3i)], f32((i32((((v_1)[0]>>12u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 4i)], f32((i32((((v_1)[0]>>16u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 5i)], f32((i32((((v_1)[0]>>20u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 6i)], f32((i32((((v_1)[0]>>24u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 7i)], f32((i32((((v_1)[0]>>28u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 8i)], f32((i32((((v_1)[1]>>0u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 9i)], f32((i32((((v_1)[1]>>4u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 10i)], f32((i32((((v_1)[1]>>8u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 11i)], f32((i32((((v_1)[1]>>12u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 12i)], f32((i32((((v_1)[1]>>16u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 13i)], f32((i32((((v_1)[1]>>20u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 14i)], f32((i32((((v_1)[1]>>24u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 15i)], f32((i32((((v_1)[1]>>28u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 16i)], f32((i32((((v_1)[2]>>0u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 17i)], f32((i32((((v_1)[2]>>4u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 18i)], f32((i32((((v_1)[2]>>8u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 19i)], f32((i32((((v_1)[2]>>12u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 20i)], f32((i32((((v_1)[2]>>16u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 21i)], f32((i32((((v_1)[2]>>20u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 22i)], f32((i32((((v_1)[2]>>24u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 23i)], f32((i32((((v_1)[2]>>28u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 24i)], f32((i32((((v_1)[3]>>0u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 25i)], f32((i32((((v_1)[3]>>4u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 26i)], f32((i32((((v_1)[3]>>8u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 27i)], f32((i32((((v_1)[3]>>12u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 28i)], f32((i32((((v_1)[3]>>16u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 29i)], f32((i32((((v_1)[3]>>20u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 30i)], f32((i32((((v_1)[3]>>24u) & 15u)) - 8i)), v[0i]);
  v[0i] = fma(b0_x_ptr[((v__1 * 32i) + 31i)], f32((i32((((v_1)[3]>>28u) & 15u)) - 8i)), v[0i]);
  b3_y_ptr[((v__1 * 64i) + i32(threadIdx.x))] = (v[0i] * b2_scales_ptr[i32(threadIdx.x)]);
}

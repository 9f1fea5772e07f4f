// Vector types, as Metal and OpenCL C have them.
#pragma once

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef _Float16 half;

#define VECTORS(T) \
  typedef T T##2 __attribute__((ext_vector_type(2))); \
  typedef T T##3 __attribute__((ext_vector_type(3))); \
  typedef T T##4 __attribute__((ext_vector_type(4))); \
  typedef T T##8 __attribute__((ext_vector_type(8)));
VECTORS(char)
VECTORS(uchar)
VECTORS(short)
VECTORS(ushort)
VECTORS(int)
VECTORS(uint)
VECTORS(half)
VECTORS(float)
#undef VECTORS

template <typename Vector, typename... Parts>
inline Vector make_vector(Parts... parts) {
  if constexpr (sizeof...(Parts) == 1) return ((Vector)(parts), ...);
  else return Vector{parts...};
}
#define float2(...) make_vector<float2>(__VA_ARGS__)
#define float4(...) make_vector<float4>(__VA_ARGS__)
#define half2(...) make_vector<half2>(__VA_ARGS__)
#define half4(...) make_vector<half4>(__VA_ARGS__)
#define half8(...) make_vector<half8>(__VA_ARGS__)
#define int2(...) make_vector<int2>(__VA_ARGS__)
#define int4(...) make_vector<int4>(__VA_ARGS__)
#define uint2(...) make_vector<uint2>(__VA_ARGS__)
#define uint4(...) make_vector<uint4>(__VA_ARGS__)

#pragma clang diagnostic ignored "-Wuser-defined-literals"
constexpr half operator""h(long double value) { return (half)value; }

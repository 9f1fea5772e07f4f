// Runs kernels on the processor: a workgroup's threads are coroutines that take turns at barriers (run.cc).
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "vectors.h"

struct Place {
  uint block[3], thread[3];
};

// Of the thread that runs.
const Place& here();

// A barrier: every other thread of the workgroup comes this far.
void run_others();

// Calls `body(data)` for every thread of every workgroup.
void run_grid(void (*body)(void*), void* data, const uint* grid, const uint* threads);

template <typename T> struct Kind { enum { pointer = false, reference = false }; typedef T Plain; };
template <typename T> struct Kind<T*> { enum { pointer = true, reference = false }; typedef T* Plain; };
template <typename T> struct Kind<T&> { enum { pointer = false, reference = true }; typedef T Plain; };
template <typename A, typename B> constexpr bool same = false;
template <typename A> constexpr bool same<A, A> = true;

// Arguments of a kernel, by their types: pointers are buffers, a reference is the sizes, an int is the next size,
// and what Metal texts call blockIdx and threadIdx are the first and the second of the rest.
struct Arguments {
  void** buffers;
  int32_t* sizes;
  size_t index = 0;

  template <typename T>
  T take() {
    if constexpr (Kind<T>::pointer) {
      return (T)*buffers++;
    } else if constexpr (Kind<T>::reference) {
      return *(typename Kind<T>::Plain*)sizes;
    } else if constexpr (same<T, int>) {
      return *sizes++;
    } else {
      const uint* values = index++ == 0 ? here().block : here().thread;
      if constexpr (same<T, uint>) return values[0];
      else if constexpr (same<T, uint2>) return uint2{values[0], values[1]};
      else return uint3{values[0], values[1], values[2]};
    }
  }
};

template <typename... Types>
struct Call {
  // Braces in which this is made take the arguments in order.
  Call(void (*entry)(Types...), Types... arguments) { entry(arguments...); }
};

template <typename... Types>
void launch(void (*entry)(Types...), void** buffers, int32_t* sizes, const uint* grid, const uint* threads) {
  struct Data {
    void (*entry)(Types...);
    void** buffers;
    int32_t* sizes;
  } data{entry, buffers, sizes};
  run_grid(
      [](void* pointer) {
        Data* one = (Data*)pointer;
        Arguments arguments{one->buffers, one->sizes};
        Call<Types...>{one->entry, arguments.template take<Types>()...};
      },
      &data, grid, threads);
}

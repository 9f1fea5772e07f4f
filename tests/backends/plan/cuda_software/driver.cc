// NVIDIA's driver interface over the processor: kernels are those of a library that tests/compile/textual makes of
// CUDA texts, found by the names of the entries in the PTX that is loaded, whose parameters say what they take.
//
// cuda.h is NVIDIA's, so functions have the types that the real driver's have. Work is done when a stream is waited
// for and not before, so memory that a copy reads must still be there then, and results are there only then. Copies
// must lie within allocations.
#include <cuda.h>
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <functional>
#include <map>
#include <regex>
#include <string>
#include <vector>

typedef void (*Run)(void**, int32_t*, const unsigned*, const unsigned*);

struct Function {
  Run run;
  std::vector<int> bits;
};
struct Module {
  std::map<std::string, Function> functions;
};

static void* library;
static std::map<CUdeviceptr, size_t> memory;
static size_t most = 1 << 30, taken = 0;
static int holders = 0, major = 8, lost = 0, live_modules = 0, live_streams = 0;
static std::vector<std::function<void()>> work;
static thread_local CUcontext current = nullptr;
static int the_context;

extern "C" {
// For tests.
int software_use(const char* path) { return (library = dlopen(path, RTLD_NOW)) != nullptr; }
void software_set(size_t bytes, int compute_capability) { most = bytes, major = compute_capability; }
void software_lose(int yes) { lost = yes; }
int software_held() { return holders + live_modules + live_streams + (int)memory.size(); }
}

#define REQUIRE(what, status) if (!(what)) return status
#define IN_CONTEXT REQUIRE(current, CUDA_ERROR_INVALID_CONTEXT)

static bool inside(CUdeviceptr at, size_t bytes) {
  auto next = memory.upper_bound(at);
  if (next == memory.begin()) return false;
  auto [start, size] = *--next;
  return at >= start && at + bytes <= start + size;
}
static void later(std::function<void()> one) { work.push_back(one); }

CUresult cuInit(unsigned flags) { return flags ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS; }
CUresult cuDriverGetVersion(int* version) { return *version = 12040, CUDA_SUCCESS; }
CUresult cuGetErrorName(CUresult error, const char** text) {
  *text = error == CUDA_ERROR_OUT_OF_MEMORY     ? "CUDA_ERROR_OUT_OF_MEMORY"
          : error == CUDA_ERROR_ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS"
          : error == CUDA_ERROR_INVALID_PTX     ? "CUDA_ERROR_INVALID_PTX"
                                                : nullptr;
  return *text ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuGetErrorString(CUresult error, const char** text) { return cuGetErrorName(error, text); }
CUresult cuDeviceGetCount(int* count) { return *count = 1, CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  REQUIRE(ordinal == 0, CUDA_ERROR_INVALID_DEVICE);
  return *device = 7, CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char* name, int size, CUdevice device) {
  REQUIRE(device == 7, CUDA_ERROR_INVALID_DEVICE);
  return strncpy(name, "Software of the tests", size), CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem(size_t* bytes, CUdevice device) { return *bytes = most, CUDA_SUCCESS; }
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
  REQUIRE(device == 7, CUDA_ERROR_INVALID_DEVICE);
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: return *value = 1024, CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: return *value = 49152, CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_INTEGRATED: return *value = 0, CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: return *value = major, CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: return *value = 0, CUDA_SUCCESS;
    default: return CUDA_ERROR_INVALID_VALUE;
  }
}
CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  REQUIRE(device == 7, CUDA_ERROR_INVALID_DEVICE);
  return holders++, *context = (CUcontext)&the_context, CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
  REQUIRE(device == 7 && holders, CUDA_ERROR_INVALID_CONTEXT);
  return holders--, CUDA_SUCCESS;
}
CUresult cuCtxSetCurrent(CUcontext context) {
  REQUIRE(!context || (holders && context == (CUcontext)&the_context), CUDA_ERROR_INVALID_CONTEXT);
  return current = context, CUDA_SUCCESS;
}
CUresult cuMemGetInfo(size_t* free, size_t* total) {
  IN_CONTEXT;
  return *free = most - taken, *total = most, CUDA_SUCCESS;
}
CUresult cuMemAlloc(CUdeviceptr* address, size_t bytes) {
  IN_CONTEXT;
  REQUIRE(bytes, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(taken + bytes <= most, CUDA_ERROR_OUT_OF_MEMORY);
  void* found = aligned_alloc(256, (bytes + 255) / 256 * 256);
  memset(found, 0xAB, bytes);  // what nobody has written is no zeros
  return memory[*address = (CUdeviceptr)found] = bytes, taken += bytes, CUDA_SUCCESS;
}
CUresult cuMemFree(CUdeviceptr address) {
  IN_CONTEXT;
  auto found = memory.find(address);
  REQUIRE(found != memory.end(), CUDA_ERROR_INVALID_VALUE);
  return taken -= found->second, memory.erase(found), free((void*)address), CUDA_SUCCESS;
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream) {
  IN_CONTEXT;
  REQUIRE(stream && inside(to, bytes), CUDA_ERROR_INVALID_VALUE);
  return later([=] { memset((void*)to, value, bytes); }), CUDA_SUCCESS;
}
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
  IN_CONTEXT;
  REQUIRE(stream && inside(to, bytes), CUDA_ERROR_INVALID_VALUE);
  return later([=] { memcpy((void*)to, from, bytes); }), CUDA_SUCCESS;
}
CUresult cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
  IN_CONTEXT;
  REQUIRE(stream && inside(from, bytes), CUDA_ERROR_INVALID_VALUE);
  return later([=] { memcpy(to, (void*)from, bytes); }), CUDA_SUCCESS;
}
CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  IN_CONTEXT;
  REQUIRE(stream && inside(from, bytes) && inside(to, bytes), CUDA_ERROR_INVALID_VALUE);
  return later([=] { memcpy((void*)to, (void*)from, bytes); }), CUDA_SUCCESS;
}
CUresult cuStreamCreate(CUstream* stream, unsigned flags) {
  IN_CONTEXT;
  REQUIRE(flags == CU_STREAM_NON_BLOCKING, CUDA_ERROR_INVALID_VALUE);
  return live_streams++, *stream = (CUstream)&work, CUDA_SUCCESS;
}
CUresult cuStreamSynchronize(CUstream stream) {
  IN_CONTEXT;
  REQUIRE(stream, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(!lost, CUDA_ERROR_ILLEGAL_ADDRESS);
  for (auto& one : work) one();
  return work.clear(), CUDA_SUCCESS;
}
CUresult cuStreamDestroy(CUstream stream) {
  IN_CONTEXT;
  return work.clear(), live_streams--, CUDA_SUCCESS;
}
CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned count, CUjit_option* options, void** values) {
  IN_CONTEXT;
  std::string ptx((const char*)image);
  Module* made = new Module;
  std::regex entry("\\.visible \\.entry (\\w+)\\(([^)]*)\\)"), parameter("\\.param \\.[bus](32|64)");
  for (std::sregex_iterator at(ptx.begin(), ptx.end(), entry), end; at != end; ++at) {
    std::string name = (*at)[1], parameters = (*at)[2];
    std::string symbol = "run_" + name.substr(0, name.size() - strlen("_kernel"));
    Function function{};
    function.run = library ? (Run)dlsym(library, symbol.c_str()) : nullptr;
    for (std::sregex_iterator one(parameters.begin(), parameters.end(), parameter); one != end; ++one)
      function.bits.push_back(std::stoi((*one)[1]));
    if (function.run) made->functions[name] = function;
  }
  if (made->functions.empty()) {
    for (unsigned i = 0; i < count; i++)
      if (options[i] == CU_JIT_ERROR_LOG_BUFFER) strcpy((char*)values[i], "ptxas application: no kernel in this text");
    return CUDA_ERROR_INVALID_PTX;
  }
  return live_modules++, *module = (CUmodule)made, CUDA_SUCCESS;
}
CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  IN_CONTEXT;
  auto found = ((Module*)module)->functions.find(name);
  REQUIRE(found != ((Module*)module)->functions.end(), CUDA_ERROR_NOT_FOUND);
  return *function = (CUfunction)&found->second, CUDA_SUCCESS;
}
CUresult cuModuleUnload(CUmodule module) {
  IN_CONTEXT;
  return live_modules--, delete (Module*)module, CUDA_SUCCESS;
}
CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned tx, unsigned ty,
                        unsigned tz, unsigned shared, CUstream stream, void** parameters, void** extra) {
  IN_CONTEXT;
  REQUIRE(stream && !shared && !extra && gx && gy && gz && gy <= 65535 && gz <= 65535 && tx * ty * tz <= 1024,
          CUDA_ERROR_INVALID_VALUE);
  // The driver reads parameters now.
  std::vector<void*> buffers;
  std::vector<int32_t> scalars;
  for (int bits : ((Function*)function)->bits) {
    void* at = *parameters++;
    if (bits == 64) buffers.push_back(*(void**)at);
    else scalars.push_back(*(int32_t*)at);
  }
  for (void* one : buffers) REQUIRE(inside((CUdeviceptr)one, 1), CUDA_ERROR_INVALID_VALUE);
  Run run = ((Function*)function)->run;
  later([=]() mutable {
    unsigned grid[] = {gx, gy, gz}, threads[] = {tx, ty, tz};
    run(buffers.data(), scalars.data(), grid, threads);
  });
  return CUDA_SUCCESS;
}

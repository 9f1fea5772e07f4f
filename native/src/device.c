#include "device.h"

struct ell_device *ell_device_open(const char *wanted, const char *cache, struct ell_error *error)
{
#ifdef ELL_METAL
    return ell_metal_open(wanted, cache, error);
#else
    return ell_opencl_open(wanted, cache, error);
#endif
}

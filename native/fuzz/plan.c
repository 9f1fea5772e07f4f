/* Fuzz target: a plan, and what a host computes from one that is good. */
#include "host.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ell_error error;
    struct ell_plan *plan = ell_plan_read((struct ell_text){(const char *)data, size}, NULL, &error);
    if (plan == NULL)
        return 0;
    struct ell_device_info info = {"any", plan->language.data, true, false, 1 << 30, 1 << 30, 1024, 1 << 15};
    int64_t sizes[ELL_MAX_SIZES];
    for (size_t i = 0; i < plan->size_count; i++)
        sizes[i] = plan->sizes[i] != 0 ? plan->sizes[i] : 64;
    ell_host_suits(plan, &info, sizes, &error);
    for (size_t i = 0; i < plan->declared_count; i++)
        ell_host_allocated(&plan->buffers[i], sizes);
    ell_plan_free(plan);
    return 0;
}

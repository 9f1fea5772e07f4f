/* Fuzz target: a bundle's manifest. */
#include <stdlib.h>

#include "bundle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ell_bundle *bundle = calloc(1, sizeof *bundle);
    struct ell_error error;
    if (bundle != NULL)
        ell_manifest_read(bundle, (struct ell_text){(const char *)data, size}, &error);
    ell_bundle_close(bundle);
    return 0;
}

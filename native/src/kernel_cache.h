/* Compiled kernels kept in files, each named by a hash of all that it depends on. What cannot be read, or is damaged,
 * is as good as not there. */
#ifndef ELL_KERNEL_CACHE_H
#define ELL_KERNEL_CACHE_H

#include "base.h"

/* Take `key`, 64 hexadecimal digits, to name the file in `folder`. */
bool ell_cache_read(const char *folder, const char *key, struct ell_bytes *bytes);
/* The file appears whole or not at all. It is no error if it cannot be written. */
void ell_cache_write(const char *folder, const char *key, const void *data, size_t size);

#endif

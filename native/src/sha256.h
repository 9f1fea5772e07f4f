/* SHA-256 (FIPS 180-4). */
#ifndef ELL_SHA256_H
#define ELL_SHA256_H

#include "base.h"

struct ell_sha256 {
    uint32_t state[8];
    uint64_t size;
    uint8_t block[64];
};

void ell_sha256_start(struct ell_sha256 *hash);
void ell_sha256_add(struct ell_sha256 *hash, const void *data, size_t size);
/* 64 lower-case hexadecimal digits and a zero. */
void ell_sha256_end(struct ell_sha256 *hash, char digits[65]);

#endif

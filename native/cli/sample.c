/* sample DRAWS TEMPERATURE TOP_K TOP_P MIN_P SEED: reads float32 logits from standard input, and writes how often each
 * token was drawn, a line each. For tests. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sampler.h"

enum { MAX_LOGITS = 1 << 20 };

int main(int count, char **arguments)
{
    if (count != 7)
        return 2;
    struct ell_settings settings = {.repetition_penalty = 1,
                                    .temperature = strtod(arguments[2], NULL),
                                    .top_k = (int32_t)strtol(arguments[3], NULL, 10),
                                    .top_p = strtod(arguments[4], NULL),
                                    .min_p = strtod(arguments[5], NULL),
                                    .seed = strtoull(arguments[6], NULL, 10)};
    struct ell_candidates candidates = {0};
    struct ell_sampler sampler;
    float *logits = calloc(MAX_LOGITS, 2 * sizeof *logits);
    size_t size = logits != NULL ? fread(logits, sizeof *logits, MAX_LOGITS, stdin) : 0;
    long *drawn = calloc(size + 1, sizeof *drawn);
    bool good = drawn != NULL && size > 0 && ell_sampler_open(&sampler, &settings, (int64_t)size, NULL);
    for (long i = strtol(arguments[1], NULL, 10); good && i > 0; i--) {
        memcpy(logits + MAX_LOGITS, logits, size * sizeof *logits);
        int32_t token = ell_choose(&sampler, logits + MAX_LOGITS, NULL, size, &candidates);
        good = token >= 0 && (size_t)token < size;
        if (good)
            drawn[token]++;
    }
    for (size_t i = 0; good && i < size; i++)
        printf("%ld\n", drawn[i]);
    free(logits);
    free(drawn);
    free(candidates.heap);
    return !good;
}

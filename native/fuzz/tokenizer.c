/* Fuzz target: a tokenizer.json, and texts through one that is good. */
#include <stdlib.h>

#include "tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const texts[] = {"", " ", "It's  12 words,\n\nnot 3: \xc3\xa9t\xc3\xa9 \xf0\x9f\x99\x82<s>",
                                        "\xe2\x96\x81 a"};
    struct ell_error error;
    struct ell_tokenizer *tokenizer = ell_tokenizer_read((struct ell_text){(const char *)data, size}, &error);
    for (size_t i = 0; tokenizer != NULL && i < ELL_COUNT(texts); i++) {
        struct ell_token_list ids = {0};
        struct ell_bytes out = {0};
        struct ell_decoding decoding = {.tokenizer = tokenizer, .at_once = true};
        ell_encode(tokenizer, ell_text_of(texts[i]), &ids, &error);
        for (size_t j = 0; j < ids.count; j++)
            ell_decode(&decoding, ids.ids[j], &out);
        ell_decode_end(&decoding, &out);
        free(ids.ids);
        ell_bytes_free(&out);
    }
    ell_tokenizer_free(tokenizer);
    return 0;
}

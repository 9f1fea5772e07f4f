/* tokenize TOKENIZER.JSON: reads texts from standard input, each after its size as a line of digits, and writes
 * for each a line with its ids and, as hexadecimal digits, what the ids decode to. For tests. */
#include <stdio.h>
#include <stdlib.h>

#include "file.h"
#include "tokenizer.h"

static bool answer(const struct ell_tokenizer *tokenizer, struct ell_text text, struct ell_error *error)
{
    struct ell_token_list ids = {0};
    struct ell_bytes out = {0};
    struct ell_decoding decoding = {.tokenizer = tokenizer, .keep_special = true};
    bool good = ell_encode(tokenizer, text, &ids, error);
    for (size_t i = 0; good && i < ids.count; i++) {
        printf("%s%d", i != 0 ? " " : "", (int)ids.ids[i]);
        good = ell_decode(&decoding, ids.ids[i], &out);
    }
    good = ell_decode_end(&decoding, &out) && good;
    printf("|");
    for (size_t i = 0; i < out.size; i++)
        printf("%02x", out.data[i]);
    printf("\n");
    free(ids.ids);
    ell_bytes_free(&out);
    return good;
}

int main(int count, char **arguments)
{
    struct ell_error error = {"no tokenizer.json was named"};
    struct ell_bytes file = {0};
    struct ell_tokenizer *tokenizer = NULL;
    size_t size;
    bool good = count == 2 && ell_read_file(arguments[1], ELL_MAX_TOKENIZER_BYTES, &file, &error);
    if (good)
        tokenizer = ell_tokenizer_read((struct ell_text){(char *)file.data, file.size}, &error);
    ell_bytes_free(&file);
    good = tokenizer != NULL;
    while (good && scanf("%zu", &size) == 1 && getchar() == '\n') {
        char *data = malloc(size + 1);
        good = data != NULL && fread(data, 1, size, stdin) == size &&
               answer(tokenizer, (struct ell_text){data, size}, &error);
        free(data);
    }
    ell_tokenizer_free(tokenizer);
    if (!good)
        fprintf(stderr, "%s\n", error.text);
    return !good;
}

/* Fuzz target: prompts, through tokenizers of both kinds. What is tokenized must decode to itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer.h"
#include "utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char HEAD[] = "{\"added_tokens\": [{\"id\": 999, \"content\": \"<|end|>\", \"special\": true}], ";
static const char BYTE_LEVEL[] =
    "\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": "
    "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|"
    "\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}, \"behavior\": \"Isolated\", \"invert\": false}, {\"type\": \"ByteLevel\", "
    "\"add_prefix_space\": false, \"use_regex\": false}]}, \"decoder\": {\"type\": \"ByteLevel\"}, "
    "\"model\": {\"type\": \"BPE\", \"merges\": [[\"a\", \"b\"], [\"ab\", \"a\"]], \"vocab\": {\"ab\": 997, \"aba\": 998";
static const char PIECES[] =
    "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", \"prepend\": \"\xe2\x96\x81\"}, "
    "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\xe2\x96\x81\"}]}, \"decoder\": {\"type\": "
    "\"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": {\"String\": \"\xe2\x96\x81\"}, \"content\": \" \"}, "
    "{\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}, {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}]}, "
    "\"model\": {\"type\": \"BPE\", \"byte_fallback\": true, \"merges\": [[\"a\", \"b\"], [\"\xe2\x96\x81\", \"ab\"]], \"vocab\": "
    "{\"a\": 994, \"b\": 995, \"\xe2\x96\x81\": 996, \"ab\": 997, \"\xe2\x96\x81" "ab\": 998";

/* A tokenizer of one kind: its stages, and a token for each byte. */
static struct ell_tokenizer *make(bool byte_level)
{
    struct ell_bytes text = {0};
    struct ell_error error;
    ell_bytes_add(&text, HEAD, strlen(HEAD));
    ell_bytes_add(&text, byte_level ? BYTE_LEVEL : PIECES, strlen(byte_level ? BYTE_LEVEL : PIECES));
    for (unsigned byte = 0; byte < 256; byte++) {
        char token[32], character[8] = "";
        ell_utf8_write(ell_byte_character((uint8_t)byte), character);
        bool quote = byte == '"' || byte == '\\';
        int size = byte_level ? snprintf(token, sizeof token, ", \"%s%s\": %u", quote ? "\\" : "", character, byte)
                              : snprintf(token, sizeof token, ", \"<0x%02X>\": %u", byte, byte);
        ell_bytes_add(&text, token, (size_t)size);
    }
    ell_bytes_add(&text, "}}}", 3);
    struct ell_tokenizer *made = ell_tokenizer_read((struct ell_text){(char *)text.data, text.size}, &error);
    if (made == NULL) {
        fprintf(stderr, "%s\n", error.text);
        abort();
    }
    ell_bytes_free(&text);
    return made;
}

static void try_text(const struct ell_tokenizer *tokenizer, struct ell_text text, bool at_once)
{
    struct ell_token_list ids = {0};
    struct ell_bytes out = {0};
    struct ell_decoding decoding = {.tokenizer = tokenizer, .keep_special = true, .at_once = at_once};
    struct ell_error error;
    bool good = ell_encode(tokenizer, text, &ids, &error);
    for (size_t i = 0; i < ids.count; i++)
        ell_decode(&decoding, ids.ids[i], &out);
    ell_decode_end(&decoding, &out);
    /* Pieces before which a space is put are not only at the start, and the stand-in of a space is one for itself. */
    if (good && tokenizer->byte_level && !ell_text_equal(text, (struct ell_text){(char *)out.data, out.size}))
        abort();
    uint32_t code;
    for (size_t at = 0, length; at < out.size; at += length)
        if ((length = ell_utf8_next((struct ell_text){(char *)out.data + at, out.size - at}, &code)) == 0)
            abort();
    free(ids.ids);
    ell_bytes_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ell_tokenizer *tokenizers[2];
    for (int kind = 0; kind < 2; kind++) {
        if (tokenizers[kind] == NULL)
            tokenizers[kind] = make(kind == 0);
        try_text(tokenizers[kind], (struct ell_text){(const char *)data, size}, false);
        try_text(tokenizers[kind], (struct ell_text){(const char *)data, size}, true);
    }
    /* As ids: every sequence of tokens decodes to UTF-8. */
    struct ell_decoding decoding = {.tokenizer = tokenizers[1], .at_once = true};
    struct ell_bytes out = {0};
    for (size_t i = 0; i + 1 < size; i += 2)
        ell_decode(&decoding, data[i] | (data[i + 1] & 3) << 8, &out);
    ell_decode_end(&decoding, &out);
    ell_bytes_free(&out);
    return 0;
}

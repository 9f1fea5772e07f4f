#include "utf8.h"

/* What may stand second after each first byte (Unicode, table 3-7), and how many bytes belong together. */
static size_t shape(uint8_t first, uint8_t *low, uint8_t *high)
{
    *low = 0x80;
    *high = 0xBF;
    if (first < 0x80)
        return 1;
    if (first < 0xC2)
        return 0;
    if (first < 0xE0)
        return 2;
    if (first < 0xF0) {
        if (first == 0xE0)
            *low = 0xA0;
        if (first == 0xED)
            *high = 0x9F;
        return 3;
    }
    if (first == 0xF0)
        *low = 0x90;
    if (first == 0xF4)
        *high = 0x8F;
    return first < 0xF5 ? 4 : 0;
}

/* Bytes at the start that belong to one character, whole or not. */
static size_t well(struct ell_text text, size_t *wanted)
{
    const uint8_t *bytes = (const uint8_t *)text.data;
    uint8_t low, high;
    *wanted = shape(bytes[0], &low, &high);
    if (*wanted == 0)
        return 0;
    size_t count = 1;
    while (count < *wanted && count < text.size && bytes[count] >= low && bytes[count] <= high) {
        count++;
        low = 0x80;
        high = 0xBF;
    }
    return count;
}

size_t ell_utf8_next(struct ell_text text, uint32_t *code)
{
    static const uint8_t masks[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    size_t wanted, count = well(text, &wanted);
    *code = ELL_REPLACEMENT;
    if (count == 0 || count < wanted)
        return 0;
    uint32_t value = (uint8_t)text.data[0] & masks[count];
    for (size_t i = 1; i < count; i++)
        value = value << 6 | ((uint8_t)text.data[i] & 0x3F);
    *code = value;
    return count;
}

size_t ell_utf8_step(struct ell_text text, uint32_t *code)
{
    size_t length = ell_utf8_next(text, code), wanted;
    if (length != 0)
        return length;
    size_t count = well(text, &wanted);
    return count == 0 ? 1 : count;
}

size_t ell_utf8_begun(struct ell_text text)
{
    size_t wanted, count = well(text, &wanted);
    return count != 0 && count < wanted && count == text.size ? count : 0;
}

size_t ell_utf8_write(uint32_t code, char *out)
{
    if ((code >= 0xD800 && code < 0xE000) || code > 0x10FFFF)
        code = ELL_REPLACEMENT;
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t count = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const uint8_t heads[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = count - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (code & 0x3F));
        code >>= 6;
    }
    out[0] = (char)(heads[count] | code);
    return count;
}

/* Fuzz target: a chat format, and conversations through one that is good. Behind a zero, messages with zeros between. */
#include <string.h>

#include "chat.h"
#include "utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_MESSAGES = 16 };

/* Render every beginning of the conversation; what comes out must be UTF-8. */
static void try_messages(const struct ell_chat_format *format, struct ell_message *messages, size_t count)
{
    static const struct tm now = {.tm_mday = 29, .tm_mon = 1, .tm_year = 128, .tm_wday = 2};
    for (int system = 0; system < 2; system++) {
        for (size_t i = 0; i < count; i++)
            messages[i].role = system && i == 0 ? "system" : (i - (size_t)system) % 2 == 0 ? "user" : "assistant";
        for (size_t i = 0; i <= count; i++) {
            struct ell_bytes out = {0};
            struct ell_error error;
            uint32_t code;
            bool good = ell_chat_render(format, messages, i, &now, &out, &error);
            for (size_t at = 0, length; good && at < out.size; at += length)
                if ((length = ell_utf8_next((struct ell_text){(char *)out.data + at, out.size - at}, &code)) == 0)
                    __builtin_trap();
            ell_bytes_free(&out);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const texts[] = {" \xe2\x80\x83\n a<b>\n", "", "x</think>\n\n y \xc2\x85", "</think>", "\xf0\x9f\x99\x82"};
    struct ell_message messages[MAX_MESSAGES];
    struct ell_error error;
    size_t count = 0;
    const uint8_t *end = data + size, *zero = size > 0 ? memchr(data, 0, size) : NULL;
    struct ell_text text = {(const char *)data, zero != NULL ? (size_t)(zero - data) : size};
    struct ell_chat_format *format = ell_chat_read(text, &error);
    if (format == NULL)
        return 0;
    for (; count < ELL_COUNT(texts); count++)
        messages[count] = (struct ell_message){NULL, texts[count], strlen(texts[count])};
    while (zero != NULL && count < MAX_MESSAGES) {
        const uint8_t *start = zero + 1;
        zero = start < end ? memchr(start, 0, (size_t)(end - start)) : NULL;
        messages[count++] = (struct ell_message){NULL, (const char *)start, (size_t)((zero != NULL ? zero : end) - start)};
    }
    try_messages(format, messages, count);
    if (count > ELL_COUNT(texts))
        try_messages(format, messages + ELL_COUNT(texts), count - ELL_COUNT(texts));
    ell_chat_free(format);
    return 0;
}

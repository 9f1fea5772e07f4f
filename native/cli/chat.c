/* chat CHAT.JSON SECONDS: reads conversations from standard input, each the number of its messages, then for each
 * message a line with its role and the size of its text, then that text. Writes for each conversation a line with its
 * text as hexadecimal digits, or "refused" and why. SECONDS since 1970, in UTC, is the date. For tests. */
#define _POSIX_C_SOURCE 200809L

#include <stdio.h>
#include <stdlib.h>

#include "chat.h"
#include "file.h"

enum { MAX_MESSAGES = 64 };

static bool read_message(struct ell_message *message, char role[16])
{
    char *text = NULL;
    message->role = role;
    bool good = scanf("%15s %zu", role, &message->size) == 2 && getchar() == '\n' &&
                (text = malloc(message->size + 1)) != NULL && fread(text, 1, message->size, stdin) == message->size;
    message->text = text;
    return good;
}

int main(int count, char **arguments)
{
    struct ell_error error = {"no chat format and no date were named"};
    struct ell_bytes file = {0}, out = {0};
    struct ell_chat_format *format = NULL;
    struct ell_message messages[MAX_MESSAGES];
    char roles[MAX_MESSAGES][16];
    size_t turns;
    bool good = count == 3 && ell_read_file(arguments[1], ELL_MAX_CHAT_BYTES, &file, &error);
    if (good)
        format = ell_chat_read((struct ell_text){(char *)file.data, file.size}, &error);
    ell_bytes_free(&file);
    good = format != NULL;
    time_t seconds = good ? (time_t)strtoll(arguments[2], NULL, 10) : 0;
    struct tm now;
    good = good && gmtime_r(&seconds, &now) != NULL;
    while (good && scanf("%zu", &turns) == 1 && turns <= MAX_MESSAGES) {
        size_t read = 0;
        while (good && read < turns) {
            good = read_message(&messages[read], roles[read]);
            read++;
        }
        out.size = 0;
        bool taken = good && ell_chat_render(format, messages, turns, &now, &out, &error);
        for (size_t i = 0; taken && i < out.size; i++)
            printf("%02x", out.data[i]);
        if (good && !taken)
            printf("refused: %s", error.text);
        printf("\n");
        while (read > 0)
            free((void *)(uintptr_t)messages[--read].text);
    }
    ell_chat_free(format);
    ell_bytes_free(&out);
    if (!good)
        fprintf(stderr, "%s\n", error.text);
    return !good;
}

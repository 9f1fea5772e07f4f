/* A small fuzzer for compilers without libFuzzer: driver SECONDS SEED FILE... calls the target with each file, then
 * with changed and mixed ones until the time is over. Prints how many inputs it tried. Build it with sanitizers. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_FILES = 256, MAX_BYTES = 1 << 16, CHANGES = 6 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t *files[MAX_FILES];
static size_t sizes[MAX_FILES], file_count;
static uint64_t state;

static size_t below(size_t most)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return most == 0 ? 0 : (size_t)(state >> 33) % most;
}

static int read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL || file_count == MAX_FILES)
        return 0;
    files[file_count] = malloc(MAX_BYTES);
    if (files[file_count] != NULL)
        sizes[file_count] = fread(files[file_count], 1, MAX_BYTES, file);
    fclose(file);
    return files[file_count++] != NULL;
}

static size_t change(uint8_t *data, size_t size)
{
    static const char *const tokens[] = {"\"", "\\", "[", "{", "]", "}", "9007199254740992", "-1", "1e999", "null",
                                         "\\ud800", "\xc3", "\xf0\x9f\x99\x82", "\0", "*", "max", "n", "0"};
    size_t at = below(size + 1), count = below(32);
    const char *token = tokens[below(sizeof tokens / sizeof *tokens)];
    switch (below(5)) {
    case 0:
        if (at < size)
            data[at] = (uint8_t)below(256);
        return size;
    case 1: /* leave bytes out */
        if (count > size - at)
            count = size - at;
        memmove(data + at, data + at + count, size - at - count);
        return size - count;
    case 2: /* repeat bytes */
        if (count > size - at || size + count > MAX_BYTES)
            return size;
        memmove(data + at + count, data + at, size - at);
        return size + count;
    case 3:
        count = strlen(token);
        if (size + count > MAX_BYTES)
            return size;
        memmove(data + at + count, data + at, size - at);
        memcpy(data + at, token, count);
        return size + count;
    default: { /* go on as another file does */
        size_t other = below(file_count), from = below(sizes[other]);
        count = sizes[other] - from;
        if (at + count > MAX_BYTES)
            return size;
        memcpy(data + at, files[other] + from, count);
        return at + count;
    }
    }
}

int main(int count, char **arguments)
{
    if (count < 4)
        return 2;
    time_t end = time(NULL) + atol(arguments[1]);
    state = (uint64_t)atoll(arguments[2]);
    for (int i = 3; i < count; i++)
        if (!read_file(arguments[i]))
            return 2;
    long tried = 0;
    for (size_t i = 0; i < file_count; i++, tried++)
        LLVMFuzzerTestOneInput(files[i], sizes[i]);
    while (time(NULL) < end) {
        size_t from = below(file_count), size = sizes[from];
        uint8_t *data = malloc(MAX_BYTES);
        if (data == NULL)
            return 2;
        memcpy(data, files[from], size);
        for (size_t changes = below(CHANGES) + 1; changes > 0; changes--)
            size = change(data, size);
        /* In memory of just its size, so that a sanitizer sees reads behind its end. */
        uint8_t *exact = malloc(size + 1);
        if (exact == NULL)
            return 2;
        memcpy(exact, data, size);
        exact = realloc(exact, size > 0 ? size : 1);
        LLVMFuzzerTestOneInput(exact, size);
        free(exact);
        free(data);
        tried++;
    }
    for (size_t i = 0; i < file_count; i++)
        free(files[i]);
    printf("%ld\n", tried);
    return 0;
}

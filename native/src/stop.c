#include "stop.h"

#include <stdlib.h>
#include <string.h>

bool ell_stops_open(struct ell_stops *stops, const struct ell_settings *settings, struct ell_error *error)
{
    size_t bytes = 0;
    *stops = (struct ell_stops){0};
    if (settings->stops > ELL_MAX_STOPS)
        return ell_fail(error, "there are %zu stop texts; give at most %d", settings->stops, ELL_MAX_STOPS);
    for (size_t i = 0; i < settings->stops; i++) {
        size_t size = strlen(settings->stop[i]);
        if (size < 1 || size > ELL_MAX_STOP_BYTES)
            return ell_fail(error, "stop text %zu has %zu bytes; give 1 to %d", i + 1, size, ELL_MAX_STOP_BYTES);
        bytes += size;
    }
    char *at = stops->memory = malloc(bytes + 1);
    if (at == NULL)
        return ell_fail_memory(error);
    for (; stops->count < settings->stops; stops->count++) {
        size_t size = strlen(settings->stop[stops->count]);
        memcpy(at, settings->stop[stops->count], size);
        stops->texts[stops->count] = (struct ell_text){at, size};
        at += size;
    }
    return true;
}

void ell_stops_close(struct ell_stops *stops)
{
    free(stops->memory);
    ell_bytes_free(&stops->held);
    *stops = (struct ell_stops){0};
}

/* Bytes before the first whole stop text; where there is none, before the first that may be beginning. */
static size_t safe(const struct ell_stops *stops, bool end, bool *stopped)
{
    size_t safe = stops->held.size;
    for (size_t at = 0; at < stops->held.size; at++) {
        size_t left = stops->held.size - at;
        for (size_t i = 0; i < stops->count; i++) {
            size_t size = stops->texts[i].size;
            if (memcmp(stops->held.data + at, stops->texts[i].data, size < left ? size : left) != 0)
                continue;
            if (size <= left) {
                *stopped = true;
                return at;
            }
            if (!end && at < safe)
                safe = at;
        }
    }
    return safe;
}

bool ell_stops_pass(struct ell_stops *stops, bool end, struct ell_bytes *out, bool *stopped)
{
    size_t size = safe(stops, end, stopped);
    if (!ell_bytes_add(out, stops->held.data, size))
        return false;
    if (*stopped)
        size = stops->held.size;
    if (size < stops->held.size)
        memmove(stops->held.data, stops->held.data + size, stops->held.size - size);
    stops->held.size -= size;
    return true;
}

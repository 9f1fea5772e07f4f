/* Texts that end an answer, found also where they come in pieces. */
#ifndef ELL_STOP_H
#define ELL_STOP_H

#include "base.h"

enum { ELL_MAX_STOPS = 16, ELL_MAX_STOP_BYTES = 256 };

struct ell_stops {
    char *memory;
    struct ell_text texts[ELL_MAX_STOPS];
    size_t count;
    struct ell_bytes held; /* what has not passed; new text is added here */
};

/* Copies the stop texts of the settings, or says what is wrong with them. */
bool ell_stops_open(struct ell_stops *stops, const struct ell_settings *settings, struct ell_error *error);
void ell_stops_close(struct ell_stops *stops);
/* Move what cannot be a part of a stop text from `held` to `out`; at the end, all of it. After `stopped`, what was
 * behind the stop text is gone. False only without memory. */
bool ell_stops_pass(struct ell_stops *stops, bool end, struct ell_bytes *out, bool *stopped);

#endif

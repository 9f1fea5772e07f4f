/* Chat formats: what `edgellm package` makes of a model's chat template (docs/chat.md), and conversations through one. */
#ifndef ELL_CHAT_H
#define ELL_CHAT_H

#include <time.h>

#include "json.h"

enum { ELL_MAX_CHAT_BYTES = 1 << 20, ELL_MAX_CHAT_PIECES = 64, ELL_MAX_CHAT_MARK = 64 };

enum ell_chat_kind { ELL_CHAT_TEXT, ELL_CHAT_CONTENT, ELL_CHAT_SYSTEM, ELL_CHAT_DATE };
enum ell_chat_trim { ELL_KEEP, ELL_TRIM_LINES, ELL_TRIM_SPACE };
/* Where a message stands among those of its conversation. */
enum ell_chat_place { ELL_TURN_ONLY, ELL_TURN_FIRST, ELL_TURN_ASSISTANT, ELL_TURN_MIDDLE, ELL_TURN_LAST, ELL_TURN_PLACES };

struct ell_chat_piece {
    enum ell_chat_kind kind;
    struct ell_text text; /* itself, or the date's pattern */
    enum ell_chat_trim left, right; /* of what is put here */
    struct ell_text after; /* where it has these, only what is behind the last of them is put, */
    enum ell_chat_trim after_left; /* with this taken from its beginning */
};

struct ell_chat_block {
    struct ell_chat_piece *pieces;
    size_t count;
};

struct ell_chat_format {
    struct ell_arena arena;
    bool takes_system; /* whether there are blocks for conversations with a system message */
    enum { ELL_DROP_NEVER, ELL_DROP_EMPTY, ELL_DROP_BLANK } drop; /* which system messages count as none */
    struct ell_chat_block blocks[2][ELL_TURN_PLACES]; /* without, and with a system message */
};

struct ell_chat_format *ell_chat_read(struct ell_text text, struct ell_error *error);
void ell_chat_free(struct ell_chat_format *format);

/* Append the text of a conversation, at most ELL_MAX_TEXT_BYTES. `now`: for templates that tell the date. */
bool ell_chat_render(const struct ell_chat_format *format, const struct ell_message *messages, size_t count,
                     const struct tm *now, struct ell_bytes *out, struct ell_error *error);

#endif

#include "chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer.h"
#include "utf8.h"

static const char *const PLACES[] = {"only", "first", "assistant", "middle", "last"};
static const char *const TRIMS[] = {"keep", "lines", "space"};
static const char *const DROPS[] = {"never", "empty", "blank"};

/* Which of some names a value is, `other` without a value; false for anything else. */
static bool read_name(struct ell_json value, const char *const *names, size_t count, int other, int *found)
{
    *found = other;
    if (value.at == NULL)
        return true;
    if (!ell_json_is(value, ELL_STRING))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!ell_text_is((struct ell_text){value.at + 1, (size_t)(value.end - value.at) - 2}, names[i]))
            continue;
        *found = (int)i;
        return true;
    }
    return false;
}

static bool read_trim(struct ell_json value, enum ell_chat_trim *trim)
{
    int found;
    bool good = read_name(value, TRIMS, ELL_COUNT(TRIMS), ELL_KEEP, &found);
    *trim = (enum ell_chat_trim)found;
    return good;
}

static bool read_slot(struct ell_chat_format *format, struct ell_json value, struct ell_chat_piece *piece,
                      struct ell_error *error)
{
    static const char *const kinds[] = {"", "content", "system"};
    struct ell_json put, left, right, after, after_left, date;
    const struct ell_field fields[] = {{"put", &put, false}, {"left", &left, false}, {"right", &right, false},
                                       {"after", &after, false}, {"after_left", &after_left, false}};
    const struct ell_field of_date[] = {{"date", &date, true}};
    int kind;
    if (ell_json_fields(value, "", false, of_date, 1, NULL) && ell_json_is(date, ELL_STRING)) {
        piece->kind = ELL_CHAT_DATE;
        return ell_json_string(date, &format->arena, &piece->text) || ell_fail_memory(error);
    }
    if (!ell_json_fields(value, "a piece", false, fields, ELL_COUNT(fields), error))
        return false;
    if (!read_name(put, kinds, ELL_COUNT(kinds), 0, &kind) || kind == 0 || !read_trim(left, &piece->left) ||
        !read_trim(right, &piece->right) || !read_trim(after_left, &piece->after_left))
        return ell_fail(error, "a piece is not as it should be");
    piece->kind = (enum ell_chat_kind)kind;
    if (after.at == NULL)
        return true;
    if (!ell_json_is(after, ELL_STRING) || after.end - after.at < 3 || after.end - after.at > ELL_MAX_CHAT_MARK)
        return ell_fail(error, "a piece has a mark that is empty or too long");
    return ell_json_string(after, &format->arena, &piece->after) || ell_fail_memory(error);
}

static bool read_block(struct ell_chat_format *format, struct ell_json value, bool system,
                       struct ell_chat_block *block, struct ell_error *error)
{
    struct ell_json_walk walk = ell_json_values(value);
    struct ell_json one;
    size_t contents = 0;
    block->count = ell_json_is(value, ELL_ARRAY) ? ell_json_length(value) : 0;
    if (block->count < 1 || block->count > ELL_MAX_CHAT_PIECES)
        return ell_fail(error, "a block has no pieces, or more than %d", ELL_MAX_CHAT_PIECES);
    block->pieces = ell_arena_new(&format->arena, block->count, sizeof *block->pieces);
    if (block->pieces == NULL)
        return ell_fail_memory(error);
    for (struct ell_chat_piece *piece = block->pieces; ell_json_next(&walk, NULL, &one); piece++) {
        if (ell_json_is(one, ELL_STRING)) {
            if (!ell_json_string(one, &format->arena, &piece->text))
                return ell_fail_memory(error);
        } else if (!ell_json_is(one, ELL_OBJECT)) {
            return ell_fail(error, "a piece is neither a text nor an object");
        } else if (!read_slot(format, one, piece, error)) {
            return false;
        }
        contents += piece->kind == ELL_CHAT_CONTENT;
        if (piece->kind == ELL_CHAT_SYSTEM && !system)
            return ell_fail(error, "a system message is put where there is none");
    }
    return contents == 1 || ell_fail(error, "a block does not have one place for its message");
}

static bool read_blocks(struct ell_chat_format *format, struct ell_json value, bool system, struct ell_error *error)
{
    struct ell_json found[ELL_TURN_PLACES];
    struct ell_field fields[ELL_TURN_PLACES];
    for (size_t i = 0; i < ELL_TURN_PLACES; i++)
        fields[i] = (struct ell_field){PLACES[i], &found[i], true};
    if (!ell_json_fields(value, "a set of blocks", false, fields, ELL_COUNT(fields), error))
        return false;
    for (size_t i = 0; i < ELL_TURN_PLACES; i++)
        if (!read_block(format, found[i], system, &format->blocks[system][i], error))
            return false;
    return true;
}

static bool read_format(struct ell_chat_format *format, struct ell_text text, struct ell_error *error)
{
    struct ell_json value, version, drop, plain, system;
    const struct ell_field head[] = {{"format", &version, true}};
    const struct ell_field fields[] = {{"format", &version, true}, {"drop_system", &drop, false},
                                       {"plain", &plain, true}, {"system", &system, true}};
    int64_t number;
    int drops;
    if (text.size > ELL_MAX_CHAT_BYTES)
        return ell_fail(error, "it is larger than %d MiB: it is no chat format", ELL_MAX_CHAT_BYTES >> 20);
    if (!ell_json_check(text, &value, error) || !ell_json_fields(value, "it", true, head, 1, error))
        return false;
    if (!ell_json_whole(version, &number) || number != 1)
        return ell_fail(error, "its format is not 1; this app must be newer to read it");
    if (!ell_json_fields(value, "it", false, fields, ELL_COUNT(fields), error))
        return false;
    if (!read_name(drop, DROPS, ELL_COUNT(DROPS), ELL_DROP_NEVER, &drops))
        return ell_fail(error, "drop_system is not as it should be");
    format->drop = drops == ELL_DROP_EMPTY ? ELL_DROP_EMPTY : drops == ELL_DROP_BLANK ? ELL_DROP_BLANK : ELL_DROP_NEVER;
    format->takes_system = !ell_json_is(system, ELL_NULL);
    return read_blocks(format, plain, false, error) &&
           (!format->takes_system || read_blocks(format, system, true, error));
}

struct ell_chat_format *ell_chat_read(struct ell_text text, struct ell_error *error)
{
    struct ell_chat_format *format = calloc(1, sizeof *format);
    if (format == NULL)
        ell_fail_memory(error);
    else if (read_format(format, text, error))
        return format;
    ell_chat_free(format);
    return NULL;
}

void ell_chat_free(struct ell_chat_format *format)
{
    if (format == NULL)
        return;
    ell_arena_free(&format->arena);
    free(format);
}

/* What Python's str.strip takes away. */
static bool is_space(uint32_t code)
{
    return (code >= 0x09 && code <= 0x0D) || (code >= 0x1C && code <= 0x20) || code == 0x85 || code == 0xA0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 ||
           code == 0x202F || code == 0x205F || code == 0x3000;
}

static bool trimmed(uint32_t code, enum ell_chat_trim trim)
{
    return trim == ELL_TRIM_SPACE ? is_space(code) : trim == ELL_TRIM_LINES && code == '\n';
}

static struct ell_text trim_left(struct ell_text text, enum ell_chat_trim trim)
{
    uint32_t code;
    while (text.size > 0) {
        size_t length = ell_utf8_step(text, &code);
        if (!trimmed(code, trim))
            break;
        text = (struct ell_text){text.data + length, text.size - length};
    }
    return text;
}

static struct ell_text trim_right(struct ell_text text, enum ell_chat_trim trim)
{
    uint32_t code;
    while (text.size > 0) {
        size_t last = text.size - 1;
        while (last > 0 && ((unsigned char)text.data[last] & 0xC0) == 0x80)
            last--;
        ell_utf8_step((struct ell_text){text.data + last, text.size - last}, &code);
        if (!trimmed(code, trim))
            break;
        text.size = last;
    }
    return text;
}

/* What comes behind the last mark; all of `text` where there is no mark. */
static struct ell_text behind(struct ell_text text, struct ell_text mark, enum ell_chat_trim trim)
{
    for (size_t at = text.size + 1 - (mark.size <= text.size ? mark.size : text.size + 1); at > 0; at--) {
        if (memcmp(text.data + at - 1, mark.data, mark.size) == 0) {
            size_t start = at - 1 + mark.size;
            return trim_left((struct ell_text){text.data + start, text.size - start}, trim);
        }
    }
    return text;
}

static bool add(struct ell_bytes *out, const char *data, size_t size, struct ell_error *error)
{
    if (size > ELL_MAX_TEXT_BYTES || out->size > ELL_MAX_TEXT_BYTES - size)
        return ell_fail(error, "the conversation has more than %d MiB", ELL_MAX_TEXT_BYTES >> 20);
    return ell_bytes_add(out, data, size) || ell_fail_memory(error);
}

/* As strftime does in English. */
static bool add_date(struct ell_bytes *out, struct ell_text pattern, const struct tm *now, struct ell_error *error)
{
    static const char *const days[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
    static const char *const months[] = {"January", "February", "March", "April", "May", "June", "July", "August",
                                         "September", "October", "November", "December"};
    for (size_t i = 0; i < pattern.size; i++) {
        char text[32] = {pattern.data[i]};
        if (pattern.data[i] == '%') {
            const char *day = days[(unsigned)now->tm_wday % 7], *month = months[(unsigned)now->tm_mon % 12];
            switch (i + 1 < pattern.size ? pattern.data[++i] : '\0') {
            case 'a': snprintf(text, sizeof text, "%.3s", day); break;
            case 'A': snprintf(text, sizeof text, "%s", day); break;
            case 'b': snprintf(text, sizeof text, "%.3s", month); break;
            case 'B': snprintf(text, sizeof text, "%s", month); break;
            case 'd': snprintf(text, sizeof text, "%02d", now->tm_mday); break;
            case 'H': snprintf(text, sizeof text, "%02d", now->tm_hour); break;
            case 'M': snprintf(text, sizeof text, "%02d", now->tm_min); break;
            case 'm': snprintf(text, sizeof text, "%02d", now->tm_mon + 1); break;
            case 'Y': snprintf(text, sizeof text, "%d", now->tm_year + 1900); break;
            case 'y': snprintf(text, sizeof text, "%02d", now->tm_year % 100); break;
            case '%': break;
            default: return ell_fail(error, "the chat format asks for a date in a way that is not known");
            }
        }
        /* Other bytes pass one at a time, also those of characters with several. */
        if (!add(out, text, text[0] == '\0' ? 1 : strlen(text), error))
            return false;
    }
    return true;
}

static bool add_block(struct ell_bytes *out, const struct ell_chat_block *block, struct ell_text content,
                      struct ell_text system, const struct tm *now, struct ell_error *error)
{
    for (size_t i = 0; i < block->count; i++) {
        const struct ell_chat_piece *piece = &block->pieces[i];
        struct ell_text text = piece->kind == ELL_CHAT_CONTENT ? content
                             : piece->kind == ELL_CHAT_SYSTEM  ? system
                                                               : piece->text;
        if (piece->kind == ELL_CHAT_DATE) {
            if (!add_date(out, text, now, error))
                return false;
            continue;
        }
        if (piece->after.size > 0)
            text = behind(text, piece->after, piece->after_left);
        text = trim_right(trim_left(text, piece->left), piece->right);
        if (!add(out, text.data, text.size, error))
            return false;
    }
    return true;
}

static bool check_message(const struct ell_message *message, size_t number, struct ell_error *error)
{
    uint32_t code;
    struct ell_text text = {message->text, message->size};
    for (size_t at = 0, length; at < text.size; at += length) {
        length = ell_utf8_next((struct ell_text){text.data + at, text.size - at}, &code);
        if (length == 0)
            return ell_fail(error, "message %zu is no UTF-8 from byte %zu on", number, at);
    }
    return true;
}

bool ell_chat_render(const struct ell_chat_format *format, const struct ell_message *messages, size_t count,
                     const struct tm *now, struct ell_bytes *out, struct ell_error *error)
{
    bool given = count > 0 && strcmp(messages[0].role, "system") == 0, system = given;
    struct ell_text head = {NULL, 0};
    for (size_t i = 0; i < count; i++)
        if (!check_message(&messages[i], i + 1, error))
            return false;
    if (given) {
        head = (struct ell_text){messages[0].text, messages[0].size};
        size_t left = format->drop == ELL_DROP_BLANK ? trim_left(head, ELL_TRIM_SPACE).size : head.size;
        system = left > 0 || format->drop == ELL_DROP_NEVER;
        if (system && !format->takes_system)
            return ell_fail(error, "the chat format of this model takes no system message; put its text into the "
                                   "first message of the user");
    }
    size_t turns = count - given;
    if (turns % 2 != 1)
        return ell_fail(error, "the conversation must end with a message of the user, and user and assistant take "
                               "turns in it");
    for (size_t i = 0; i < turns; i++) {
        const struct ell_message *message = &messages[i + given];
        struct ell_text content = {message->text, message->size};
        if (strcmp(message->role, i % 2 == 0 ? "user" : "assistant") != 0)
            return ell_fail(error, "message %zu has the role %.20s: a system message may come first, then user and "
                                   "assistant take turns",
                            i + given + 1, message->role);
        if (i % 2 == 0 && trim_left(content, ELL_TRIM_SPACE).size == 0)
            return ell_fail(error, "message %zu is empty; write something", i + given + 1);
        enum ell_chat_place place = i % 2 == 1       ? ELL_TURN_ASSISTANT
                                  : turns == 1       ? ELL_TURN_ONLY
                                  : i == 0           ? ELL_TURN_FIRST
                                  : i + 1 == turns   ? ELL_TURN_LAST
                                                     : ELL_TURN_MIDDLE;
        if (!add_block(out, &format->blocks[system][place], content, head, now, error))
            return false;
    }
    return true;
}

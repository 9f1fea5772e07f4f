#include "json.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "utf8.h"

struct reader {
    const char *at, *end;
    unsigned depth;
};

static const char *skip_space(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r'))
        at++;
    return at;
}

static bool hex_value(const char *at, const char *end, uint32_t *value)
{
    if (end - at < 4)
        return false;
    *value = 0;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        uint32_t digit;
        if (c >= '0' && c <= '9')
            digit = (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (uint32_t)(c - 'a') + 10;
        else if (c >= 'A' && c <= 'F')
            digit = (uint32_t)(c - 'A') + 10;
        else
            return false;
        *value = *value << 4 | digit;
    }
    return true;
}

static bool check_string(struct reader *reader)
{
    const char *at = reader->at + 1, *end = reader->end;
    while (at < end && *at != '"') {
        if ((unsigned char)*at < 0x20)
            return false;
        if (*at == '\\') {
            uint32_t code;
            if (++at == end || strchr("\"\\/bfnrtu", *at) == NULL || *at == '\0')
                return false;
            if (*at == 'u') {
                if (!hex_value(at + 1, end, &code))
                    return false;
                at += 4;
            }
            at++;
        } else if ((unsigned char)*at < 0x80) {
            at++;
        } else {
            uint32_t code;
            size_t length = ell_utf8_next((struct ell_text){at, (size_t)(end - at)}, &code);
            if (length < 2)
                return false;
            at += length;
        }
    }
    reader->at = at + 1;
    return at < end;
}

static const char *skip_digits(const char *at, const char *end)
{
    while (at < end && *at >= '0' && *at <= '9')
        at++;
    return at;
}

static bool check_number(struct reader *reader)
{
    const char *at = reader->at, *end = reader->end, *start;
    if (at < end && *at == '-')
        at++;
    start = at;
    at = skip_digits(at, end);
    if (at == start || (*start == '0' && at > start + 1))
        return false;
    if (at < end && *at == '.') {
        start = ++at;
        at = skip_digits(at, end);
        if (at == start)
            return false;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        if (at < end && (*at == '+' || *at == '-'))
            at++;
        start = at;
        at = skip_digits(at, end);
        if (at == start)
            return false;
    }
    reader->at = at;
    return true;
}

static bool check_word(struct reader *reader, const char *word)
{
    size_t size = strlen(word);
    if ((size_t)(reader->end - reader->at) < size || memcmp(reader->at, word, size) != 0)
        return false;
    reader->at += size;
    return true;
}

static bool check_value(struct reader *reader);

static bool check_parts(struct reader *reader, bool object)
{
    char close = object ? '}' : ']';
    if (++reader->depth > ELL_JSON_DEPTH)
        return false;
    reader->at = skip_space(reader->at + 1, reader->end);
    if (reader->at < reader->end && *reader->at == close) {
        reader->at++;
        reader->depth--;
        return true;
    }
    for (;;) {
        if (object) {
            if (reader->at == reader->end || *reader->at != '"' || !check_string(reader))
                return false;
            reader->at = skip_space(reader->at, reader->end);
            if (reader->at == reader->end || *reader->at++ != ':')
                return false;
        }
        if (!check_value(reader))
            return false;
        reader->at = skip_space(reader->at, reader->end);
        if (reader->at == reader->end)
            return false;
        char next = *reader->at++;
        if (next == close)
            break;
        if (next != ',')
            return false;
        reader->at = skip_space(reader->at, reader->end);
    }
    reader->depth--;
    return true;
}

static bool check_value(struct reader *reader)
{
    reader->at = skip_space(reader->at, reader->end);
    if (reader->at == reader->end)
        return false;
    switch (*reader->at) {
    case '{':
        return check_parts(reader, true);
    case '[':
        return check_parts(reader, false);
    case '"':
        return check_string(reader);
    case 't':
        return check_word(reader, "true");
    case 'f':
        return check_word(reader, "false");
    case 'n':
        return check_word(reader, "null");
    default:
        return check_number(reader);
    }
}

bool ell_json_check(struct ell_text text, struct ell_json *value, struct ell_error *error)
{
    if (text.size == 0)
        return ell_fail(error, "it is empty");
    const char *end = text.data + text.size;
    struct reader reader = {text.data, end, 0};
    const char *start = skip_space(reader.at, end);
    bool whole = check_value(&reader);
    *value = (struct ell_json){start, reader.at};
    if (!whole || skip_space(reader.at, end) != end)
        return ell_fail(error, "it is no JSON from byte %zu on", (size_t)(reader.at - text.data));
    return true;
}

enum ell_json_type ell_json_type(struct ell_json value)
{
    switch (*value.at) {
    case '{':
        return ELL_OBJECT;
    case '[':
        return ELL_ARRAY;
    case '"':
        return ELL_STRING;
    case 't':
    case 'f':
        return ELL_BOOL;
    case 'n':
        return ELL_NULL;
    default:
        return ELL_NUMBER;
    }
}

bool ell_json_is(struct ell_json value, enum ell_json_type type)
{
    return value.at != NULL && ell_json_type(value) == type;
}

bool ell_json_true(struct ell_json value)
{
    return value.at != NULL && *value.at == 't';
}

/* Behind the string at `at`. The text has been checked, so there is an end. */
static const char *skip_string(const char *at)
{
    for (at++; *at != '"'; at++)
        if (*at == '\\')
            at++;
    return at + 1;
}

static const char *skip_value(const char *at, const char *end)
{
    unsigned depth = 0;
    do {
        if (*at == '"') {
            at = skip_string(at);
        } else if (*at == '{' || *at == '[') {
            depth++;
            at++;
        } else if (*at == '}' || *at == ']') {
            depth--;
            at++;
        } else if (depth != 0) {
            at++;
        } else {
            while (at < end && strchr(",]} \n\t\r", *at) == NULL)
                at++;
        }
    } while (depth != 0);
    return at;
}

struct ell_json_walk ell_json_values(struct ell_json value)
{
    if (!ell_json_is(value, ELL_ARRAY) && !ell_json_is(value, ELL_OBJECT))
        return (struct ell_json_walk){NULL, NULL};
    return (struct ell_json_walk){skip_space(value.at + 1, value.end), value.end - 1};
}

bool ell_json_next(struct ell_json_walk *walk, struct ell_text *key, struct ell_json *value)
{
    if (walk->at == walk->end)
        return false;
    const char *at = walk->at, *end = walk->end;
    if (key != NULL) {
        const char *behind = skip_string(at);
        *key = (struct ell_text){at + 1, (size_t)(behind - at) - 2};
        at = skip_space(skip_space(behind, end) + 1, end);
    }
    const char *behind = skip_value(at, end);
    *value = (struct ell_json){at, behind};
    at = skip_space(behind, end);
    walk->at = at < end ? skip_space(at + 1, end) : end;
    return true;
}

size_t ell_json_length(struct ell_json value)
{
    struct ell_json_walk walk = ell_json_values(value);
    struct ell_text key;
    struct ell_json one;
    size_t count = 0;
    bool object = ell_json_is(value, ELL_OBJECT);
    while (ell_json_next(&walk, object ? &key : NULL, &one))
        count++;
    return count;
}

static size_t resolve_escape(const char *at, const char *end, char *out, size_t *written)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *found = strchr(from, *at);
    if (found != NULL) {
        out[0] = to[found - from];
        *written = 1;
        return 1;
    }
    uint32_t code = 0, low = 0;
    size_t read = 5;
    hex_value(at + 1, end, &code);
    if (code >= 0xD800 && code < 0xDC00 && end - at > 10 && at[5] == '\\' && at[6] == 'u' &&
        hex_value(at + 7, end, &low) && low >= 0xDC00 && low < 0xE000) {
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        read = 11;
    }
    *written = ell_utf8_write(code, out);
    return read;
}

bool ell_json_key(struct ell_text key, struct ell_arena *arena, struct ell_text *text)
{
    /* No escape is shorter than what it stands for. */
    char *out = ell_arena_new(arena, key.size + 1, 1);
    if (out == NULL)
        return false;
    const char *at = key.data, *end = key.data + key.size;
    size_t size = 0;
    while (at < end) {
        if (*at != '\\') {
            out[size++] = *at++;
        } else {
            size_t written;
            at += 1 + resolve_escape(at + 1, end, out + size, &written);
            size += written;
        }
    }
    *text = (struct ell_text){out, size};
    return true;
}

bool ell_json_string(struct ell_json value, struct ell_arena *arena, struct ell_text *text)
{
    return ell_json_key((struct ell_text){value.at + 1, (size_t)(value.end - value.at) - 2}, arena, text);
}

bool ell_json_whole(struct ell_json value, int64_t *number)
{
    if (!ell_json_is(value, ELL_NUMBER))
        return false;
    int64_t result = 0;
    for (const char *at = value.at; at < value.end; at++) {
        if (*at < '0' || *at > '9')
            return false;
        result = result * 10 + (*at - '0');
        if (result >= INT64_C(1) << 53)
            return false;
    }
    *number = result;
    return true;
}

bool ell_json_double(struct ell_json value, double *number)
{
    char digits[64];
    size_t size = value.at != NULL ? (size_t)(value.end - value.at) : 0;
    if (!ell_json_is(value, ELL_NUMBER) || size >= sizeof digits)
        return false;
    memcpy(digits, value.at, size);
    digits[size] = '\0';
    char *behind;
    *number = strtod(digits, &behind);
    if (behind != digits + size && *behind == '.') {
        /* The program that this is part of has set a locale that writes a comma, or the like. */
        *behind = *localeconv()->decimal_point;
        *number = strtod(digits, &behind);
    }
    return behind == digits + size && *number - *number == 0; /* not infinite */
}

bool ell_json_fields(struct ell_json object, const char *what, bool open, const struct ell_field *fields,
                     size_t count, struct ell_error *error)
{
    if (!ell_json_is(object, ELL_OBJECT))
        return ell_fail(error, "%s is no object", what);
    for (size_t i = 0; i < count; i++)
        *fields[i].value = (struct ell_json){NULL, NULL};
    struct ell_json_walk walk = ell_json_values(object);
    struct ell_text key;
    struct ell_json value;
    while (ell_json_next(&walk, &key, &value)) {
        size_t i = 0;
        while (i < count && !ell_text_is(key, fields[i].name))
            i++;
        if (i < count && fields[i].value->at != NULL)
            return ell_fail(error, "%s has the field %s twice", what, fields[i].name);
        if (i < count)
            *fields[i].value = value;
        else if (!open)
            return ell_fail(error, "%s has an unknown field %.*s", what, ELL_SHOWN(key));
    }
    for (size_t i = 0; i < count; i++)
        if (fields[i].required && fields[i].value->at == NULL)
            return ell_fail(error, "%s has no field %s", what, fields[i].name);
    return true;
}

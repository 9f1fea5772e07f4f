/* Tokens to text, as the decoders of the `tokenizers` library: in pieces that add up to the whole. */
#include <string.h>

#include "tokenizer.h"
#include "utf8.h"

uint32_t ell_byte_character(uint8_t byte)
{
    /* GPT-2's stand-ins: printable bytes of Latin-1 are themselves, the others follow from U+0100 on. */
    if ((byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE)
        return byte;
    if (byte <= 0x20)
        return 0x100u + byte;
    return byte == 0xAD ? 0x143u : 0x121u + (byte - 0x7Fu);
}

int ell_character_byte(uint32_t code)
{
    if (code < 0x100)
        return ell_byte_character((uint8_t)code) == code ? (int)code : -1;
    if (code <= 0x120)
        return (int)(code - 0x100);
    if (code <= 0x142)
        return (int)(code - 0x121 + 0x7F);
    return code == 0x143 ? 0xAD : -1;
}

/* Text that is known to be whole, less the spaces that are taken from the start of all. */
static bool emit(struct ell_decoding *decoding, const void *data, size_t size, struct ell_bytes *out)
{
    const char *at = data;
    while (size > 0 && decoding->stripped < decoding->tokenizer->decoder.strip && *at == ' ') {
        decoding->stripped++;
        at++;
        size--;
    }
    if (size > 0)
        decoding->stripped = decoding->tokenizer->decoder.strip;
    return ell_bytes_add(out, at, size);
}

static bool emit_broken(struct ell_decoding *decoding, struct ell_bytes *out)
{
    char bytes[4];
    return emit(decoding, bytes, ell_utf8_write(ELL_REPLACEMENT, bytes), out);
}

/* Give held bytes out, up to where a character may still be incomplete unless this is the `end`. */
static bool emit_held(struct ell_decoding *decoding, bool end, struct ell_bytes *out)
{
    struct ell_bytes *held = &decoding->held;
    size_t at = 0;
    bool good = true;
    while (good && at < held->size) {
        struct ell_text rest = {(char *)held->data + at, held->size - at};
        uint32_t code;
        if (!end && ell_utf8_begun(rest) != 0)
            break;
        size_t length = ell_utf8_next(rest, &code);
        if (length != 0) {
            good = emit(decoding, rest.data, length, out);
        } else {
            length = ell_utf8_step(rest, &code);
            good = emit_broken(decoding, out);
        }
        at += length;
    }
    if (at != 0)
        memmove(held->data, held->data + at, held->size - at);
    held->size -= at;
    return good;
}

static bool is_utf8(const struct ell_bytes *bytes)
{
    uint32_t code;
    size_t at = 0, length = 1;
    while (at < bytes->size && length != 0) {
        length = ell_utf8_next((struct ell_text){(char *)bytes->data + at, bytes->size - at}, &code);
        at += length;
    }
    return length != 0;
}

/* The end of a run of byte tokens: a run that is not well-formed as a whole gives U+FFFD for each of its bytes. */
static bool end_run(struct ell_decoding *decoding, struct ell_bytes *out)
{
    bool good = true;
    if (is_utf8(&decoding->held)) {
        good = emit(decoding, decoding->held.data, decoding->held.size, out);
    } else {
        for (size_t i = 0; good && i < decoding->held.size; i++)
            good = emit_broken(decoding, out);
    }
    decoding->held.size = 0;
    return good;
}

static int fallback_byte(struct ell_text text)
{
    static const char digits[] = "0123456789ABCDEF", lower[] = "0123456789abcdef";
    if (text.size != 6 || memcmp(text.data, "<0x", 3) != 0 || text.data[5] != '>')
        return -1;
    int value = 0;
    for (int i = 3; i < 5; i++) {
        const char *found = memchr(digits, text.data[i], 16);
        const char *other = memchr(lower, text.data[i], 16);
        if (found == NULL && other == NULL)
            return -1;
        value = value * 16 + (int)(found != NULL ? found - digits : other - lower);
    }
    return value;
}

static bool decode_byte_level(struct ell_decoding *decoding, struct ell_text text, struct ell_bytes *out)
{
    struct ell_bytes *held = &decoding->held;
    size_t before = held->size;
    bool good = true;
    for (size_t at = 0; good && at < text.size;) {
        uint32_t code;
        at += ell_utf8_step((struct ell_text){text.data + at, text.size - at}, &code);
        int byte = ell_character_byte(code);
        if (byte < 0) {
            /* Not made of stand-ins: an added token, which stands for its own text. */
            held->size = before;
            good = ell_bytes_add(held, text.data, text.size);
            break;
        }
        uint8_t one = (uint8_t)byte;
        good = ell_bytes_add(held, &one, 1);
    }
    return good && emit_held(decoding, false, out);
}

static bool decode_pieces(struct ell_decoding *decoding, struct ell_text text, bool first, struct ell_bytes *out)
{
    const struct ell_decoder *decoder = &decoding->tokenizer->decoder;
    int byte = decoder->byte_fallback ? fallback_byte(text) : -1;
    if (byte >= 0) {
        uint8_t one = (uint8_t)byte;
        return ell_bytes_add(&decoding->held, &one, 1) &&
               (!decoding->at_once || !is_utf8(&decoding->held) || end_run(decoding, out));
    }
    bool good = end_run(decoding, out);
    for (size_t at = 0, start = 0; good && at <= text.size;) {
        bool found = decoder->from.size != 0 && text.size - at >= decoder->from.size &&
                     memcmp(text.data + at, decoder->from.data, decoder->from.size) == 0;
        if (!found && at < text.size) {
            at++;
            continue;
        }
        good = emit(decoding, text.data + start, at - start, out);
        if (found && !(first && decoder->strip_first))
            good = good && emit(decoding, decoder->to.data, decoder->to.size, out);
        at = start = at + (found ? decoder->from.size : 1);
    }
    return good;
}

bool ell_decode(struct ell_decoding *decoding, int32_t id, struct ell_bytes *out)
{
    const struct ell_tokenizer *tokenizer = decoding->tokenizer;
    if (id < 0 || (size_t)id >= tokenizer->token_count)
        return true;
    const struct ell_token *token = &tokenizer->tokens[id];
    if (token->text.data == NULL || (token->special && !decoding->keep_special))
        return true;
    bool first = !decoding->started;
    decoding->started = true;
    if (tokenizer->decoder.kind == ELL_DECODE_BYTE_LEVEL)
        return decode_byte_level(decoding, token->text, out);
    return decode_pieces(decoding, token->text, first, out);
}

bool ell_decode_end(struct ell_decoding *decoding, struct ell_bytes *out)
{
    bool byte_level = decoding->tokenizer->decoder.kind == ELL_DECODE_BYTE_LEVEL;
    bool good = byte_level ? emit_held(decoding, true, out) : end_run(decoding, out);
    ell_bytes_free(&decoding->held);
    return good;
}

#include "tokenizer_stages.h"

#include <stdio.h>

/* How ByteLevel cuts a text where it is told to (GPT-2). */
static const char GPT2_PATTERN[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

bool ell_stage_is(struct ell_json value, const char *word)
{
    return ell_json_is(value, ELL_STRING) &&
           ell_text_is((struct ell_text){value.at + 1, (size_t)(value.end - value.at) - 2}, word);
}

bool ell_stage_has_text(struct ell_json value)
{
    return ell_json_is(value, ELL_STRING) && value.end - value.at > 2;
}

static struct ell_json field(struct ell_json object, const char *name)
{
    struct ell_json value;
    const struct ell_field wanted[] = {{name, &value, false}};
    return ell_json_fields(object, "", true, wanted, 1, NULL) ? value : (struct ell_json){NULL, NULL};
}

static bool unknown(struct ell_json value, const char *what, struct ell_error *error)
{
    struct ell_text text = {value.at, (size_t)(value.end - value.at)};
    return ell_fail(error, "its %s %.*s is not implemented", what, ELL_SHOWN(text));
}

/* A string field; without text if it is not there. */
static bool read_text(struct ell_tokenizer *tokenizer, struct ell_json value, struct ell_text *text)
{
    *text = (struct ell_text){"", 0};
    return !ell_json_is(value, ELL_STRING) || ell_json_string(value, &tokenizer->arena, text);
}

typedef bool stage_function(struct ell_tokenizer *tokenizer, struct ell_json value, struct ell_error *error);

/* Read a stage, or in order the stages that a Sequence has in the field `parts`. */
static bool read_stages(struct ell_tokenizer *tokenizer, struct ell_json value, const char *parts,
                        stage_function *read, const char *what, struct ell_error *error)
{
    if (value.at == NULL || ell_json_is(value, ELL_NULL))
        return true;
    if (!ell_stage_is(field(value, "type"), "Sequence"))
        return read(tokenizer, value, error);
    struct ell_json list = field(value, parts), one;
    struct ell_json_walk walk = ell_json_values(list);
    if (!ell_json_is(list, ELL_ARRAY))
        return unknown(value, what, error);
    while (ell_json_next(&walk, NULL, &one))
        if (!read(tokenizer, one, error))
            return false;
    return true;
}

static bool read_normalizer(struct ell_tokenizer *tokenizer, struct ell_json value, struct ell_error *error)
{
    struct ell_json type = field(value, "type"), pattern = field(field(value, "pattern"), "String");
    if (tokenizer->normalizer_count == ELL_MAX_STAGES)
        return unknown(value, "normalizer", error);
    struct ell_normalizer *one = &tokenizer->normalizers[tokenizer->normalizer_count++];
    if (ell_stage_is(type, "NFC"))
        one->kind = ELL_COMPOSE;
    else if (ell_stage_is(type, "Prepend") && ell_stage_has_text(field(value, "prepend")))
        one->kind = ELL_PREPEND;
    else if (ell_stage_is(type, "Replace") && ell_stage_has_text(pattern) &&
             ell_json_is(field(value, "content"), ELL_STRING))
        one->kind = ELL_REPLACE;
    else
        return unknown(value, "normalizer", error);
    struct ell_json to = field(value, one->kind == ELL_PREPEND ? "prepend" : "content");
    return (read_text(tokenizer, pattern, &one->from) && read_text(tokenizer, to, &one->to)) ||
           ell_fail_memory(error);
}

bool ell_read_normalizers(struct ell_tokenizer *tokenizer, struct ell_json value, struct ell_error *error)
{
    return read_stages(tokenizer, value, "normalizers", read_normalizer, "normalizer", error);
}

static bool read_split(struct ell_tokenizer *tokenizer, struct ell_json value, struct ell_cut *one,
                       struct ell_error *error)
{
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext"};
    struct ell_json pattern = field(value, "pattern"), text = field(pattern, "String");
    struct ell_json expression = field(pattern, "Regex"), behaviour = field(value, "behavior");
    unsigned found = 0;
    while (found < ELL_COUNT(names) && !ell_stage_is(behaviour, names[found]))
        found++;
    if (found == ELL_COUNT(names) || ell_json_true(field(value, "invert")))
        return unknown(value, "pre-tokenizer", error);
    one->behaviour = (enum ell_behaviour)found;
    one->kind = ell_stage_has_text(expression) ? ELL_CUT_REGEX : ELL_CUT_TEXT;
    if (one->kind == ELL_CUT_TEXT && !ell_stage_has_text(text))
        return unknown(value, "pre-tokenizer", error);
    if (!read_text(tokenizer, one->kind == ELL_CUT_REGEX ? expression : text, &one->text))
        return ell_fail_memory(error);
    if (one->kind == ELL_CUT_REGEX)
        one->regex = ell_regex_read(one->text, &tokenizer->arena, error);
    return one->kind == ELL_CUT_TEXT || one->regex != NULL;
}

static bool read_metaspace(struct ell_tokenizer *tokenizer, struct ell_json value, struct ell_cut *one,
                           struct ell_error *error)
{
    struct ell_json scheme = field(value, "prepend_scheme"), split = field(value, "split");
    one->kind = ELL_METASPACE;
    one->behaviour = ELL_WITH_NEXT;
    one->one_by_one = split.at == NULL || ell_json_true(split);
    /* Older files say add_prefix_space. */
    struct ell_json old = field(value, "add_prefix_space");
    bool never = ell_stage_is(scheme, "never") || (old.at != NULL && !ell_json_true(old));
    one->prepend = never ? ELL_NEVER : ell_stage_is(scheme, "first") ? ELL_FIRST : ELL_ALWAYS;
    if (!read_text(tokenizer, field(value, "replacement"), &one->text))
        return ell_fail_memory(error);
    return one->text.size != 0 || unknown(value, "pre-tokenizer", error);
}

static bool read_cut(struct ell_tokenizer *tokenizer, struct ell_json value, struct ell_error *error)
{
    struct ell_json type = field(value, "type");
    if (tokenizer->cut_count == ELL_MAX_STAGES || tokenizer->byte_level)
        return unknown(value, "pre-tokenizer", error);
    struct ell_cut *one = &tokenizer->cuts[tokenizer->cut_count++];
    if (ell_stage_is(type, "Split"))
        return read_split(tokenizer, value, one, error);
    if (ell_stage_is(type, "Metaspace"))
        return read_metaspace(tokenizer, value, one, error);
    if (ell_stage_is(type, "Digits")) {
        one->kind = ELL_CUT_DIGITS;
        one->one_by_one = ell_json_true(field(value, "individual_digits"));
        return true;
    }
    if (!ell_stage_is(type, "ByteLevel"))
        return unknown(value, "pre-tokenizer", error);
    struct ell_json prefix = field(value, "add_prefix_space"), cuts = field(value, "use_regex");
    one->kind = ELL_BYTE_LEVEL;
    one->prepend = prefix.at == NULL || ell_json_true(prefix) ? ELL_ALWAYS : ELL_NEVER;
    tokenizer->byte_level = true;
    if (cuts.at != NULL && !ell_json_true(cuts))
        return true;
    one->regex = ell_regex_read(ell_text_of(GPT2_PATTERN), &tokenizer->arena, error);
    return one->regex != NULL;
}

bool ell_read_cuts(struct ell_tokenizer *tokenizer, struct ell_json value, struct ell_error *error)
{
    return read_stages(tokenizer, value, "pretokenizers", read_cut, "pre-tokenizer", error);
}

static bool read_decoder_part(struct ell_tokenizer *tokenizer, struct ell_json value, struct ell_error *error)
{
    struct ell_decoder *decoder = &tokenizer->decoder;
    struct ell_json type = field(value, "type");
    int64_t start, stop;
    bool metaspace = ell_stage_is(type, "Metaspace");
    if (decoder->kind != ELL_DECODE_PLAIN)
        return unknown(value, "decoder", error);
    if (ell_stage_is(type, "ByteLevel")) {
        decoder->kind = ELL_DECODE_BYTE_LEVEL;
        return true;
    }
    if (ell_stage_is(type, "ByteFallback")) {
        decoder->byte_fallback = true;
        return true;
    }
    if (ell_stage_is(type, "Fuse"))
        return true;
    if (ell_stage_is(type, "Strip") && ell_stage_is(field(value, "content"), " ") &&
        ell_json_whole(field(value, "start"), &start) && ell_json_whole(field(value, "stop"), &stop) && start < 16 &&
        stop == 0) {
        decoder->strip = (int)start;
        return true;
    }
    struct ell_json pattern = field(field(value, "pattern"), "String");
    if (metaspace ? !ell_stage_has_text(field(value, "replacement"))
                  : !ell_stage_is(type, "Replace") || !ell_stage_has_text(pattern) || decoder->from.size != 0)
        return unknown(value, "decoder", error);
    if (metaspace) {
        struct ell_json old = field(value, "add_prefix_space");
        decoder->kind = ELL_DECODE_METASPACE;
        decoder->strip_first = !ell_stage_is(field(value, "prepend_scheme"), "never") &&
                               (old.at == NULL || ell_json_true(old));
        decoder->to = ell_text_of(" ");
        return read_text(tokenizer, field(value, "replacement"), &decoder->from) || ell_fail_memory(error);
    }
    return (read_text(tokenizer, pattern, &decoder->from) &&
            read_text(tokenizer, field(value, "content"), &decoder->to)) ||
           ell_fail_memory(error);
}

bool ell_read_decoder(struct ell_tokenizer *tokenizer, struct ell_json value, struct ell_error *error)
{
    if (value.at == NULL || ell_json_is(value, ELL_NULL))
        return ell_fail(error, "it has no decoder");
    return read_stages(tokenizer, value, "decoders", read_decoder_part, "decoder", error);
}

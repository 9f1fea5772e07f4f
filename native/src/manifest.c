/* `edgellm.json`: its types, its checksum, and the paths it may name. */
#include <string.h>

#include "bundle.h"
#include "sha256.h"

enum { MAX_MANIFEST_BYTES = 16 << 20, MAX_FILES = 10000, MAX_PATH = 256, TAIL_BYTES = 4, DIGITS = 64 };

static bool check_sum(struct ell_text text, struct ell_error *error)
{
    static const char tail[] = "\"\n}\n";
    struct ell_sha256 hash;
    char digits[DIGITS + 1], zeros[DIGITS];
    if (text.size < DIGITS + TAIL_BYTES || memcmp(text.data + text.size - TAIL_BYTES, tail, TAIL_BYTES) != 0)
        return ell_fail(error, "it does not end with its checksum");
    size_t body = text.size - DIGITS - TAIL_BYTES;
    memset(zeros, '0', sizeof zeros);
    ell_sha256_start(&hash);
    ell_sha256_add(&hash, text.data, body);
    ell_sha256_add(&hash, zeros, DIGITS);
    ell_sha256_add(&hash, tail, TAIL_BYTES);
    ell_sha256_end(&hash, digits);
    if (memcmp(digits, text.data + body, DIGITS) != 0)
        return ell_fail(error, "it was changed after the build: its checksum does not match");
    return true;
}

static bool is_letter_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* Names that Windows takes for devices, whatever follows their first dot. */
static bool is_device(struct ell_text part)
{
    static const char *const names[] = {"con", "prn", "aux", "nul"};
    char stem[5] = "";
    size_t size = 0;
    while (size < part.size && part.data[size] != '.')
        size++;
    if (size > 4)
        return false;
    for (size_t i = 0; i < size; i++)
        stem[i] = lower(part.data[i]);
    for (size_t i = 0; i < ELL_COUNT(names); i++)
        if (strcmp(stem, names[i]) == 0)
            return true;
    return size == 4 && (memcmp(stem, "com", 3) == 0 || memcmp(stem, "lpt", 3) == 0) && stem[3] >= '0' &&
           stem[3] <= '9';
}

static bool good_part(struct ell_text part)
{
    if (part.size == 0 || !is_letter_or_digit(part.data[0]) || part.data[part.size - 1] == '.' || is_device(part))
        return false;
    for (size_t i = 1; i < part.size; i++)
        if (!is_letter_or_digit(part.data[i]) && strchr(".+-", part.data[i]) == NULL)
            return false;
    return true;
}

static bool good_path(struct ell_text path)
{
    if (path.size == 0 || path.size > MAX_PATH || memchr(path.data, '\0', path.size) != NULL)
        return false;
    for (size_t start = 0, at = 0; at <= path.size; at++) {
        if (at == path.size || path.data[at] == '/') {
            if (!good_part((struct ell_text){path.data + start, at - start}))
                return false;
            start = at + 1;
        }
    }
    return true;
}

static bool check_folders(const struct ell_map *seen, struct ell_text path, struct ell_error *error)
{
    for (size_t at = 0; at < path.size; at++)
        if (path.data[at] == '/' && ell_map_find(seen, (struct ell_text){path.data, at}) != ELL_NOWHERE)
            return ell_fail(error, "path %.*s is in a folder that is a file", ELL_SHOWN(path));
    return true;
}

bool ell_paths_check(const struct ell_bundle *bundle, struct ell_error *error)
{
    struct ell_arena arena = {0};
    struct ell_map seen = {0};
    struct ell_text *lowered = ell_arena_new(&arena, bundle->file_count, sizeof *lowered);
    bool good = lowered != NULL && ell_map_reserve(&seen, bundle->file_count);
    if (!good)
        ell_fail_memory(error);
    for (size_t i = 0; good && i < bundle->file_count; i++) {
        struct ell_text path = bundle->files[i].path;
        good = good_path(path) || ell_fail(error, "path %.*s is not allowed", ELL_SHOWN(path));
        good = good && (ell_arena_text(&arena, path, &lowered[i]) || ell_fail_memory(error));
        for (size_t j = 0; good && j < path.size; j++)
            ((char *)(uintptr_t)lowered[i].data)[j] = lower(path.data[j]);
        if (good && (ell_text_is(lowered[i], "edgellm.json") || !ell_map_add(&seen, lowered[i], (uint32_t)i)))
            good = ell_fail(error, "path %.*s is there twice where case does not count", ELL_SHOWN(path));
        if (good && i > 0 && strcmp(bundle->files[i - 1].path.data, path.data) >= 0)
            good = ell_fail(error, "its files are not sorted by path");
    }
    for (size_t i = 0; good && i < bundle->file_count; i++)
        good = check_folders(&seen, lowered[i], error);
    ell_map_free(&seen);
    ell_arena_free(&arena);
    return good;
}

static bool read_text(struct ell_bundle *bundle, struct ell_json value, const char *what, struct ell_text *text,
                      struct ell_error *error)
{
    if (!ell_json_is(value, ELL_STRING))
        return ell_fail(error, "%s is no text", what);
    return ell_json_string(value, &bundle->arena, text) || ell_fail_memory(error);
}

static bool read_count(struct ell_json value, const char *what, int64_t least, int64_t *count,
                       struct ell_error *error)
{
    return (ell_json_whole(value, count) && *count >= least) || ell_fail(error, "%s is no such number", what);
}

static bool read_files(struct ell_bundle *bundle, struct ell_json files, struct ell_error *error)
{
    bundle->file_count = ell_json_is(files, ELL_ARRAY) ? ell_json_length(files) : 0;
    if (bundle->file_count < 1 || bundle->file_count > MAX_FILES)
        return ell_fail(error, "it lists no files, or more than %d", MAX_FILES);
    bundle->files = ell_arena_new(&bundle->arena, bundle->file_count, sizeof *bundle->files);
    if (bundle->files == NULL || !ell_map_reserve(&bundle->file_map, bundle->file_count))
        return ell_fail_memory(error);
    struct ell_json_walk walk = ell_json_values(files);
    struct ell_json one, path, bytes, sha256;
    const struct ell_field fields[] = {{"path", &path, true}, {"bytes", &bytes, true}, {"sha256", &sha256, true}};
    for (uint32_t i = 0; ell_json_next(&walk, NULL, &one); i++) {
        struct ell_file_entry *entry = &bundle->files[i];
        if (!ell_json_fields(one, "a file", false, fields, ELL_COUNT(fields), error) ||
            !read_text(bundle, path, "a path", &entry->path, error) ||
            !read_count(bytes, "bytes of a file", 0, &entry->bytes, error))
            return false;
        if (!ell_json_is(sha256, ELL_STRING) || sha256.end - sha256.at != DIGITS + 2)
            return ell_fail(error, "the hash of %.*s is none", ELL_SHOWN(entry->path));
        memcpy(entry->sha256, sha256.at + 1, DIGITS);
        ell_map_add(&bundle->file_map, entry->path, i); /* duplicates are found by ell_paths_check */
    }
    return true;
}

static bool read_ids(struct ell_json value, const char *what, struct ell_ids *ids, struct ell_error *error)
{
    struct ell_json_walk walk = ell_json_values(value);
    struct ell_json one;
    int64_t id;
    ids->count = 0;
    if (value.at != NULL && !ell_json_is(value, ELL_ARRAY))
        return ell_fail(error, "%s is no list", what);
    while (value.at != NULL && ell_json_next(&walk, NULL, &one)) {
        if (ids->count == ELL_MAX_END_IDS || !ell_json_whole(one, &id) || id > INT32_MAX)
            return ell_fail(error, "%s has more than %d entries, or one that is no token id", what,
                            ELL_MAX_END_IDS);
        ids->ids[ids->count++] = (int32_t)id;
    }
    return true;
}

static bool read_tokenizer(struct ell_bundle *bundle, struct ell_json value, struct ell_error *error)
{
    struct ell_json size, ends, prefix, suffix;
    const struct ell_field fields[] = {{"size", &size, true}, {"eos_ids", &ends, true},
                                       {"prefix_ids", &prefix, false}, {"suffix_ids", &suffix, false}};
    int64_t count;
    return ell_json_fields(value, "tokenizer", true, fields, ELL_COUNT(fields), error) &&
           read_count(size, "size of the tokenizer", 0, &count, error) &&
           read_ids(ends, "eos_ids", &bundle->end_ids, error) &&
           read_ids(prefix, "prefix_ids", &bundle->prefix_ids, error) &&
           read_ids(suffix, "suffix_ids", &bundle->suffix_ids, error);
}

static bool read_setting(struct ell_json value, const char *name, double least, double most, double other,
                         double *setting, struct ell_error *error)
{
    *setting = other;
    if (value.at == NULL)
        return true;
    return (ell_json_double(value, setting) && *setting >= least && *setting <= most) ||
           ell_fail(error, "%s is not from %g to %g", name, least, most);
}

static bool read_sampling(struct ell_bundle *bundle, struct ell_json value, struct ell_error *error)
{
    struct ell_json temperature, top_k, top_p, min_p, penalty;
    const struct ell_field fields[] = {{"temperature", &temperature, false}, {"top_k", &top_k, false},
                                       {"top_p", &top_p, false}, {"min_p", &min_p, false},
                                       {"repetition_penalty", &penalty, false}};
    double most;
    if (!ell_json_fields(value, "sampling", false, fields, ELL_COUNT(fields), error) ||
        !read_setting(temperature, "temperature", 0, 100, 1, &bundle->temperature, error) ||
        !read_setting(top_k, "top_k", 0, INT32_MAX, 0, &most, error) ||
        !read_setting(top_p, "top_p", 1e-9, 1, 1, &bundle->top_p, error) ||
        !read_setting(min_p, "min_p", 0, 1, 0, &bundle->min_p, error))
        return false;
    bundle->top_k = (int64_t)most;
    return read_setting(penalty, "repetition_penalty", 1e-9, 10, 1, &bundle->repetition_penalty, error);
}

static bool read_numbers(struct ell_bundle *bundle, struct ell_json model, struct ell_json memory,
                         struct ell_error *error)
{
    struct ell_json vocabulary, weights, cache;
    const struct ell_field of_model[] = {{"vocab_size", &vocabulary, true}};
    const struct ell_field of_memory[] = {{"weight_bytes", &weights, true}, {"kv_bytes_per_token", &cache, true}};
    if (!ell_json_fields(model, "model", true, of_model, 1, error) ||
        !ell_json_fields(memory, "memory", true, of_memory, 2, error) ||
        !read_count(vocabulary, "vocab_size", 1, &bundle->vocab_size, error) ||
        !read_count(weights, "weight_bytes", 0, &bundle->weight_bytes, error) ||
        !read_count(cache, "kv_bytes_per_token", 0, &bundle->kv_bytes_per_token, error))
        return false;
    return bundle->vocab_size <= INT32_MAX || ell_fail(error, "vocab_size is %lld", (long long)bundle->vocab_size);
}

bool ell_manifest_read(struct ell_bundle *bundle, struct ell_text text, struct ell_error *error)
{
    struct ell_json value, format, edgellm, target, backend, version, quant, batching, context, model, tokenizer;
    struct ell_json template, sampling, source, memory, files, checksum;
    const struct ell_field head[] = {{"format", &format, true}};
    const struct ell_field fields[] = {
        {"format", &format, true}, {"edgellm", &edgellm, true}, {"target", &target, true},
        {"backend", &backend, true}, {"backend_version", &version, true}, {"quant", &quant, true},
        {"batching", &batching, true}, {"context", &context, true}, {"model", &model, true},
        {"tokenizer", &tokenizer, true}, {"chat_template", &template, true}, {"sampling", &sampling, true},
        {"source", &source, true}, {"memory", &memory, true}, {"files", &files, true},
        {"checksum", &checksum, true}};
    int64_t number;
    if (text.size > MAX_MANIFEST_BYTES)
        return ell_fail(error, "it is larger than %d MiB: it is no manifest", MAX_MANIFEST_BYTES >> 20);
    if (!ell_json_check(text, &value, error) || !ell_json_fields(value, "it", true, head, 1, error))
        return false;
    if (!ell_json_whole(format, &number) || number != 1)
        return ell_fail(error, "its bundle format is not 1; this app must be newer to read it");
    if (!ell_json_fields(value, "it", false, fields, ELL_COUNT(fields), error) ||
        !read_text(bundle, target, "target", &bundle->target, error) ||
        !read_text(bundle, backend, "backend", &bundle->backend, error) ||
        !read_text(bundle, quant, "quant", &bundle->quant, error) ||
        !read_count(context, "context", 1, &bundle->context, error) || !read_numbers(bundle, model, memory, error) ||
        !read_tokenizer(bundle, tokenizer, error) || !read_sampling(bundle, sampling, error) ||
        !read_files(bundle, files, error) || !ell_paths_check(bundle, error) || !check_sum(text, error))
        return false;
    if (!ell_bundle_lists(bundle, "", "tokenizer.json"))
        return ell_fail(error, "its files do not include tokenizer.json");
    return true;
}

#include "bundle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sha256.h"

enum { MAX_MANIFEST_BYTES = 16 << 20 };

/* Files up to this size are hashed each time: larger than any tokenizer, smaller than most weights. */
static const int64_t HASHED_AT_OPEN = 64 << 20;

static bool check_hash(const char *path, const struct ell_file_entry *entry, struct ell_error *error)
{
    struct ell_mapped mapped;
    struct ell_sha256 hash;
    char digits[65];
    if (!ell_map_file(path, &mapped, error))
        return false;
    ell_sha256_start(&hash);
    ell_sha256_add(&hash, mapped.data, mapped.size);
    ell_sha256_end(&hash, digits);
    ell_unmap_file(&mapped);
    return strcmp(digits, entry->sha256) == 0 ||
           ell_fail(error, "%s has different contents (SHA-256); install the bundle again", path);
}

static bool check_files(const struct ell_bundle *bundle, bool all, struct ell_error *error)
{
    for (size_t i = 0; i < bundle->file_count; i++) {
        const struct ell_file_entry *entry = &bundle->files[i];
        uint64_t size;
        if (!ell_plain_file(bundle->folder, entry->path, &size, error))
            return false;
        if (size != (uint64_t)entry->bytes)
            return ell_fail(error, "%s/%s has %llu bytes instead of %lld; install the bundle again",
                            bundle->folder, entry->path.data, (unsigned long long)size, (long long)entry->bytes);
        if (!all && entry->bytes > HASHED_AT_OPEN)
            continue;
        char *path = ell_path(bundle->folder, entry->path);
        bool good = path != NULL ? check_hash(path, entry, error) : ell_fail_memory(error);
        free(path);
        if (!good)
            return false;
    }
    return true;
}

static bool open_bundle(struct ell_bundle *bundle, const char *folder, bool all, struct ell_error *error)
{
    struct ell_text copy, name = ell_text_of("edgellm.json");
    struct ell_bytes bytes = {0};
    struct ell_error reason;
    uint64_t size;
    if (!ell_arena_text(&bundle->arena, ell_text_of(folder), &copy))
        return ell_fail_memory(error);
    bundle->folder = (char *)(uintptr_t)copy.data;
    if (!ell_plain_file(folder, name, &size, error))
        return false;
    char *path = ell_path(folder, name);
    bool good = false;
    if (path == NULL)
        ell_fail_memory(error);
    else if (ell_read_file(path, MAX_MANIFEST_BYTES, &bytes, error)) {
        good = ell_manifest_read(bundle, (struct ell_text){(char *)bytes.data, bytes.size}, &reason);
        if (!good)
            ell_fail(error, "%.200s is damaged: %.250s; build the bundle again", path, reason.text);
    }
    free(path);
    ell_bytes_free(&bytes);
    return good && check_files(bundle, all, error);
}

struct ell_bundle *ell_bundle_open(const char *folder, bool all, struct ell_error *error)
{
    struct ell_bundle *bundle = calloc(1, sizeof *bundle);
    if (bundle == NULL)
        ell_fail_memory(error);
    else if (open_bundle(bundle, folder, all, error))
        return bundle;
    ell_bundle_close(bundle);
    return NULL;
}

void ell_bundle_close(struct ell_bundle *bundle)
{
    if (bundle == NULL)
        return;
    ell_map_free(&bundle->file_map);
    ell_arena_free(&bundle->arena);
    free(bundle);
}

bool ell_bundle_lists(const struct ell_bundle *bundle, const char *folder, const char *name)
{
    char path[300];
    int size = snprintf(path, sizeof path, "%s%s%s", folder, *folder != '\0' ? "/" : "", name);
    return size > 0 && (size_t)size < sizeof path &&
           ell_map_find(&bundle->file_map, ell_text_of(path)) != ELL_NOWHERE;
}

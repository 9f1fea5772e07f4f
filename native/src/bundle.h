/* A bundle's manifest (docs/bundle.md): what is in it that running needs, checked in the order given there. */
#ifndef ELL_BUNDLE_H
#define ELL_BUNDLE_H

#include "file.h"
#include "json.h"

enum { ELL_MAX_END_IDS = 64, ELL_MAX_PREFIX_IDS = 16 };

struct ell_ids {
    int32_t ids[ELL_MAX_END_IDS];
    size_t count;
};

struct ell_file_entry {
    struct ell_text path;
    int64_t bytes;
    char sha256[65];
};

struct ell_bundle {
    struct ell_arena arena;
    char *folder;
    struct ell_file_entry *files;
    size_t file_count;
    struct ell_map file_map;
    struct ell_text target, backend, quant;
    int64_t context, vocab_size;
    int64_t weight_bytes, kv_bytes_per_token;
    struct ell_ids end_ids, prefix_ids, suffix_ids;
    double temperature, top_p, min_p, repetition_penalty;
    int64_t top_k;
};

/* Read the manifest, look at the size of each file, and hash the small ones (`all`: every one). */
struct ell_bundle *ell_bundle_open(const char *folder, bool all, struct ell_error *error);
void ell_bundle_close(struct ell_bundle *bundle);

/* Whether the manifest lists a file; "folder/name" with an empty folder is just the name. */
bool ell_bundle_lists(const struct ell_bundle *bundle, const char *folder, const char *name);

/* The manifest alone, from its bytes; part of ell_bundle_open. */
bool ell_manifest_read(struct ell_bundle *bundle, struct ell_text text, struct ell_error *error);
bool ell_paths_check(const struct ell_bundle *bundle, struct ell_error *error);

#endif

/* The weights of a bundle's programs: shards, mapped, and what lies where in them (docs/plan.md, "Weights"). */
#ifndef ELL_WEIGHTS_H
#define ELL_WEIGHTS_H

#include "file.h"
#include "json.h"

struct ell_weights {
    struct ell_arena arena;
    struct ell_map names;
    struct ell_mapped *shards, *entries; /* entries are pieces of the shards, not mapped by themselves */
    size_t shard_count;
};

/* Map the shards that `folder/weights.json` names. */
bool ell_weights_open(struct ell_weights *weights, const char *folder, struct ell_error *error);
/* A buffer's bytes, and the whole shard that they lie in; false if there is none of this name. */
bool ell_weights_find(const struct ell_weights *weights, struct ell_text name, struct ell_mapped *bytes,
                      struct ell_mapped *shard);
void ell_weights_close(struct ell_weights *weights);

#endif

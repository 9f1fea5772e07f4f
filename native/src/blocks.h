/* The blocks of the cache, each room for ELL_BLOCK tokens: who holds them, and a tree of what is in them, so that texts that
 * begin alike share. As in docs/engine.md: a full block is sealed, which puts it below the block before it; a last
 * block that is given back is shelved, which makes it a leaf. Who begins like a part of a block goes on in a block of
 * its own, which is the leaf itself or a copy. A block has one writer, and none once it is sealed. Blocks of the tree
 * that nobody holds stay until their memory is needed, the least recently used first. */
#ifndef ELL_BLOCKS_H
#define ELL_BLOCKS_H

#include "base.h"

enum { ELL_BLOCK = 16, ELL_NO_BLOCK = -1 };

struct ell_block {
    int32_t tokens[ELL_BLOCK]; /* of a block in the tree */
    int32_t count; /* of these; 0: it is not in the tree */
    int32_t holders;
    int32_t parent, child, next, previous; /* in the tree; child: the first, next and previous: siblings */
    int32_t newer, older; /* among those that are in the tree and have no holder */
};

struct ell_blocks {
    struct ell_block *all;
    int32_t *free;
    size_t count, free_count, idle_count;
    int32_t roots; /* the first block without one before it */
    int32_t newest, oldest; /* that nobody holds */
};

/* What of a text is in the tree already. */
struct ell_prefix {
    size_t count; /* whole blocks, which are held */
    int32_t last; /* of them */
    int32_t source; /* a block whose first `alike` tokens come next; it is not held */
    size_t alike;
};

bool ell_blocks_open(struct ell_blocks *blocks, size_t count, struct ell_error *error);
void ell_blocks_close(struct ell_blocks *blocks);

/* Blocks that can be taken now. */
size_t ell_blocks_available(const struct ell_blocks *blocks);
/* A block with one holder; ELL_NO_BLOCK if all are held. */
int32_t ell_blocks_take(struct ell_blocks *blocks);
/* Give blocks back, the last first. Those in the tree stay there. */
void ell_blocks_release(struct ell_blocks *blocks, const int32_t *held, size_t count);

/* The longest known beginning of a text without its last token, which a step must compute for its logits. `held`:
 * room for all of the text's blocks. */
struct ell_prefix ell_blocks_match(struct ell_blocks *blocks, const int32_t *tokens, size_t count, int32_t *held);
/* A block of one's own for what comes after a prefix's whole blocks; `copy`: whether it is to be filled from the
 * source first. ELL_NO_BLOCK if nothing comes next, or all are held. */
int32_t ell_blocks_follow(struct ell_blocks *blocks, const struct ell_prefix *prefix, bool *copy);
/* Put a full block into the tree. If an equal one is there, that one is held and returned, and this one released. */
int32_t ell_blocks_seal(struct ell_blocks *blocks, int32_t block, int32_t parent, const int32_t *tokens);
/* Put the first `count` tokens of a block into the tree, just before its only holder releases it. */
void ell_blocks_shelve(struct ell_blocks *blocks, int32_t block, int32_t parent, const int32_t *tokens, size_t count);
/* Empty the tree: what is in the blocks is not to be trusted. */
void ell_blocks_forget(struct ell_blocks *blocks);

#endif

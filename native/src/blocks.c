#include "blocks.h"

#include <stdlib.h>
#include <string.h>

bool ell_blocks_open(struct ell_blocks *blocks, size_t count, struct ell_error *error)
{
    *blocks = (struct ell_blocks){.roots = ELL_NO_BLOCK, .newest = ELL_NO_BLOCK, .oldest = ELL_NO_BLOCK};
    blocks->all = calloc(count, sizeof *blocks->all);
    blocks->free = calloc(count, sizeof *blocks->free);
    if (blocks->all == NULL || blocks->free == NULL)
        return ell_fail_memory(error);
    blocks->count = count;
    for (; blocks->free_count < count; blocks->free_count++)
        blocks->free[blocks->free_count] = (int32_t)(count - blocks->free_count - 1);
    return true;
}

void ell_blocks_close(struct ell_blocks *blocks)
{
    free(blocks->all);
    free(blocks->free);
    *blocks = (struct ell_blocks){0};
}

size_t ell_blocks_available(const struct ell_blocks *blocks)
{
    return blocks->free_count + blocks->idle_count;
}

static int32_t *first_below(struct ell_blocks *blocks, int32_t parent)
{
    return parent == ELL_NO_BLOCK ? &blocks->roots : &blocks->all[parent].child;
}

static void add_idle(struct ell_blocks *blocks, int32_t block)
{
    blocks->all[block].newer = ELL_NO_BLOCK;
    blocks->all[block].older = blocks->newest;
    if (blocks->newest != ELL_NO_BLOCK)
        blocks->all[blocks->newest].newer = block;
    else
        blocks->oldest = block;
    blocks->newest = block;
    blocks->idle_count++;
}

static void remove_idle(struct ell_blocks *blocks, int32_t block)
{
    int32_t newer = blocks->all[block].newer, older = blocks->all[block].older;
    *(newer != ELL_NO_BLOCK ? &blocks->all[newer].older : &blocks->newest) = older;
    *(older != ELL_NO_BLOCK ? &blocks->all[older].newer : &blocks->oldest) = newer;
    blocks->idle_count--;
}

/* Take a block without children out of the tree. */
static void remove_from_tree(struct ell_blocks *blocks, int32_t block)
{
    struct ell_block *one = &blocks->all[block];
    *(one->previous != ELL_NO_BLOCK ? &blocks->all[one->previous].next : first_below(blocks, one->parent)) = one->next;
    if (one->next != ELL_NO_BLOCK)
        blocks->all[one->next].previous = one->previous;
    one->count = 0;
}

static size_t alike(const struct ell_block *block, const int32_t *tokens, size_t count)
{
    size_t same = 0;
    while (same < count && same < (size_t)block->count && block->tokens[same] == tokens[same])
        same++;
    return same;
}

/* The block below `parent` that begins most like some tokens, and how many they share. */
static int32_t nearest(struct ell_blocks *blocks, int32_t parent, const int32_t *tokens, size_t count, size_t *shared)
{
    int32_t found = ELL_NO_BLOCK;
    *shared = 0;
    for (int32_t at = *first_below(blocks, parent); at != ELL_NO_BLOCK; at = blocks->all[at].next) {
        size_t same = alike(&blocks->all[at], tokens, count);
        if (same > *shared) {
            found = at;
            *shared = same;
        }
    }
    return found;
}

static void add_to_tree(struct ell_blocks *blocks, int32_t block, int32_t parent, const int32_t *tokens, size_t count)
{
    for (int32_t at = *first_below(blocks, parent), next; at != ELL_NO_BLOCK; at = next) {
        struct ell_block *one = &blocks->all[at];
        next = one->next;
        if ((size_t)one->count < count && alike(one, tokens, count) == (size_t)one->count) {
            /* A leaf, which nobody holds, and which the new block goes on from: not needed any more. */
            remove_from_tree(blocks, at);
            remove_idle(blocks, at);
            blocks->free[blocks->free_count++] = at;
        }
    }
    struct ell_block *made = &blocks->all[block];
    int32_t *first = first_below(blocks, parent);
    memcpy(made->tokens, tokens, count * sizeof *tokens);
    made->count = (int32_t)count;
    made->parent = parent;
    made->child = made->previous = ELL_NO_BLOCK;
    made->next = *first;
    if (*first != ELL_NO_BLOCK)
        blocks->all[*first].previous = block;
    *first = block;
}

static void hold(struct ell_blocks *blocks, int32_t block)
{
    if (blocks->all[block].holders++ == 0)
        remove_idle(blocks, block);
}

int32_t ell_blocks_take(struct ell_blocks *blocks)
{
    int32_t block;
    if (blocks->free_count > 0) {
        block = blocks->free[--blocks->free_count];
    } else if ((block = blocks->oldest) != ELL_NO_BLOCK) {
        /* It has no children: who holds a block holds those before it too, and releases them after it. */
        remove_idle(blocks, block);
        remove_from_tree(blocks, block);
    } else {
        return ELL_NO_BLOCK;
    }
    blocks->all[block].holders = 1;
    return block;
}

void ell_blocks_release(struct ell_blocks *blocks, const int32_t *held, size_t count)
{
    while (count > 0) {
        int32_t block = held[--count];
        if (--blocks->all[block].holders > 0)
            continue;
        if (blocks->all[block].count > 0)
            add_idle(blocks, block);
        else
            blocks->free[blocks->free_count++] = block;
    }
}

struct ell_prefix ell_blocks_match(struct ell_blocks *blocks, const int32_t *tokens, size_t count, int32_t *held)
{
    struct ell_prefix prefix = {0, ELL_NO_BLOCK, ELL_NO_BLOCK, 0};
    for (;;) {
        size_t start = prefix.count * ELL_BLOCK, left = count - 1 - start;
        int32_t found = nearest(blocks, prefix.last, tokens + start, left < ELL_BLOCK ? left : ELL_BLOCK,
                                &prefix.alike);
        if (prefix.alike < ELL_BLOCK) {
            prefix.source = found;
            return prefix;
        }
        hold(blocks, found);
        held[prefix.count++] = prefix.last = found;
    }
}

int32_t ell_blocks_follow(struct ell_blocks *blocks, const struct ell_prefix *prefix, bool *copy)
{
    *copy = false;
    if (prefix->alike == 0)
        return ELL_NO_BLOCK;
    struct ell_block *source = &blocks->all[prefix->source];
    if (source->holders == 0) {
        remove_idle(blocks, prefix->source);
        if ((size_t)source->count == prefix->alike && prefix->alike < ELL_BLOCK) {
            remove_from_tree(blocks, prefix->source);
            source->holders = 1;
            return prefix->source;
        }
        add_idle(blocks, prefix->source); /* used just now: the last one to be taken for its own copy */
    }
    int32_t block = ell_blocks_take(blocks);
    *copy = block != prefix->source;
    return block;
}

int32_t ell_blocks_seal(struct ell_blocks *blocks, int32_t block, int32_t parent, const int32_t *tokens)
{
    size_t shared;
    int32_t known = nearest(blocks, parent, tokens, ELL_BLOCK, &shared);
    if (shared < ELL_BLOCK) {
        add_to_tree(blocks, block, parent, tokens, ELL_BLOCK);
        return block;
    }
    hold(blocks, known);
    ell_blocks_release(blocks, &block, 1);
    return known;
}

void ell_blocks_shelve(struct ell_blocks *blocks, int32_t block, int32_t parent, const int32_t *tokens, size_t count)
{
    size_t shared;
    nearest(blocks, parent, tokens, count, &shared);
    if (shared < count)
        add_to_tree(blocks, block, parent, tokens, count);
}

void ell_blocks_forget(struct ell_blocks *blocks)
{
    while (blocks->oldest != ELL_NO_BLOCK) {
        int32_t block = blocks->oldest;
        remove_idle(blocks, block);
        blocks->free[blocks->free_count++] = block;
    }
    for (size_t i = 0; i < blocks->count; i++)
        blocks->all[i].count = 0;
    blocks->roots = ELL_NO_BLOCK;
}

/* Byte-pair encoding of a word: the merge of the lowest rank first, of equal ones the leftmost. */
#include <stdlib.h>
#include <string.h>

#include "tokenizer.h"
#include "utf8.h"

struct symbol {
    int32_t id;
    int32_t before, after; /* -1 at the ends */
    bool gone;
};

/* A merge of the symbol at `at` with the one after it. */
struct candidate {
    uint32_t rank;
    int32_t at, made;
};

struct word {
    struct symbol *symbols;
    size_t count, room;
    struct candidate *heap;
    size_t heap_count, heap_room;
};

static bool add_symbol(struct word *word, int32_t id)
{
    if (word->count >= INT32_MAX ||
        !ell_grow(&word->symbols, &word->room, word->count + 1, sizeof *word->symbols))
        return false;
    int32_t at = (int32_t)word->count++;
    word->symbols[at] = (struct symbol){id, at - 1, -1, false};
    if (at > 0)
        word->symbols[at - 1].after = at;
    return true;
}

/* Characters as symbols; see `merge_word` of the `tokenizers` library's BPE for the order of unknown ones. */
static bool split_word(const struct ell_tokenizer *tokenizer, struct ell_text text, struct word *word)
{
    bool unknown = false, good = true;
    for (size_t at = 0; good && at < text.size;) {
        uint32_t code;
        size_t length = ell_utf8_step((struct ell_text){text.data + at, text.size - at}, &code);
        uint32_t id = ell_map_find(&tokenizer->vocabulary, (struct ell_text){text.data + at, length});
        if (id != ELL_NOWHERE) {
            good = (!unknown || add_symbol(word, tokenizer->unknown)) && add_symbol(word, (int32_t)id);
            unknown = false;
            at += length;
            continue;
        }
        bool bytes = tokenizer->byte_fallback;
        for (size_t i = 0; bytes && i < length; i++)
            bytes = tokenizer->byte_ids[(uint8_t)text.data[at + i]] >= 0;
        for (size_t i = 0; bytes && good && i < length; i++)
            good = add_symbol(word, tokenizer->byte_ids[(uint8_t)text.data[at + i]]);
        if (!bytes && tokenizer->unknown >= 0) {
            if (unknown && !tokenizer->fuse_unknown)
                good = add_symbol(word, tokenizer->unknown);
            unknown = true;
        }
        at += length;
    }
    return good && (!unknown || add_symbol(word, tokenizer->unknown));
}

static bool earlier(struct candidate one, struct candidate other)
{
    return one.rank != other.rank ? one.rank < other.rank : one.at < other.at;
}

static bool push(struct word *word, struct candidate candidate)
{
    if (!ell_grow(&word->heap, &word->heap_room, word->heap_count + 1, sizeof *word->heap))
        return false;
    size_t at = word->heap_count++;
    while (at > 0 && earlier(candidate, word->heap[(at - 1) / 2])) {
        word->heap[at] = word->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    word->heap[at] = candidate;
    return true;
}

static struct candidate pop(struct word *word)
{
    struct candidate first = word->heap[0], last = word->heap[--word->heap_count];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < word->heap_count) {
        if (child + 1 < word->heap_count && earlier(word->heap[child + 1], word->heap[child]))
            child++;
        if (!earlier(word->heap[child], last))
            break;
        word->heap[at] = word->heap[child];
        at = child;
    }
    word->heap[at] = last;
    return first;
}

static bool consider(const struct ell_tokenizer *tokenizer, struct word *word, int32_t at)
{
    if (at < 0 || word->symbols[at].after < 0)
        return true;
    const struct ell_merge *merge =
        ell_merge_find(tokenizer, word->symbols[at].id, word->symbols[word->symbols[at].after].id);
    return merge == NULL || push(word, (struct candidate){merge->rank, at, merge->made});
}

static bool merge_all(const struct ell_tokenizer *tokenizer, struct word *word)
{
    for (size_t i = 0; i + 1 < word->count; i++)
        if (!consider(tokenizer, word, (int32_t)i))
            return false;
    while (word->heap_count != 0) {
        struct candidate best = pop(word);
        struct symbol *left = &word->symbols[best.at];
        if (left->gone || left->after < 0)
            continue;
        struct symbol *right = &word->symbols[left->after];
        const struct ell_merge *merge = ell_merge_find(tokenizer, left->id, right->id);
        if (merge == NULL || merge->made != best.made)
            continue; /* one of the two has been merged with another since */
        left->id = best.made;
        right->gone = true;
        left->after = right->after;
        if (left->after >= 0)
            word->symbols[left->after].before = best.at;
        if (!consider(tokenizer, word, left->before) || !consider(tokenizer, word, best.at))
            return false;
    }
    return true;
}

bool ell_merge_word(const struct ell_tokenizer *tokenizer, struct ell_text text, struct ell_token_list *ids)
{
    if (tokenizer->ignore_merges) {
        uint32_t id = ell_map_find(&tokenizer->vocabulary, text);
        if (id != ELL_NOWHERE)
            return ell_add_id(ids, (int32_t)id);
    }
    struct word word = {0};
    bool good = split_word(tokenizer, text, &word) && merge_all(tokenizer, &word);
    for (size_t i = 0; good && i < word.count; i++)
        if (!word.symbols[i].gone)
            good = ell_add_id(ids, word.symbols[i].id);
    free(word.symbols);
    free(word.heap);
    return good;
}

#include <stdlib.h>

#include "tokenizer.h"

struct ell_trie_node {
    uint32_t child, sibling; /* 0: none */
    int32_t id; /* of the text that ends here, -1 */
    uint8_t byte;
};

static uint32_t child_of(const struct ell_trie *trie, uint32_t node, uint8_t byte)
{
    uint32_t at = trie->nodes[node].child;
    while (at != 0 && trie->nodes[at].byte != byte)
        at = trie->nodes[at].sibling;
    return at;
}

static bool add_node(struct ell_trie *trie, uint32_t parent, uint8_t byte)
{
    if (trie->count >= UINT32_MAX / 2 || !ell_grow(&trie->nodes, &trie->room, trie->count + 1, sizeof *trie->nodes))
        return false;
    uint32_t sibling = trie->count != 0 ? trie->nodes[parent].child : 0;
    trie->nodes[trie->count] = (struct ell_trie_node){0, sibling, -1, byte};
    if (trie->count != 0)
        trie->nodes[parent].child = (uint32_t)trie->count;
    trie->count++;
    return true;
}

bool ell_trie_add(struct ell_trie *trie, struct ell_text text, int32_t id)
{
    if (trie->count == 0 && !add_node(trie, 0, 0))
        return false;
    uint32_t node = 0;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = (uint8_t)text.data[i];
        uint32_t next = child_of(trie, node, byte);
        if (next == 0) {
            if (!add_node(trie, node, byte))
                return false;
            next = (uint32_t)trie->count - 1;
        }
        node = next;
    }
    if (trie->nodes[node].id < 0)
        trie->nodes[node].id = id;
    return true;
}

size_t ell_trie_find(const struct ell_trie *trie, struct ell_text text, size_t at, int32_t *id)
{
    size_t found = 0;
    uint32_t node = 0;
    for (size_t i = at; i < text.size && trie->count != 0; i++) {
        node = child_of(trie, node, (uint8_t)text.data[i]);
        if (node == 0)
            break;
        if (trie->nodes[node].id >= 0) {
            *id = trie->nodes[node].id;
            found = i + 1 - at;
        }
    }
    return found;
}

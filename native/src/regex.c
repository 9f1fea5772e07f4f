#include "regex.h"

#include <string.h>

#include "unicode.h"
#include "utf8.h"

enum { MAX_RANGES = 32, MAX_DEPTH = 16, FOREVER = INT32_MAX };
static const size_t FAILED = SIZE_MAX;

struct set {
    bool negated, ignore_case;
    uint32_t classes; /* bits of enum ell_class */
    struct {
        uint32_t low, high;
    } ranges[MAX_RANGES];
    size_t range_count;
};

enum kind { SET, GROUP, AHEAD, NOT_AHEAD };

/* A part of a sequence. Groups do not repeat, so what follows the end of an alternative is known: `next`. */
struct node {
    enum kind kind;
    int32_t least, most;
    struct set *set;
    struct branch *branches; /* of a group or a look ahead */
    struct node *next;
};

struct branch {
    struct node *first;
    struct branch *next;
};

struct ell_regex {
    struct branch *branches;
};

struct parser {
    struct ell_text text;
    size_t at;
    struct ell_arena *arena;
    struct ell_error *error;
    unsigned depth;
    bool ignore_case;
};

static bool unknown(struct parser *parser)
{
    return ell_fail(parser->error, "the tokenizer's pattern %.*s is not understood from character %zu on",
                    ELL_SHOWN(parser->text), parser->at);
}

static bool take(struct parser *parser, const char *wanted)
{
    size_t size = strlen(wanted);
    if (parser->text.size - parser->at < size || memcmp(parser->text.data + parser->at, wanted, size) != 0)
        return false;
    parser->at += size;
    return true;
}

static uint32_t classes_named(struct ell_text name)
{
    static const struct {
        const char *name;
        uint32_t classes;
    } known[] = {{"L", ELL_LETTERS},         {"Lu", 1u << ELL_LU},   {"Ll", 1u << ELL_LL}, {"Lt", 1u << ELL_LT},
                 {"Lm", 1u << ELL_LM},       {"Lo", 1u << ELL_LO},   {"M", 1u << ELL_MARK},
                 {"N", 1u << ELL_NUMERIC},   {"P", 1u << ELL_PUNCTUATION}, {"S", 1u << ELL_SYMBOL}};
    for (size_t i = 0; i < ELL_COUNT(known); i++)
        if (ell_text_is(name, known[i].name))
            return known[i].classes;
    return 0;
}

/* One character, or a class of them, inside or outside of brackets; `single`: which character it was, or 0. */
static bool parse_one(struct parser *parser, struct set *set, uint32_t *single)
{
    struct ell_text rest = {parser->text.data + parser->at, parser->text.size - parser->at};
    *single = 0;
    if (take(parser, "\\s")) {
        set->classes |= 1u << ELL_SPACE;
        return true;
    }
    if (take(parser, "\\p{")) {
        const char *end = memchr(rest.data, '}', rest.size);
        uint32_t classes = end == NULL ? 0 : classes_named((struct ell_text){rest.data + 3, (size_t)(end - rest.data) - 3});
        if (classes == 0)
            return unknown(parser);
        parser->at = (size_t)(end - parser->text.data) + 1;
        set->classes |= classes;
        return true;
    }
    if (rest.size == 0 || set->range_count == MAX_RANGES)
        return unknown(parser);
    uint32_t code;
    if (*rest.data == '\\') {
        static const char from[] = "rntfv", to[] = "\r\n\t\f\v";
        char c = rest.size > 1 ? rest.data[1] : '\0';
        const char *found = c != '\0' ? strchr(from, c) : NULL;
        if (c == '\0' || (found == NULL && ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))))
            return unknown(parser);
        code = (uint32_t)(uint8_t)(found != NULL ? to[found - from] : c);
        parser->at += 2;
    } else {
        parser->at += ell_utf8_step(rest, &code);
    }
    set->ranges[set->range_count].low = set->ranges[set->range_count].high = code;
    set->range_count++;
    *single = code;
    return true;
}

static bool parse_brackets(struct parser *parser, struct set *set)
{
    set->negated = take(parser, "^");
    while (!take(parser, "]")) {
        uint32_t low, high;
        if (parser->at == parser->text.size || take(parser, "[") || take(parser, "&&") || !parse_one(parser, set, &low))
            return unknown(parser);
        if (low == 0 || parser->text.size - parser->at < 2 || parser->text.data[parser->at] != '-' ||
            parser->text.data[parser->at + 1] == ']')
            continue;
        parser->at++;
        size_t count = set->range_count;
        if (!parse_one(parser, set, &high) || high < low || set->range_count != count + 1)
            return unknown(parser);
        set->range_count = count;
        set->ranges[count - 1].high = high;
    }
    return true;
}

static bool parse_number(struct parser *parser, int32_t *number)
{
    size_t start = parser->at;
    *number = 0;
    while (parser->at < parser->text.size && parser->text.data[parser->at] >= '0' &&
           parser->text.data[parser->at] <= '9' && *number < 100000)
        *number = *number * 10 + (parser->text.data[parser->at++] - '0');
    return parser->at != start;
}

static bool parse_quantifier(struct parser *parser, struct node *node)
{
    node->least = node->most = 1;
    if (take(parser, "*")) {
        node->least = 0;
        node->most = FOREVER;
    } else if (take(parser, "+")) {
        node->most = FOREVER;
    } else if (take(parser, "?")) {
        node->least = 0;
    } else if (take(parser, "{")) {
        if (!parse_number(parser, &node->least))
            return unknown(parser);
        node->most = node->least;
        if (take(parser, ",") && !parse_number(parser, &node->most))
            node->most = FOREVER;
        if (!take(parser, "}") || node->most < node->least || node->most == 0)
            return unknown(parser);
    } else {
        return true;
    }
    bool more = take(parser, "?") || take(parser, "+") || take(parser, "*") || take(parser, "{");
    if (more || (node->kind != SET && node->most > 1) || node->kind == AHEAD || node->kind == NOT_AHEAD)
        return unknown(parser);
    return true;
}

static bool parse_branches(struct parser *parser, struct branch **branches);

static bool parse_group(struct parser *parser, struct node *node)
{
    bool ignore_case = parser->ignore_case;
    node->kind = GROUP;
    if (take(parser, "?i:"))
        parser->ignore_case = true;
    else if (take(parser, "?="))
        node->kind = AHEAD;
    else if (take(parser, "?!"))
        node->kind = NOT_AHEAD;
    else if (!take(parser, "?:") && parser->at < parser->text.size && parser->text.data[parser->at] == '?')
        return unknown(parser);
    if (++parser->depth > MAX_DEPTH)
        return unknown(parser);
    /* What follows a group is linked to its branches later, when it is known. */
    bool good = parse_branches(parser, &node->branches) && (take(parser, ")") || unknown(parser));
    parser->depth--;
    parser->ignore_case = ignore_case;
    return good;
}

static bool parse_node(struct parser *parser, struct node *node)
{
    uint32_t single;
    if (take(parser, "("))
        return parse_group(parser, node) && parse_quantifier(parser, node);
    node->kind = SET;
    node->set = ell_arena_new(parser->arena, 1, sizeof *node->set);
    if (node->set == NULL)
        return ell_fail_memory(parser->error);
    node->set->ignore_case = parser->ignore_case;
    bool good;
    if (take(parser, "[")) {
        good = parse_brackets(parser, node->set);
    } else if (take(parser, "\\S")) {
        node->set->classes = 1u << ELL_SPACE;
        node->set->negated = good = true;
    } else {
        char c = parser->text.data[parser->at];
        good = strchr("*+?{}^$.", c) == NULL || c == '\0' ? parse_one(parser, node->set, &single) : unknown(parser);
    }
    return good && parse_quantifier(parser, node);
}

static void link_end(struct node *node, struct node *next);

static void link_branches(struct branch *branches, struct node *next)
{
    for (; branches != NULL; branches = branches->next) {
        if (branches->first == NULL)
            branches->first = next;
        else
            link_end(branches->first, next);
    }
}

/* Let a sequence, and the groups in it, lead on to `next`. */
static void link_end(struct node *node, struct node *next)
{
    for (;; node = node->next) {
        struct node *following = node->next != NULL ? node->next : next;
        if (node->kind == GROUP)
            link_branches(node->branches, following);
        else if (node->kind != SET)
            link_branches(node->branches, NULL);
        if (node->next == NULL) {
            node->next = next;
            return;
        }
    }
}

static bool parse_branches(struct parser *parser, struct branch **branches)
{
    do {
        struct branch *branch = ell_arena_new(parser->arena, 1, sizeof *branch);
        if (branch == NULL)
            return ell_fail_memory(parser->error);
        *branches = branch;
        branches = &branch->next;
        struct node **end = &branch->first;
        while (parser->at < parser->text.size && parser->text.data[parser->at] != '|' &&
               parser->text.data[parser->at] != ')') {
            struct node *node = ell_arena_new(parser->arena, 1, sizeof *node);
            if (node == NULL)
                return ell_fail_memory(parser->error);
            *end = node;
            end = &node->next;
            if (!parse_node(parser, node))
                return false;
        }
    } while (take(parser, "|"));
    return true;
}

struct ell_regex *ell_regex_read(struct ell_text pattern, struct ell_arena *arena, struct ell_error *error)
{
    struct ell_text copy;
    struct ell_regex *regex = ell_arena_new(arena, 1, sizeof *regex);
    if (regex == NULL || !ell_arena_text(arena, pattern, &copy)) {
        ell_fail_memory(error);
        return NULL;
    }
    struct parser parser = {copy, 0, arena, error, 0, false};
    if (!parse_branches(&parser, &regex->branches))
        return NULL;
    if (parser.at != copy.size) {
        unknown(&parser);
        return NULL;
    }
    for (struct branch *branch = regex->branches; branch != NULL; branch = branch->next)
        if (branch->first != NULL)
            link_end(branch->first, NULL);
    return regex;
}

static bool in_ranges(const struct set *set, uint32_t code)
{
    for (size_t i = 0; i < set->range_count; i++)
        if (code >= set->ranges[i].low && code <= set->ranges[i].high)
            return true;
    return false;
}

static bool holds(const struct set *set, uint32_t code)
{
    bool found = in_ranges(set, code) || (set->classes >> ell_class_of(code) & 1) != 0;
    if (!found && set->ignore_case) {
        /* Two letters outside of ASCII have folds inside: the long s and the Kelvin sign. */
        uint32_t folded = code == 0x17F ? 's' : code == 0x212A ? 'k' : code;
        uint32_t other = folded | 0x20;
        if (other >= 'a' && other <= 'z')
            found = in_ranges(set, other) || in_ranges(set, other ^ 0x20);
    }
    return found != set->negated;
}

struct matcher {
    struct ell_text text;
    uint64_t *work;
};

static size_t match(struct matcher *matcher, const struct node *node, size_t at);

static size_t match_branches(struct matcher *matcher, const struct branch *branch, size_t at)
{
    for (; branch != NULL; branch = branch->next) {
        size_t end = match(matcher, branch->first, at);
        if (end != FAILED)
            return end;
    }
    return FAILED;
}

/* As many characters of a set as there are, fewer where what follows does not match then. */
static size_t match_set(struct matcher *matcher, const struct node *node, size_t at)
{
    size_t start = at;
    int32_t count = 0;
    while (count < node->most && at < matcher->text.size && *matcher->work > 0) {
        uint32_t code;
        size_t length = ell_utf8_step((struct ell_text){matcher->text.data + at, matcher->text.size - at}, &code);
        --*matcher->work;
        if (!holds(node->set, code))
            break;
        at += length;
        count++;
    }
    while (count >= node->least) {
        size_t end = match(matcher, node->next, at);
        if (end != FAILED || at == start)
            return end;
        do
            at--;
        while (((uint8_t)matcher->text.data[at] & 0xC0) == 0x80);
        count--;
    }
    return FAILED;
}

static size_t match(struct matcher *matcher, const struct node *node, size_t at)
{
    if (node == NULL)
        return at;
    if (*matcher->work == 0)
        return FAILED;
    --*matcher->work;
    if (node->kind == SET)
        return match_set(matcher, node, at);
    size_t end = match_branches(matcher, node->branches, at);
    if (node->kind == GROUP)
        return end == FAILED && node->least == 0 ? match(matcher, node->next, at) : end;
    return (end == FAILED) == (node->kind == NOT_AHEAD) ? match(matcher, node->next, at) : FAILED;
}

size_t ell_regex_match(const struct ell_regex *regex, struct ell_text text, size_t at, uint64_t *work)
{
    struct matcher matcher = {text, work};
    size_t end = match_branches(&matcher, regex->branches, at);
    return end == FAILED ? 0 : end - at;
}

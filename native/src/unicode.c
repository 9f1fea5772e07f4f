#include "unicode.h"

#include <stdlib.h>
#include <string.h>

#include "utf8.h"

/* Korean syllables are composed by arithmetic (Unicode, section 3.12). */
enum {
    SYLLABLES = 0xAC00, LEADS = 0x1100, VOWELS = 0x1161, TAILS = 0x11A7,
    LEAD_COUNT = 19, VOWEL_COUNT = 21, TAIL_COUNT = 28, SYLLABLE_COUNT = LEAD_COUNT * VOWEL_COUNT * TAIL_COUNT,
};

static uint32_t run_value(const uint32_t *runs, size_t count, uint32_t code)
{
    size_t low = 0, high = count;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (runs[middle] >> 8 <= code)
            low = middle;
        else
            high = middle;
    }
    return runs[low] & 0xFF;
}

enum ell_class ell_class_of(uint32_t code)
{
    if (code < 0x80) {
        if ((code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z'))
            return code >= 'a' ? ELL_LL : ELL_LU;
        if (code >= '0' && code <= '9')
            return ELL_NUMERIC;
        if (code == ' ' || (code >= 9 && code <= 13))
            return ELL_SPACE;
    }
    return (enum ell_class)run_value(ell_class_runs, ell_class_runs_count, code);
}

static uint32_t combining_of(uint32_t code)
{
    return code < 0x300 ? 0 : run_value(ell_combining_runs, ell_combining_runs_count, code);
}

struct points {
    uint32_t *codes;
    size_t count, room;
};

static bool add_point(struct points *points, uint32_t code)
{
    if (!ell_grow(&points->codes, &points->room, points->count + 1, sizeof *points->codes))
        return false;
    points->codes[points->count++] = code;
    return true;
}

static const uint32_t *decomposition_of(uint32_t code)
{
    size_t low = 0, high = ell_decompositions_count / 3;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const uint32_t *found = &ell_decompositions[3 * middle];
        if (*found == code)
            return found;
        if (*found < code)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static bool decompose(struct points *points, uint32_t code)
{
    if (code >= SYLLABLES && code < SYLLABLES + SYLLABLE_COUNT) {
        uint32_t at = code - SYLLABLES, tail = at % TAIL_COUNT;
        return add_point(points, LEADS + at / (VOWEL_COUNT * TAIL_COUNT)) &&
               add_point(points, VOWELS + at / TAIL_COUNT % VOWEL_COUNT) &&
               (tail == 0 || add_point(points, TAILS + tail));
    }
    const uint32_t *found = code < 0xC0 ? NULL : decomposition_of(code);
    if (found == NULL)
        return add_point(points, code);
    return decompose(points, found[1]) && (found[2] == 0 || decompose(points, found[2]));
}

/* Put the marks of a run in the order of their classes, equal ones as they stand. */
static void order_run(uint32_t *codes, size_t count, uint32_t *scratch)
{
    size_t places[256] = {0}, place = 0;
    for (size_t i = 0; i < count; i++)
        places[combining_of(codes[i])]++;
    for (size_t class = 0; class < 256; class++) {
        size_t of_class = places[class];
        places[class] = place;
        place += of_class;
    }
    for (size_t i = 0; i < count; i++)
        scratch[places[combining_of(codes[i])]++] = codes[i];
    memcpy(codes, scratch, count * sizeof *codes);
}

static bool order_marks(struct points *points)
{
    uint32_t *scratch = NULL;
    size_t room = 0;
    bool good = true;
    for (size_t start = 0, end; good && start < points->count; start = end + 1) {
        for (end = start; end < points->count && combining_of(points->codes[end]) != 0;)
            end++;
        if (end - start < 2)
            continue;
        good = ell_grow(&scratch, &room, end - start, sizeof *scratch);
        if (good)
            order_run(points->codes + start, end - start, scratch);
    }
    free(scratch);
    return good;
}

static uint32_t composed_of(uint32_t first, uint32_t second)
{
    if (first >= LEADS && first < LEADS + LEAD_COUNT && second >= VOWELS && second < VOWELS + VOWEL_COUNT)
        return SYLLABLES + ((first - LEADS) * VOWEL_COUNT + second - VOWELS) * TAIL_COUNT;
    if (first >= SYLLABLES && first < SYLLABLES + SYLLABLE_COUNT && (first - SYLLABLES) % TAIL_COUNT == 0 &&
        second > TAILS && second < TAILS + TAIL_COUNT)
        return first + second - TAILS;
    size_t low = 0, high = ell_compositions_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const uint32_t *found = &ell_decompositions[3 * (size_t)ell_compositions[middle]];
        if (found[1] == first && found[2] == second)
            return found[0];
        if (found[1] < first || (found[1] == first && found[2] < second))
            low = middle + 1;
        else
            high = middle;
    }
    return 0;
}

static void recompose(struct points *points)
{
    size_t base = SIZE_MAX, kept = 0;
    uint32_t last = 0; /* class of the last mark that was kept since the base */
    for (size_t i = 0; i < points->count; i++) {
        uint32_t code = points->codes[i], class = combining_of(code), found = 0;
        bool blocked = base != SIZE_MAX && kept > base + 1 && (last >= class || last == 0);
        if (base != SIZE_MAX && !blocked)
            found = composed_of(points->codes[base], code);
        if (found != 0) {
            points->codes[base] = found;
            continue;
        }
        if (class == 0)
            base = kept;
        last = class;
        points->codes[kept++] = code;
    }
    points->count = kept;
}

bool ell_compose(struct ell_text text, struct ell_bytes *out)
{
    /* Nothing below U+0300 changes but with what is above. */
    size_t plain = 0;
    while (plain < text.size && (uint8_t)text.data[plain] < 0xCC)
        plain++;
    if (plain == text.size)
        return ell_bytes_add(out, text.data, text.size);
    struct points points = {0};
    bool good = true;
    for (size_t at = 0; good && at < text.size;) {
        uint32_t code;
        at += ell_utf8_step((struct ell_text){text.data + at, text.size - at}, &code);
        good = decompose(&points, code);
    }
    good = good && order_marks(&points);
    if (good)
        recompose(&points);
    for (size_t i = 0; good && i < points.count; i++) {
        char bytes[4];
        good = ell_bytes_add(out, bytes, ell_utf8_write(points.codes[i], bytes));
    }
    free(points.codes);
    return good;
}

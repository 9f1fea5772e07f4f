#define _POSIX_C_SOURCE 200809L

#include "sampler.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

struct ell_candidate {
    float logit;
    int32_t at;
};

static const double SMALLEST_TEMPERATURE = 1e-6;

static bool within(double value, double least, double most, const char *name, struct ell_error *error)
{
    return (value >= least && value <= most) ||
           ell_fail(error, "%s is %g; allowed is from %g to %g", name, value, least, most);
}

bool ell_settings_check(const struct ell_settings *settings, struct ell_error *error)
{
    return within((double)settings->max_tokens, 0, INT32_MAX, "max_tokens", error) &&
           within(settings->temperature, 0, 100, "temperature", error) &&
           within(settings->top_k, 0, INT32_MAX, "top_k", error) &&
           within(settings->top_p, 1e-9, 1, "top_p", error) && within(settings->min_p, 0, 1, "min_p", error) &&
           within(settings->repetition_penalty, 1e-9, 10, "repetition_penalty", error);
}

/* Steele et al., "Fast splittable pseudorandom number generators" (SplitMix64). */
static double uniform(uint64_t *state)
{
    uint64_t mixed = *state += 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return (double)((mixed ^ mixed >> 31) >> 11) / 9007199254740992.0;
}

bool ell_sampler_open(struct ell_sampler *sampler, const struct ell_settings *settings, int64_t vocabulary,
                      struct ell_error *error)
{
    *sampler = (struct ell_sampler){*settings, settings->seed, NULL, vocabulary};
    if (settings->seed == 0) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        sampler->random = (uint64_t)now.tv_sec * 1000000007u ^ (uint64_t)now.tv_nsec ^ (uint64_t)(uintptr_t)sampler;
    }
    if (settings->repetition_penalty != 1) {
        sampler->seen = calloc((size_t)vocabulary / 8 + 1, 1);
        if (sampler->seen == NULL)
            return ell_fail_memory(error);
    }
    return true;
}

void ell_sampler_close(struct ell_sampler *sampler)
{
    free(sampler->seen);
    sampler->seen = NULL;
}

void ell_sampler_note(struct ell_sampler *sampler, int32_t id)
{
    if (sampler->seen != NULL && id >= 0 && id < sampler->vocabulary)
        sampler->seen[id / 8] |= (uint8_t)(1u << id % 8);
}

static bool is_greedy(const struct ell_settings *settings)
{
    return settings->temperature == 0 || settings->top_k == 1;
}

bool ell_sampler_enough(const struct ell_sampler *sampler, int64_t top)
{
    const struct ell_settings *settings = &sampler->settings;
    return sampler->seen == NULL && (is_greedy(settings) || (settings->top_k > 0 && settings->top_k <= top));
}

double ell_exp(double x)
{
    static const double log2_of_e = 1.4426950408889634, high = 6.93147180369123816490e-01,
                        low = 1.90821492927058770002e-10; /* ln 2 in two parts: the first has 32 bits */
    if (!(x > -708))
        return 0;
    double turns = floor(x * log2_of_e + 0.5), rest = x - turns * high - turns * low, sum = 1;
    for (int i = 14; i > 0; i--)
        sum = 1 + sum * rest / i;
    return ldexp(sum, (int)turns);
}

static bool above(struct ell_candidate one, struct ell_candidate other)
{
    return one.logit > other.logit || (one.logit == other.logit && one.at < other.at);
}

static void sink(struct ell_candidate *heap, size_t count, size_t at)
{
    struct ell_candidate moved = heap[at];
    size_t child;
    while ((child = 2 * at + 1) < count) {
        if (child + 1 < count && above(heap[child + 1], heap[child]))
            child++;
        if (!above(heap[child], moved))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
}

/* Take the likeliest candidates off the heap, at most `most`, until their weights make up `mass`: they lie at the
 * heap's end then, the likeliest last. Their number, and the sum of their weights. */
static size_t take(struct ell_candidate *heap, size_t count, size_t most, double mass, double temperature,
                   double *sum)
{
    float peak = heap[0].logit;
    size_t taken = 0;
    *sum = 0;
    while (taken < most && taken < count && *sum < mass) {
        struct ell_candidate best = heap[0];
        size_t left = count - taken - 1;
        heap[0] = heap[left];
        heap[left] = best;
        sink(heap, left, 0);
        *sum += ell_exp(((double)best.logit - peak) / temperature);
        taken++;
    }
    return taken;
}

static int32_t draw(struct ell_sampler *sampler, const float *logits, size_t count,
                    struct ell_candidates *candidates)
{
    const struct ell_settings *settings = &sampler->settings;
    double temperature = fmax(settings->temperature, SMALLEST_TEMPERATURE), sum = 0;
    if (!ell_grow(&candidates->heap, &candidates->room, count, sizeof *candidates->heap))
        return -1;
    struct ell_candidate *heap = candidates->heap;
    for (size_t i = 0; i < count; i++)
        heap[i] = (struct ell_candidate){logits[i], (int32_t)i};
    for (size_t i = count / 2; i > 0; i--)
        sink(heap, count, i - 1);
    float peak = heap[0].logit;
    size_t kept = count;
    if (settings->top_k > 0 && (size_t)settings->top_k < count) {
        kept = take(heap, count, (size_t)settings->top_k, INFINITY, temperature, &sum);
    } else {
        for (size_t i = 0; i < count; i++)
            sum += ell_exp(((double)logits[i] - peak) / temperature);
        if (settings->top_p < 1)
            kept = take(heap, count, count, settings->top_p * sum, temperature, &sum);
    }
    /* The kept ones lie at the end, the likeliest last; all of them, in no order, where nothing is cut off. */
    bool ordered = kept < count || settings->top_p < 1;
    if (settings->top_k > 0 && settings->top_p < 1) {
        double mass = settings->top_p * sum, reached = 0;
        size_t fewer = 0;
        while (fewer < kept && reached < mass)
            reached += ell_exp(((double)heap[count - ++fewer].logit - peak) / temperature);
        kept = fewer;
    }
    double total = 0, target, reached = 0;
    int32_t last = 0;
    for (int pass = 0; pass < 2; pass++) {
        target = pass == 0 ? INFINITY : uniform(&sampler->random) * total;
        reached = 0;
        for (size_t i = 0; i < kept; i++) {
            size_t at = ordered ? count - 1 - i : i;
            double weight = ell_exp(((double)(ordered ? heap[at].logit : logits[at]) - peak) / temperature);
            if (weight < settings->min_p || weight == 0)
                continue;
            last = ordered ? heap[at].at : (int32_t)at;
            reached += weight;
            if (reached > target)
                return last;
        }
        total = reached;
    }
    return last;
}

/* The place of the largest logit; -1 if that is infinite or one is not a number, which no sound device gives. */
static int32_t likeliest(const float *logits, size_t count)
{
    size_t best = 0;
    bool sound = true;
    for (size_t i = 0; i < count; i++) {
        sound = sound && !isnan(logits[i]);
        if (logits[i] > logits[best])
            best = i;
    }
    return sound && isfinite(logits[best]) ? (int32_t)best : -1;
}

int32_t ell_choose(struct ell_sampler *sampler, float *logits, const int32_t *ids, size_t count,
                   struct ell_candidates *candidates)
{
    float penalty = (float)sampler->settings.repetition_penalty;
    for (size_t i = 0; sampler->seen != NULL && i < count; i++) {
        int32_t id = ids != NULL ? ids[i] : (int32_t)i;
        if (id >= 0 && id < sampler->vocabulary && (sampler->seen[id / 8] >> id % 8 & 1) != 0)
            logits[i] = logits[i] > 0 ? logits[i] / penalty : logits[i] * penalty;
    }
    int32_t at = likeliest(logits, count);
    if (at >= 0 && !is_greedy(&sampler->settings))
        at = draw(sampler, logits, count, candidates);
    return at < 0 || ids == NULL ? at : ids[at];
}

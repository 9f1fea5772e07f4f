/* edgellm-native BUNDLE [--device D] [--prompt TEXT]... [--raw] [--max-tokens N] [--temperature T] [--top-k K]
 * [--top-p P] [--min-p P] [--repetition-penalty P] [--seed N] [--context N] [--batch N] [--ids] [--cancel N]
 *
 * Answers prompts, all at once; without any, each line of standard input is one, of token ids with spaces between.
 * Prints each answer's text, or with --ids its token ids, on a line. --cancel: after so many pieces of the first. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgellm.h"

enum { MAX_PROMPTS = 256, MAX_IDS = 1 << 16 };

struct run {
    struct ell_options options;
    struct ell_settings given;
    const char *bundle, *prompts[MAX_PROMPTS];
    struct ell_prompt queued[MAX_PROMPTS];
    struct ell_request *requests[MAX_PROMPTS];
    size_t prompt_count, queued_count;
    int raw, ids, cancel;
    struct ell_error error;
};

static int usage_error(const char *what)
{
    fprintf(stderr, "edgellm-native: %s\nusage: edgellm-native BUNDLE [--device D] [--prompt TEXT]...\n", what);
    return 2;
}

/* Where the value of an option goes that is any number. */
static double *number_option(struct run *run, const char *name)
{
    if (strcmp(name, "--temperature") == 0)
        return &run->given.temperature;
    if (strcmp(name, "--top-p") == 0)
        return &run->given.top_p;
    if (strcmp(name, "--min-p") == 0)
        return &run->given.min_p;
    if (strcmp(name, "--repetition-penalty") == 0)
        return &run->given.repetition_penalty;
    return NULL;
}

static int whole_option(struct run *run, const char *name, long long value)
{
    if (strcmp(name, "--max-tokens") == 0)
        run->given.max_tokens = value;
    else if (strcmp(name, "--top-k") == 0)
        run->given.top_k = (int32_t)value;
    else if (strcmp(name, "--seed") == 0)
        run->given.seed = (uint64_t)value;
    else if (strcmp(name, "--context") == 0)
        run->options.context = value;
    else if (strcmp(name, "--batch") == 0)
        run->options.batch = value;
    else if (strcmp(name, "--cancel") == 0)
        run->cancel = (int)value;
    else
        return 0;
    return 1;
}

static int read_options(struct run *run, int count, char **arguments)
{
    run->given = (struct ell_settings){.temperature = -1, .top_p = -1, .min_p = -1, .repetition_penalty = -1,
                                       .top_k = -1};
    for (int i = 1; i < count; i++) {
        const char *name = arguments[i], *value = i + 1 < count ? arguments[i + 1] : NULL;
        char *end;
        double *number;
        if (*name != '-') {
            run->bundle = name;
            continue;
        }
        if (strcmp(name, "--raw") == 0 || strcmp(name, "--ids") == 0) {
            *(name[2] == 'r' ? &run->raw : &run->ids) = 1;
            continue;
        }
        if (value == NULL)
            return usage_error("an option has no value");
        i++;
        errno = 0;
        if (strcmp(name, "--device") == 0) {
            run->options.device = value;
        } else if (strcmp(name, "--prompt") == 0) {
            if (run->prompt_count == MAX_PROMPTS)
                return usage_error("too many prompts");
            run->prompts[run->prompt_count++] = value;
        } else if ((number = number_option(run, name)) != NULL) {
            *number = strtod(value, &end);
            if (*end != '\0')
                return usage_error("an option's value is no number");
        } else if (!whole_option(run, name, strtoll(value, &end, 10)) || *end != '\0' || errno != 0) {
            return usage_error("an unknown option, or one whose value is no number");
        }
    }
    return run->bundle == NULL ? usage_error("no bundle was named") : 0;
}

/* The bundle's settings with the given ones on top. */
static struct ell_settings settings_of(const struct run *run, const struct ell_engine *engine)
{
    struct ell_settings settings;
    ell_defaults(engine, &settings);
    settings.max_tokens = run->given.max_tokens;
    settings.seed = run->given.seed;
    if (run->given.temperature >= 0)
        settings.temperature = run->given.temperature;
    if (run->given.top_p >= 0)
        settings.top_p = run->given.top_p;
    if (run->given.min_p >= 0)
        settings.min_p = run->given.min_p;
    if (run->given.repetition_penalty >= 0)
        settings.repetition_penalty = run->given.repetition_penalty;
    if (run->given.top_k >= 0)
        settings.top_k = run->given.top_k;
    return settings;
}

static int queue(struct run *run, const struct ell_engine *engine, const int32_t *ids, size_t count)
{
    int32_t *copy = malloc((count + 1) * sizeof *copy);
    if (copy == NULL || run->queued_count == MAX_PROMPTS) {
        free(copy);
        return 0;
    }
    if (count > 0)
        memcpy(copy, ids, count * sizeof *copy);
    run->queued[run->queued_count++] = (struct ell_prompt){copy, count, settings_of(run, engine)};
    return 1;
}

static int read_prompts(struct run *run, const struct ell_engine *engine)
{
    int32_t *ids = malloc(MAX_IDS * sizeof *ids);
    int good = ids != NULL;
    for (size_t i = 0; good && i < run->prompt_count; i++) {
        int64_t count = ell_tokenize(engine, run->prompts[i], strlen(run->prompts[i]), !run->raw, ids, MAX_IDS,
                                     &run->error);
        good = count >= 0 && count <= MAX_IDS && queue(run, engine, ids, (size_t)count);
    }
    size_t count = 0;
    int id;
    while (good && run->prompt_count == 0 && count < MAX_IDS && scanf("%d", &id) == 1) {
        ids[count++] = id;
        if (getchar() == '\n') {
            good = queue(run, engine, ids, count);
            count = 0;
        }
    }
    free(ids);
    return good;
}

static int print_answer(struct run *run, size_t index)
{
    struct ell_request *request = run->requests[index];
    char text[256];
    size_t size;
    int more, pieces = 0;
    while ((more = ell_next(request, text, sizeof text, &size, &run->error)) == 1) {
        if (!run->ids)
            fwrite(text, 1, size, stdout);
        if (run->cancel != 0 && index == 0 && ++pieces == run->cancel)
            ell_cancel(request);
    }
    int32_t *ids = malloc(MAX_IDS * sizeof *ids);
    size_t count = ids != NULL && run->ids ? ell_answer_ids(request, ids, MAX_IDS) : 0;
    for (size_t i = 0; i < count && i < MAX_IDS; i++)
        printf("%s%d", i != 0 ? " " : "", (int)ids[i]);
    printf("\n");
    free(ids);
    return more == 0;
}

int main(int count, char **arguments)
{
    static struct run run;
    int status = read_options(&run, count, arguments);
    if (status != 0)
        return status;
    struct ell_engine *engine = ell_open(run.bundle, &run.options, &run.error);
    int good = engine != NULL && read_prompts(&run, engine) &&
               ell_submit(engine, run.queued, run.queued_count, run.requests, &run.error) == 0;
    for (size_t i = 0; good && i < run.queued_count; i++)
        good = print_answer(&run, i);
    for (size_t i = 0; i < run.queued_count; i++) {
        ell_free(run.requests[i]);
        free((void *)(uintptr_t)run.queued[i].ids);
    }
    ell_close(engine);
    if (!good)
        fprintf(stderr, "edgellm-native: %s\n", run.error.text);
    return !good;
}

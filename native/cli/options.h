/* Options of edgellm-native; a part of it, included once. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgellm.h"

enum { MAX_PROMPTS = 256, MAX_MESSAGES = 1024, MAX_IDS = 1 << 16, MAX_STOPS = 16, MAX_SIZES = 16 };

struct run {
    struct ell_options options;
    struct ell_settings given;
    const char *bundle, *prompts[MAX_PROMPTS], *stops[MAX_STOPS];
    struct ell_message messages[MAX_MESSAGES];
    struct ell_prompt queued[MAX_PROMPTS];
    struct ell_request *requests[MAX_PROMPTS];
    size_t prompt_count, message_count, queued_count, stop_count;
    int raw, ids, cancel, usage, show_prompt, in_turn, info, ignore_end;
    /* Of bench. */
    long sizes[MAX_SIZES], batches[MAX_SIZES];
    size_t size_count, batch_count;
    long repeats;
    struct ell_error error;
};

static int usage_error(const char *what)
{
    fprintf(stderr,
            "edgellm-native: %s\nusage: edgellm-native BUNDLE [--device D] [--prompt TEXT]... [--user TEXT]\n"
            "       edgellm-native chat BUNDLE [--system TEXT]\n"
            "       edgellm-native bench BUNDLE [--prompt-tokens N,...] [--batches N,...]\n",
            what);
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

static const char **text_option(struct run *run, const char *name)
{
    if (strcmp(name, "--device") == 0)
        return &run->options.device;
    if (strcmp(name, "--chat") == 0)
        return &run->options.chat;
    if (strcmp(name, "--cache") == 0)
        return &run->options.cache;
    if (strcmp(name, "--prompt") == 0 && run->prompt_count < MAX_PROMPTS)
        return &run->prompts[run->prompt_count++];
    if (strcmp(name, "--stop") == 0 && run->stop_count < MAX_STOPS)
        return &run->stops[run->stop_count++];
    return NULL;
}

static int *flag_option(struct run *run, const char *name)
{
    if (strcmp(name, "--raw") == 0)
        return &run->raw;
    if (strcmp(name, "--ids") == 0)
        return &run->ids;
    if (strcmp(name, "--usage") == 0)
        return &run->usage;
    if (strcmp(name, "--in-turn") == 0)
        return &run->in_turn;
    if (strcmp(name, "--info") == 0)
        return &run->info;
    if (strcmp(name, "--ignore-end") == 0)
        return &run->ignore_end;
    if (strcmp(name, "--show-prompt") == 0)
        return &run->show_prompt;
    if (strcmp(name, "--no-prefix-cache") == 0)
        return &run->options.no_prefix_cache;
    if (strcmp(name, "--check-hashes") == 0)
        return &run->options.check_hashes;
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
    else if (strcmp(name, "--memory") == 0)
        run->options.memory = (uint64_t)value;
    else if (strcmp(name, "--cancel") == 0)
        run->cancel = (int)value;
    else if (strcmp(name, "--repeats") == 0)
        run->repeats = (long)value;
    else
        return 0;
    return 1;
}

/* "1,2,4" */
static int list_option(const char *value, long *list, size_t *count)
{
    char *end;
    *count = 0;
    do {
        list[*count] = strtol(value, &end, 10);
        if (end == value || (*end != '\0' && *end != ',') || list[*count] < 1 || list[*count] > 65536)
            return 0;
        value = end + 1;
    } while (++*count < MAX_SIZES && *end == ',');
    return *end == '\0';
}

static int message_option(struct run *run, const char *name, const char *value)
{
    static const char *const roles[] = {"system", "user", "assistant"};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        if (strncmp(name, "--", 2) != 0 || strcmp(name + 2, roles[i]) != 0 || run->message_count == MAX_MESSAGES)
            continue;
        run->messages[run->message_count++] = (struct ell_message){roles[i], value, strlen(value)};
        return 1;
    }
    return 0;
}

static int read_options(struct run *run, int count, char **arguments)
{
    run->given = (struct ell_settings){.temperature = -1, .top_p = -1, .min_p = -1, .repetition_penalty = -1,
                                       .top_k = -1};
    for (int i = 0; i < count; i++) {
        const char *name = arguments[i], *value = i + 1 < count ? arguments[i + 1] : NULL, **text;
        char *end;
        double *number;
        int *flag;
        if (*name != '-') {
            run->bundle = name;
            continue;
        }
        if ((flag = flag_option(run, name)) != NULL) {
            *flag = 1;
            continue;
        }
        if (value == NULL)
            return usage_error("an option has no value");
        i++;
        errno = 0;
        if ((text = text_option(run, name)) != NULL) {
            *text = value;
        } else if ((number = number_option(run, name)) != NULL) {
            *number = strtod(value, &end);
            if (*end != '\0')
                return usage_error("an option's value is no number");
        } else if (strcmp(name, "--prompt-tokens") == 0 || strcmp(name, "--batches") == 0) {
            int batches = name[2] == 'b';
            if (!list_option(value, batches ? run->batches : run->sizes,
                             batches ? &run->batch_count : &run->size_count))
                return usage_error("a list has something else than numbers from 1 to 65536, or more than 16");
        } else if (!message_option(run, name, value) &&
                   (!whole_option(run, name, strtoll(value, &end, 10)) || *end != '\0' || errno != 0)) {
            return usage_error("an unknown option, one given too often, or one whose value is no number");
        }
    }
    return run->bundle == NULL ? usage_error("no bundle was named") : 0;
}

static void print_text(const char *text)
{
    for (const char *c = text; *c != '\0'; c++)
        if ((unsigned char)*c >= ' ')
            printf(*c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
}

static int print_info(struct run *run, struct ell_engine *engine)
{
    struct ell_info info;
    (void)run;
    ell_info(engine, &info);
    printf("{\"device\": \"");
    print_text(info.device);
    printf("\", \"context\": %lld, \"batch\": %lld, \"blocks\": %lld, \"vocabulary\": %lld, \"chat\": %s}\n",
           (long long)info.context, (long long)info.batch, (long long)info.blocks, (long long)info.vocabulary,
           info.chat ? "true" : "false");
    return 1;
}

/* The bundle's settings with the given ones on top. */
static struct ell_settings settings_of(const struct run *run, const struct ell_engine *engine)
{
    struct ell_settings settings;
    ell_defaults(engine, &settings);
    settings.max_tokens = run->given.max_tokens;
    settings.seed = run->given.seed;
    settings.stop = run->stops;
    settings.stops = run->stop_count;
    settings.ignore_end = run->ignore_end;
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

/* edgellm-native BUNDLE [--device D] [--prompt TEXT]... [--raw] [--max-tokens N] [--temperature T] [--top-k K]
 * [--top-p P] [--min-p P] [--repetition-penalty P] [--seed N] [--context N] [--batch N] [--memory BYTES] [--ignore-end]
 * [--stop TEXT]... [--chat FILE] [--cache FOLDER] [--no-prefix-cache] [--check-hashes] [--system TEXT] [--user TEXT]
 * [--assistant TEXT]... [--ids] [--show-prompt] [--usage] [--in-turn] [--cancel N] [--info]
 *
 * Answers prompts: those of --prompt, and the conversation of --system, --user and --assistant; without any, each line
 * of standard input is a prompt of token ids with spaces between. They run together, or with --in-turn one after the
 * other. Prints each answer's text, or with --ids its token ids, on a line. --show-prompt: the prompts' ids instead.
 * --cancel: after so many pieces of the first. --usage: how many tokens each took, on standard error. --info: about
 * the opened engine alone.
 *
 * edgellm-native chat BUNDLE [--system TEXT] ...: a conversation, each line of standard input being the user's next
 * message. edgellm-native bench BUNDLE ...: see bench.h. */
#define _POSIX_C_SOURCE 200809L

#include "options.h"

#include "conversation.h"

#include "bench.h"

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
    if (good && run->message_count > 0) {
        int64_t count = ell_chat(engine, run->messages, run->message_count, ids, MAX_IDS, &run->error);
        good = count >= 0 && count <= MAX_IDS && queue(run, engine, ids, (size_t)count);
    }
    size_t count = 0;
    int id;
    while (good && run->prompt_count + run->message_count == 0 && count < MAX_IDS && scanf("%d", &id) == 1) {
        ids[count++] = id;
        if (getchar() == '\n') {
            good = queue(run, engine, ids, count);
            count = 0;
        }
    }
    free(ids);
    return good;
}

static void print_ids(const int32_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++)
        printf("%s%d", i != 0 ? " " : "", (int)ids[i]);
    printf("\n");
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
    print_ids(ids, count < MAX_IDS ? count : MAX_IDS);
    free(ids);
    if (run->usage)
        print_usage(request);
    return more == 0;
}

static int answer_prompts(struct run *run, struct ell_engine *engine)
{
    int good = read_prompts(run, engine);
    for (size_t i = 0; good && run->show_prompt && i < run->queued_count; i++)
        print_ids(run->queued[i].ids, run->queued[i].count);
    if (good && !run->show_prompt) {
        good = run->in_turn || ell_submit(engine, run->queued, run->queued_count, run->requests, &run->error) == 0;
        for (size_t i = 0; good && i < run->queued_count; i++) {
            if (run->in_turn)
                good = ell_submit(engine, &run->queued[i], 1, &run->requests[i], &run->error) == 0;
            good = good && print_answer(run, i);
        }
    }
    for (size_t i = 0; i < run->queued_count; i++) {
        ell_free(run->requests[i]);
        free((void *)(uintptr_t)run->queued[i].ids);
    }
    return good;
}

int main(int count, char **arguments)
{
    static struct run run;
    int (*work)(struct run *, struct ell_engine *) = answer_prompts;
    int from = 1;
    if (count > 1 && (strcmp(arguments[1], "chat") == 0 || strcmp(arguments[1], "bench") == 0)) {
        work = arguments[1][0] == 'c' ? converse : bench;
        from = 2;
    }
    int status = read_options(&run, count - from, arguments + from);
    if (status != 0)
        return status;
    if (work == bench)
        prepare_bench(&run);
    if (run.info)
        work = print_info;
    struct ell_engine *engine = ell_open(run.bundle, &run.options, &run.error);
    int good = engine != NULL && work(&run, engine);
    ell_close(engine);
    if (!good)
        fprintf(stderr, "edgellm-native: %s\n", run.error.text);
    return !good;
}

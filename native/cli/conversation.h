/* `edgellm-native chat`: each line of standard input is a message of the user; a part of edgellm-native. */

enum { MAX_LINE = 1 << 16 };

/* Keep a text for the rest of the conversation. */
static int say(struct run *run, const char *role, const char *text, size_t size)
{
    char *copy = run->message_count < MAX_MESSAGES ? malloc(size + 1) : NULL;
    if (copy == NULL) {
        snprintf(run->error.text, sizeof run->error.text, "the conversation is too long");
        return 0;
    }
    memcpy(copy, text, size);
    run->messages[run->message_count++] = (struct ell_message){role, copy, size};
    return 1;
}

static void print_usage(const struct ell_request *request)
{
    struct ell_usage usage;
    ell_usage(request, &usage);
    fprintf(stderr, "{\"prompt_tokens\": %lld, \"cached_tokens\": %lld, \"answer_tokens\": %lld, \"reason\": %d}\n",
            (long long)usage.prompt_tokens, (long long)usage.cached_tokens, (long long)usage.answer_tokens,
            (int)usage.reason);
}

static int answer(struct run *run, struct ell_engine *engine, int32_t *ids)
{
    int64_t count = ell_chat(engine, run->messages, run->message_count, ids, MAX_IDS, &run->error);
    struct ell_prompt prompt = {ids, count > 0 && count <= MAX_IDS ? (size_t)count : 0, settings_of(run, engine)};
    struct ell_request *request = NULL;
    if (count < 0 || ell_submit(engine, &prompt, 1, &request, &run->error) != 0)
        return 0;
    static char said[MAX_LINE];
    size_t total = 0, size;
    int more;
    while ((more = ell_next(request, said + total, sizeof said - total, &size, &run->error)) == 1) {
        fwrite(said + total, 1, size, stdout);
        fflush(stdout);
        total += size;
        if (sizeof said - total < 8) {
            snprintf(run->error.text, sizeof run->error.text, "the answer is too long for a conversation");
            break;
        }
    }
    printf("\n");
    fflush(stdout);
    if (run->usage)
        print_usage(request);
    ell_free(request);
    return more == 0 && say(run, "assistant", said, total);
}

static int converse(struct run *run, struct ell_engine *engine)
{
    static char line[MAX_LINE];
    int32_t *ids = malloc(MAX_IDS * sizeof *ids);
    size_t size = 0, given = run->message_count;
    int good = ids != NULL, c;
    while (good && (c = getchar()) != EOF) {
        if (c != '\n' && size < sizeof line) {
            line[size++] = (char)c;
            continue;
        }
        good = say(run, "user", line, size) && answer(run, engine, ids);
        size = 0;
    }
    free(ids);
    while (run->message_count > given)
        free((void *)(uintptr_t)run->messages[--run->message_count].text);
    return good;
}

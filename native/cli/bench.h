/* edgellm-native bench BUNDLE [--prompt-tokens N,...] [--batches N,...] [--max-tokens N] [--repeats N] ...: how fast
 * prompts are read and answers written, as lines of JSON. Prompts are random tokens, so none shares another's cache.
 * A part of edgellm-native. */

static void prepare_bench(struct run *run)
{
    static const long sizes[] = {64, 256}, batches[] = {1, 2, 4};
    if (run->size_count == 0) {
        memcpy(run->sizes, sizes, sizeof sizes);
        run->size_count = sizeof sizes / sizeof *sizes;
    }
    if (run->batch_count == 0) {
        memcpy(run->batches, batches, sizeof batches);
        run->batch_count = sizeof batches / sizeof *batches;
    }
    if (run->given.max_tokens == 0)
        run->given.max_tokens = 32;
    if (run->repeats < 1)
        run->repeats = 3;
    for (size_t i = 0; i < run->batch_count; i++)
        if (run->batches[i] > run->options.batch)
            run->options.batch = run->batches[i];
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* Answer `batch` prompts of `size` random tokens with `length` tokens each. Seconds until the last has its first token,
 * and from there to the end. */
static int measure(struct run *run, struct ell_engine *engine, long batch, long size, int64_t length, uint64_t *state,
                   double *reading, double *writing)
{
    struct ell_info info;
    int32_t *ids = malloc((size_t)(batch * size) * sizeof *ids);
    int good = ids != NULL;
    ell_info(engine, &info);
    for (long i = 0; good && i < batch * size; i++)
        ids[i] = (int32_t)(next_random(state) % (uint64_t)info.vocabulary);
    for (long i = 0; good && i < batch; i++) {
        run->queued[i] = (struct ell_prompt){ids + i * size, (size_t)size, settings_of(run, engine)};
        run->queued[i].settings.temperature = 0;
        run->queued[i].settings.repetition_penalty = 1;
        run->queued[i].settings.max_tokens = length;
        run->queued[i].settings.ignore_end = 1;
        run->queued[i].settings.stops = 0;
    }
    good = good && ell_submit(engine, run->queued, (size_t)batch, run->requests, &run->error) == 0;
    *reading = *writing = 0;
    for (long i = 0; good && i < batch; i++) {
        char text[256];
        size_t got;
        int more;
        struct ell_usage usage;
        while ((more = ell_next(run->requests[i], text, sizeof text, &got, &run->error)) == 1)
            ;
        ell_usage(run->requests[i], &usage);
        good = more == 0;
        if (usage.prompt_seconds > *reading)
            *reading = usage.prompt_seconds;
        if (usage.prompt_seconds + usage.answer_seconds > *writing)
            *writing = usage.prompt_seconds + usage.answer_seconds;
    }
    *writing -= *reading;
    for (long i = 0; i < batch; i++) {
        ell_free(run->requests[i]);
        run->requests[i] = NULL;
    }
    free(ids);
    return good;
}

static int bench(struct run *run, struct ell_engine *engine)
{
    struct ell_info info;
    uint64_t state = run->given.seed + 1;
    double reading, writing;
    ell_info(engine, &info);
    if (!measure(run, engine, 1, 16, 2, &state, &reading, &writing)) /* drivers do things when first asked */
        return 0;
    for (size_t i = 0; i < run->batch_count; i++) {
        for (size_t j = 0; j < run->size_count; j++) {
            long batch = run->batches[i], size = run->sizes[j];
            double read = 0, written = 0;
            if (batch > MAX_PROMPTS || size + run->given.max_tokens > info.context ||
                batch * ((size + run->given.max_tokens + 15) / 16) > info.blocks)
                continue; /* it does not fit, or not at the same time */
            for (long k = 0; k < run->repeats; k++) {
                if (!measure(run, engine, batch, size, run->given.max_tokens, &state, &reading, &writing))
                    return 0;
                if (k == 0 || reading < read)
                    read = reading;
                if (k == 0 || writing < written)
                    written = writing;
            }
            printf("{\"device\": \"");
            print_text(info.device);
            printf("\", \"batch\": %ld, \"prompt_tokens\": %ld, \"answer_tokens\": %lld, \"prefill_tokens_per_s\": "
                   "%.1f, \"decode_tokens_per_s\": %.1f, \"first_token_ms\": %.1f, \"repeats\": %ld}\n",
                   batch, size, (long long)run->given.max_tokens, (double)(batch * size) / read,
                   (double)batch * (double)(run->given.max_tokens - 1) / (written > 0 ? written : 1e-9), read * 1e3,
                   run->repeats);
            fflush(stdout);
        }
    }
    return 1;
}

/* The functions of edgellm.h. */
#define _POSIX_C_SOURCE 200809L

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine.h"

int ell_version(void)
{
    return 2;
}

static bool open_tokenizer(struct ell_engine *engine, struct ell_error *error)
{
    struct ell_bytes bytes = {0};
    struct ell_error reason;
    char *path = ell_path(engine->bundle->folder, ell_text_of("tokenizer.json"));
    if (path == NULL)
        return ell_fail_memory(error);
    if (ell_read_file(path, ELL_MAX_TOKENIZER_BYTES, &bytes, error)) {
        engine->tokenizer = ell_tokenizer_read((struct ell_text){(char *)bytes.data, bytes.size}, &reason);
        if (engine->tokenizer == NULL)
            ell_fail(error, "%.200s: %.250s", path, reason.text);
    }
    free(path);
    ell_bytes_free(&bytes);
    return engine->tokenizer != NULL;
}

/* The chat format: of the named file, or of the one beside the bundle, which need not be there. */
static bool open_chat(struct ell_engine *engine, const char *named, struct ell_error *error)
{
    struct ell_bytes bytes = {0};
    struct ell_error reason;
    char *beside = ell_path_beside(engine->bundle->folder, "chat.json");
    if (beside == NULL)
        return ell_fail_memory(error);
    const char *path = named != NULL ? named : beside;
    bool there = named != NULL || ell_file_exists(path), good = !there;
    if (there && ell_read_file(path, ELL_MAX_CHAT_BYTES, &bytes, error)) {
        engine->chat = ell_chat_read((struct ell_text){(char *)bytes.data, bytes.size}, &reason);
        good = engine->chat != NULL ||
               ell_fail(error, "%.200s is no chat format: %.230s; package the bundle again", path, reason.text);
    }
    free(beside);
    ell_bytes_free(&bytes);
    return good;
}

static bool open_engine(struct ell_engine *engine, const char *path, const struct ell_options *options,
                        struct ell_error *error)
{
    if (options->context < 0 || options->batch < 0 || options->context > INT32_MAX || options->batch > 65536)
        return ell_fail(error, "the context or the batch that was asked for is no such number");
    engine->bundle = ell_bundle_open(path, options->check_hashes != 0, error);
    if (engine->bundle == NULL || !open_tokenizer(engine, error) || !open_chat(engine, options->chat, error))
        return false;
    bool recording = options->device != NULL && strcmp(options->device, "recording") == 0;
    struct ell_device *device =
        recording ? ell_recording_open("opencl", error) : ell_device_open(options->device, options->cache, error);
    if (device == NULL || !ell_executor_open(&engine->executor, engine->bundle, device, options->context,
                                             options->batch, options->memory, error))
        return false;
    engine->executor_open = true;
    engine->sharing = options->no_prefix_cache == 0;
    if (!ell_steps_open(engine, error))
        return false;
    engine->started = pthread_create(&engine->thread, NULL, ell_steps_run, engine) == 0;
    return engine->started || ell_fail(error, "no thread could be started; close other programs");
}

struct ell_engine *ell_open(const char *bundle, const struct ell_options *options, struct ell_error *error)
{
    static const struct ell_options defaults = {0};
    struct ell_engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL) {
        ell_fail_memory(error);
        return NULL;
    }
    pthread_mutex_init(&engine->lock, NULL);
    pthread_cond_init(&engine->changed, NULL);
    if (open_engine(engine, bundle, options != NULL ? options : &defaults, error))
        return engine;
    ell_close(engine);
    return NULL;
}

void ell_close(struct ell_engine *engine)
{
    if (engine == NULL)
        return;
    if (engine->started) {
        pthread_mutex_lock(&engine->lock);
        engine->closing = true;
        pthread_cond_broadcast(&engine->changed);
        pthread_mutex_unlock(&engine->lock);
        pthread_join(engine->thread, NULL);
    }
    ell_steps_close(engine);
    if (engine->executor_open)
        ell_executor_close(&engine->executor);
    ell_tokenizer_free(engine->tokenizer);
    ell_chat_free(engine->chat);
    ell_bundle_close(engine->bundle);
    pthread_cond_destroy(&engine->changed);
    pthread_mutex_destroy(&engine->lock);
    free(engine);
}

void ell_info(const struct ell_engine *engine, struct ell_info *info)
{
    const struct ell_executor *executor = &engine->executor;
    *info = (struct ell_info){.context = executor->context, .batch = executor->batch, .blocks = executor->blocks,
                              .vocabulary = executor->vocabulary, .chat = engine->chat != NULL};
    memcpy(info->device, executor->device->info.name, sizeof info->device);
}

int64_t ell_chat(const struct ell_engine *engine, const struct ell_message *messages, size_t count, int32_t *ids,
                 size_t room, struct ell_error *error)
{
    struct ell_bytes text = {0};
    time_t seconds = time(NULL);
    struct tm now;
    int64_t found = -1;
    if (engine->chat == NULL)
        ell_fail(error, "there is no chat format for this bundle; package it again, or use plain prompts");
    else if (localtime_r(&seconds, &now) == NULL)
        ell_fail(error, "the date of this device is out of range; set its clock");
    else if (ell_chat_render(engine->chat, messages, count, &now, &text, error))
        found = ell_tokenize(engine, (char *)text.data, text.size, 0, ids, room, error);
    ell_bytes_free(&text);
    return found;
}

int64_t ell_tokenize(const struct ell_engine *engine, const char *text, size_t size, int surround, int32_t *ids,
                     size_t room, struct ell_error *error)
{
    struct ell_token_list found = {0};
    const struct ell_bundle *bundle = engine->bundle;
    bool good = true;
    for (size_t i = 0; good && surround && i < bundle->prefix_ids.count; i++)
        good = ell_add_id(&found, bundle->prefix_ids.ids[i]) || ell_fail_memory(error);
    good = good && ell_encode(engine->tokenizer, (struct ell_text){text, size}, &found, error);
    for (size_t i = 0; good && surround && i < bundle->suffix_ids.count; i++)
        good = ell_add_id(&found, bundle->suffix_ids.ids[i]) || ell_fail_memory(error);
    if (good && found.count > 0 && room > 0)
        memcpy(ids, found.ids, (found.count < room ? found.count : room) * sizeof *ids);
    free(found.ids);
    return good ? (int64_t)found.count : -1;
}

void ell_defaults(const struct ell_engine *engine, struct ell_settings *settings)
{
    const struct ell_bundle *bundle = engine->bundle;
    *settings = (struct ell_settings){.temperature = bundle->temperature, .top_p = bundle->top_p,
                                      .min_p = bundle->min_p, .top_k = (int32_t)bundle->top_k,
                                      .repetition_penalty = bundle->repetition_penalty};
}

static void free_request(struct ell_request *request)
{
    if (request == NULL)
        return;
    ell_sampler_close(&request->sampler);
    ell_bytes_free(&request->decoding.held);
    ell_bytes_free(&request->text);
    ell_stops_close(&request->stops);
    free(request->sequence.tokens);
    free(request->sequence.blocks);
    free(request);
}

static bool check_prompt(const struct ell_engine *engine, const struct ell_prompt *prompt, struct ell_error *error)
{
    const struct ell_executor *executor = &engine->executor;
    if (prompt->count == 0)
        return ell_fail(error, "the prompt is empty: it must have at least one token");
    if (prompt->count >= (size_t)executor->context)
        return ell_fail(error, "the prompt has %zu tokens, and the context holds %lld for prompt and answer together; "
                               "shorten the prompt",
                        prompt->count, (long long)executor->context);
    for (size_t i = 0; i < prompt->count; i++)
        if (prompt->ids[i] < 0 || prompt->ids[i] >= executor->vocabulary)
            return ell_fail(error, "a token id of the prompt is outside the vocabulary of %lld tokens",
                            (long long)executor->vocabulary);
    return ell_settings_check(&prompt->settings, error);
}

static struct ell_request *make_request(struct ell_engine *engine, const struct ell_prompt *prompt,
                                        struct ell_error *error)
{
    if (!check_prompt(engine, prompt, error))
        return NULL;
    struct ell_request *request = calloc(1, sizeof *request);
    if (request == NULL || !ell_grow(&request->sequence.tokens, &request->sequence.room, prompt->count,
                                     sizeof *request->sequence.tokens)) {
        ell_fail_memory(error);
        free_request(request);
        return NULL;
    }
    if (!ell_sampler_open(&request->sampler, &prompt->settings, engine->executor.vocabulary, error) ||
        !ell_stops_open(&request->stops, &prompt->settings, error)) {
        free_request(request);
        return NULL;
    }
    memcpy(request->sequence.tokens, prompt->ids, prompt->count * sizeof *prompt->ids);
    request->sequence.count = request->prompt_count = prompt->count;
    for (size_t i = 0; i < prompt->count; i++)
        ell_sampler_note(&request->sampler, prompt->ids[i]);
    size_t room = (size_t)engine->executor.context - prompt->count, wanted = (size_t)prompt->settings.max_tokens;
    request->most = prompt->count + (wanted != 0 && wanted < room ? wanted : room);
    request->engine = engine;
    request->submitted = ell_seconds();
    request->decoding = (struct ell_decoding){.tokenizer = engine->tokenizer, .at_once = true};
    return request;
}

int ell_submit(struct ell_engine *engine, const struct ell_prompt *prompts, size_t count,
               struct ell_request **requests, struct ell_error *error)
{
    for (size_t i = 0; i < count; i++) {
        requests[i] = make_request(engine, &prompts[i], error);
        if (requests[i] == NULL) {
            while (i > 0) {
                free_request(requests[--i]);
                requests[i] = NULL;
            }
            return -1;
        }
    }
    pthread_mutex_lock(&engine->lock);
    for (size_t i = 0; i < count; i++) {
        if (engine->last_arrived != NULL)
            engine->last_arrived->arrived = requests[i];
        else
            engine->arrived = requests[i];
        engine->last_arrived = requests[i];
    }
    pthread_cond_broadcast(&engine->changed);
    pthread_mutex_unlock(&engine->lock);
    return 0;
}

/* Bytes of the text that fit into `room` without cutting a character. */
static size_t fitting(const struct ell_bytes *text, size_t read, size_t room)
{
    size_t left = text->size - read, size = left < room ? left : room;
    while (size < left && size > 0 && (text->data[read + size] & 0xC0) == 0x80)
        size--;
    return size;
}

int ell_next(struct ell_request *request, char *text, size_t room, size_t *size, struct ell_error *error)
{
    struct ell_engine *engine = request->engine;
    *size = 0;
    if (room < 8) {
        ell_fail(error, "the room for the text is smaller than 8 bytes");
        return -1;
    }
    pthread_mutex_lock(&engine->lock);
    while (request->read == request->text.size && request->reason == ELL_RUNNING)
        pthread_cond_wait(&engine->changed, &engine->lock);
    int result = 1;
    if (request->read < request->text.size) {
        *size = fitting(&request->text, request->read, room);
        memcpy(text, request->text.data + request->read, *size);
        request->read += *size;
        if (request->read == request->text.size)
            request->read = request->text.size = 0;
    } else if (request->reason == ELL_FAILED) {
        ell_fail(error, "%s", request->error.text);
        result = -1;
    } else {
        result = 0;
    }
    pthread_mutex_unlock(&engine->lock);
    return result;
}

void ell_cancel(struct ell_request *request)
{
    pthread_mutex_lock(&request->engine->lock);
    request->cancelled = true;
    pthread_cond_broadcast(&request->engine->changed);
    pthread_mutex_unlock(&request->engine->lock);
}

void ell_usage(const struct ell_request *request, struct ell_usage *usage)
{
    pthread_mutex_lock(&request->engine->lock);
    *usage = (struct ell_usage){(int64_t)request->prompt_count,
                                (int64_t)(request->sequence.count - request->prompt_count),
                                (int64_t)request->sequence.cached, request->reason,
                                request->first_token != 0 ? request->first_token - request->submitted : 0,
                                request->last_token - request->first_token};
    pthread_mutex_unlock(&request->engine->lock);
}

size_t ell_answer_ids(const struct ell_request *request, int32_t *ids, size_t room)
{
    pthread_mutex_lock(&request->engine->lock);
    size_t count = request->sequence.count - request->prompt_count;
    if (count > 0 && room > 0)
        memcpy(ids, request->sequence.tokens + request->prompt_count, (count < room ? count : room) * sizeof *ids);
    pthread_mutex_unlock(&request->engine->lock);
    return count;
}

void ell_free(struct ell_request *request)
{
    if (request == NULL)
        return;
    struct ell_engine *engine = request->engine;
    pthread_mutex_lock(&engine->lock);
    request->cancelled = true;
    pthread_cond_broadcast(&engine->changed);
    while (request->reason == ELL_RUNNING)
        pthread_cond_wait(&engine->changed, &engine->lock);
    pthread_mutex_unlock(&engine->lock);
    free_request(request);
}

/* Native.java over edgellm.h. Texts cross as arrays of UTF-8: JNI's own strings are in another form of it. */
#include <jni.h>
#include <stdlib.h>
#include <string.h>

#include "edgellm.h"

enum { PIECE_BYTES = 1024 };

static struct {
    jclass exception;
    jmethodID create;
} java;

/* Throw an EngineException, or leave what has been thrown already. */
static void throw_text(JNIEnv *env, const char *text)
{
    if ((*env)->ExceptionCheck(env))
        return;
    jsize size = (jsize)strlen(text);
    jbyteArray bytes = (*env)->NewByteArray(env, size);
    if (bytes == NULL)
        return;
    (*env)->SetByteArrayRegion(env, bytes, 0, size, (const jbyte *)text);
    jobject exception = (*env)->NewObject(env, java.exception, java.create, bytes);
    if (exception != NULL)
        (*env)->Throw(env, exception);
}

static void throw_memory(JNIEnv *env)
{
    throw_text(env, "there is no memory left for this; close other apps or shorten the prompt");
}

/* A copy of an array's bytes with a zero after them; NULL for null, or with an exception pending. */
static char *text_of(JNIEnv *env, jbyteArray array, size_t *size)
{
    if (size != NULL)
        *size = 0;
    if (array == NULL)
        return NULL;
    jsize count = (*env)->GetArrayLength(env, array);
    char *text = malloc((size_t)count + 1);
    if (text == NULL) {
        throw_memory(env);
        return NULL;
    }
    (*env)->GetByteArrayRegion(env, array, 0, count, (jbyte *)text);
    text[count] = 0;
    if (size != NULL)
        *size = (size_t)count;
    return text;
}

static jbyteArray array_of(JNIEnv *env, const char *text, size_t size)
{
    jbyteArray array = (*env)->NewByteArray(env, (jsize)size);
    if (array != NULL)
        (*env)->SetByteArrayRegion(env, array, 0, (jsize)size, (const jbyte *)text);
    return array;
}

static jintArray ids_of(JNIEnv *env, const int32_t *ids, size_t count)
{
    jintArray array = (*env)->NewIntArray(env, (jsize)count);
    if (array != NULL)
        (*env)->SetIntArrayRegion(env, array, 0, (jsize)count, ids);
    return array;
}

/* Some texts, each with a zero after it. */
struct texts {
    size_t count;
    char **items;
    size_t *sizes;
};

static void free_texts(struct texts *texts)
{
    for (size_t i = 0; texts->items != NULL && i < texts->count; i++)
        free(texts->items[i]);
    free(texts->items);
    free(texts->sizes);
}

static int texts_of(JNIEnv *env, jobjectArray arrays, struct texts *texts)
{
    texts->count = (size_t)(*env)->GetArrayLength(env, arrays);
    texts->items = calloc(texts->count + 1, sizeof *texts->items);
    texts->sizes = calloc(texts->count + 1, sizeof *texts->sizes);
    if (texts->items == NULL || texts->sizes == NULL) {
        throw_memory(env);
        return 0;
    }
    for (size_t i = 0; i < texts->count; i++) {
        jbyteArray one = (*env)->GetObjectArrayElement(env, arrays, (jsize)i);
        texts->items[i] = text_of(env, one, &texts->sizes[i]);
        (*env)->DeleteLocalRef(env, one);
        if (texts->items[i] == NULL)
            return 0;
    }
    return 1;
}

static struct ell_engine *engine_of(jlong handle)
{
    return (struct ell_engine *)(intptr_t)handle;
}

static struct ell_request *request_of(jlong handle)
{
    return (struct ell_request *)(intptr_t)handle;
}

static jlong native_open(JNIEnv *env, jclass type, jbyteArray bundle, jbyteArray device, jbyteArray chat,
                         jbyteArray cache, jlongArray numbers)
{
    (void)type;
    jlong given[4];
    (*env)->GetLongArrayRegion(env, numbers, 0, 4, given);
    jbyteArray arrays[4] = {bundle, device, chat, cache};
    char *texts[4] = {0};
    for (size_t i = 0; i < 4 && !(*env)->ExceptionCheck(env); i++)
        texts[i] = text_of(env, arrays[i], NULL);
    struct ell_engine *engine = NULL;
    if (!(*env)->ExceptionCheck(env)) {
        struct ell_options options = {.device = texts[1], .chat = texts[2], .cache = texts[3], .context = given[0],
                                      .batch = given[1], .memory = (uint64_t)given[2],
                                      .check_hashes = given[3] != 0};
        struct ell_error error = {{0}};
        engine = ell_open(texts[0], &options, &error);
        if (engine == NULL)
            throw_text(env, error.text);
    }
    for (size_t i = 0; i < 4; i++)
        free(texts[i]);
    return (jlong)(intptr_t)engine;
}

static void native_close(JNIEnv *env, jclass type, jlong engine)
{
    (void)env, (void)type;
    ell_close(engine_of(engine));
}

static jbyteArray native_info(JNIEnv *env, jclass type, jlong engine, jlongArray numbers)
{
    (void)type;
    struct ell_info info;
    ell_info(engine_of(engine), &info);
    jlong told[5] = {info.context, info.batch, info.blocks, info.vocabulary, info.chat};
    (*env)->SetLongArrayRegion(env, numbers, 0, 5, told);
    return array_of(env, info.device, strlen(info.device));
}

/* Either a conversation's ids (`messages`) or a text's. */
static jintArray ids_from(JNIEnv *env, jlong engine, const struct ell_message *messages, size_t count,
                          const char *text, size_t size, int surround)
{
    struct ell_error error = {{0}};
    int32_t *ids = NULL;
    int64_t room = 0;
    for (;;) {
        int64_t found = messages != NULL
                            ? ell_chat(engine_of(engine), messages, count, ids, (size_t)room, &error)
                            : ell_tokenize(engine_of(engine), text, size, surround, ids, (size_t)room, &error);
        if (found < 0) {
            throw_text(env, error.text);
            break;
        }
        if (found <= room) {
            jintArray array = ids_of(env, ids, (size_t)found);
            free(ids);
            return array;
        }
        free(ids);
        room = found;
        ids = malloc((size_t)room * sizeof *ids);
        if (ids == NULL) {
            throw_memory(env);
            break;
        }
    }
    free(ids);
    return NULL;
}

static jintArray native_tokenize(JNIEnv *env, jclass type, jlong engine, jbyteArray text, jboolean surround)
{
    (void)type;
    size_t size;
    char *copy = text_of(env, text, &size);
    if (copy == NULL)
        return NULL;
    jintArray ids = ids_from(env, engine, NULL, 0, copy, size, surround == JNI_TRUE);
    free(copy);
    return ids;
}

static jintArray native_chat(JNIEnv *env, jclass type, jlong engine, jobjectArray roles, jobjectArray texts)
{
    (void)type;
    struct texts role = {0}, text = {0};
    jintArray ids = NULL;
    if (texts_of(env, roles, &role) && texts_of(env, texts, &text)) {
        struct ell_message *messages = calloc(role.count + 1, sizeof *messages);
        if (messages == NULL) {
            throw_memory(env);
        } else {
            for (size_t i = 0; i < role.count; i++)
                messages[i] = (struct ell_message){role.items[i], text.items[i], text.sizes[i]};
            ids = ids_from(env, engine, messages, role.count, NULL, 0, 0);
            free(messages);
        }
    }
    free_texts(&role);
    free_texts(&text);
    return ids;
}

static void native_defaults(JNIEnv *env, jclass type, jlong engine, jdoubleArray reals, jlongArray whole)
{
    (void)type;
    struct ell_settings own;
    ell_defaults(engine_of(engine), &own);
    jdouble real[4] = {own.temperature, own.top_p, own.min_p, own.repetition_penalty};
    jlong number[4] = {own.max_tokens, own.top_k, own.ignore_end, (jlong)own.seed};
    (*env)->SetDoubleArrayRegion(env, reals, 0, 4, real);
    (*env)->SetLongArrayRegion(env, whole, 0, 4, number);
}

static jlong native_submit(JNIEnv *env, jclass type, jlong engine, jintArray ids, jdoubleArray reals,
                           jlongArray whole, jobjectArray stops)
{
    (void)type;
    jdouble real[4];
    jlong number[4];
    (*env)->GetDoubleArrayRegion(env, reals, 0, 4, real);
    (*env)->GetLongArrayRegion(env, whole, 0, 4, number);
    struct texts stop = {0};
    struct ell_request *request = NULL;
    jint *own = (*env)->GetIntArrayElements(env, ids, NULL);
    if (own != NULL && texts_of(env, stops, &stop)) {
        struct ell_prompt prompt = {
            .ids = own,
            .count = (size_t)(*env)->GetArrayLength(env, ids),
            .settings = {.temperature = real[0],
                         .top_p = real[1],
                         .min_p = real[2],
                         .repetition_penalty = real[3],
                         .max_tokens = number[0],
                         .top_k = (int32_t)number[1],
                         .ignore_end = number[2] != 0,
                         .seed = (uint64_t)number[3],
                         .stop = (const char *const *)stop.items,
                         .stops = stop.count},
        };
        struct ell_error error = {{0}};
        if (ell_submit(engine_of(engine), &prompt, 1, &request, &error) != 0)
            throw_text(env, error.text);
    }
    if (own != NULL)
        (*env)->ReleaseIntArrayElements(env, ids, own, JNI_ABORT);
    free_texts(&stop);
    return (jlong)(intptr_t)request;
}

static jbyteArray native_next(JNIEnv *env, jclass type, jlong request)
{
    (void)type;
    char text[PIECE_BYTES];
    size_t size = 0;
    struct ell_error error = {{0}};
    int more = ell_next(request_of(request), text, sizeof text, &size, &error);
    if (more < 0)
        throw_text(env, error.text);
    return more > 0 ? array_of(env, text, size) : NULL;
}

static void native_cancel(JNIEnv *env, jclass type, jlong request)
{
    (void)env, (void)type;
    ell_cancel(request_of(request));
}

static jlongArray native_usage(JNIEnv *env, jclass type, jlong request)
{
    (void)type;
    struct ell_usage usage;
    ell_usage(request_of(request), &usage);
    jlong told[4] = {usage.prompt_tokens, usage.answer_tokens, usage.cached_tokens, (jlong)usage.reason};
    jlongArray array = (*env)->NewLongArray(env, 4);
    if (array != NULL)
        (*env)->SetLongArrayRegion(env, array, 0, 4, told);
    return array;
}

static jintArray native_answer_ids(JNIEnv *env, jclass type, jlong request)
{
    (void)type;
    size_t count = ell_answer_ids(request_of(request), NULL, 0);
    int32_t *ids = malloc((count + 1) * sizeof *ids);
    if (ids == NULL) {
        throw_memory(env);
        return NULL;
    }
    size_t now = ell_answer_ids(request_of(request), ids, count); /* it may have grown since */
    jintArray array = ids_of(env, ids, now < count ? now : count);
    free(ids);
    return array;
}

static void native_free(JNIEnv *env, jclass type, jlong request)
{
    (void)env, (void)type;
    ell_free(request_of(request));
}

static const JNINativeMethod METHODS[] = {
    {"open", "([B[B[B[B[J)J", (void *)native_open},
    {"close", "(J)V", (void *)native_close},
    {"info", "(J[J)[B", (void *)native_info},
    {"tokenize", "(J[BZ)[I", (void *)native_tokenize},
    {"chat", "(J[[B[[B)[I", (void *)native_chat},
    {"defaults", "(J[D[J)V", (void *)native_defaults},
    {"submit", "(J[I[D[J[[B)J", (void *)native_submit},
    {"next", "(J)[B", (void *)native_next},
    {"cancel", "(J)V", (void *)native_cancel},
    {"usage", "(J)[J", (void *)native_usage},
    {"answerIds", "(J)[I", (void *)native_answer_ids},
    {"free", "(J)V", (void *)native_free},
};

JNIEXPORT jint JNICALL JNI_OnLoad(JavaVM *vm, void *reserved)
{
    (void)reserved;
    JNIEnv *env;
    if ((*vm)->GetEnv(vm, (void **)&env, JNI_VERSION_1_6) != JNI_OK)
        return JNI_ERR;
    jclass exception = (*env)->FindClass(env, "org/edgellm/EngineException");
    if (exception == NULL)
        return JNI_ERR;
    java.exception = (*env)->NewGlobalRef(env, exception);
    java.create = (*env)->GetMethodID(env, exception, "<init>", "([B)V");
    jclass type = (*env)->FindClass(env, "org/edgellm/Native");
    if (java.exception == NULL || java.create == NULL || type == NULL)
        return JNI_ERR;
    if ((*env)->RegisterNatives(env, type, METHODS, sizeof METHODS / sizeof *METHODS) != JNI_OK)
        return JNI_ERR;
    return JNI_VERSION_1_6;
}

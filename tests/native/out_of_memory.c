/* out_of_memory BUNDLE: an engine's thread gets no memory, from its beginning or for a request; then it gets some again.
 * Linked with --wrap for calloc and realloc. Prints the errors; a request that is never ended ends the program. */
#define _POSIX_C_SOURCE 200809L

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "edgellm.h"

void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

static atomic_bool none_left;
static pthread_t first_thread;

static bool refused(void)
{
    return none_left && !pthread_equal(pthread_self(), first_thread);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return refused() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return refused() ? NULL : __real_realloc(memory, size);
}

/* Two requests together: what they end with, and how often as they should. */
static int ask(struct ell_engine *engine, int expected)
{
    static const int32_t ids[] = {1, 2, 3};
    struct ell_prompt prompts[2] = {{.ids = ids, .count = 3}, {.ids = ids, .count = 3}};
    struct ell_request *requests[2];
    struct ell_error error;
    int right = 0;
    for (int i = 0; i < 2; i++) {
        ell_defaults(engine, &prompts[i].settings);
        prompts[i].settings.max_tokens = 2;
    }
    if (ell_submit(engine, prompts, 2, requests, &error) != 0)
        return 0;
    for (int i = 0; i < 2; i++) {
        char text[64];
        size_t size;
        int more;
        while ((more = ell_next(requests[i], text, sizeof text, &size, &error)) > 0)
            continue;
        right += more == expected;
        if (more < 0)
            puts(error.text);
        ell_free(requests[i]);
    }
    return right;
}

int main(int count, char **arguments)
{
    struct ell_options options = {.device = "recording", .context = 64, .batch = 2};
    struct ell_error error;
    int right = 0;
    if (count != 2)
        return 2;
    alarm(20);
    first_thread = pthread_self();
    for (int early = 0; early < 2; early++) {
        none_left = early;
        struct ell_engine *engine = ell_open(arguments[1], &options, &error);
        if (engine == NULL)
            return 1;
        if (!early)
            right += ask(engine, 0); /* the thread has its arrays when this is over */
        none_left = true;
        right += ask(engine, -1);
        none_left = false;
        right += ask(engine, early ? -1 : 0); /* without its own arrays it never computes */
        ell_close(engine);
    }
    return right != 10;
}

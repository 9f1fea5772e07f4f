#define _POSIX_C_SOURCE 200809L

#include "kernel_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"
#include "sha256.h"

enum { MAX_BYTES = 64 << 20, KEY = 64 };

/* What a file begins with; the hash, of the key and of what follows, comes next. */
static const char MARK[] = "edgellm-kernel-1";

struct head {
    char mark[sizeof MARK - 1], digits[KEY];
};

static struct head head_of(const char *key, const void *data, size_t size)
{
    struct head head;
    struct ell_sha256 hash;
    char digits[KEY + 1];
    ell_sha256_start(&hash);
    ell_sha256_add(&hash, key, KEY);
    ell_sha256_add(&hash, data, size);
    ell_sha256_end(&hash, digits);
    memcpy(head.mark, MARK, sizeof head.mark);
    memcpy(head.digits, digits, sizeof head.digits);
    return head;
}

bool ell_cache_read(const char *folder, const char *key, struct ell_bytes *bytes)
{
    char *path = ell_path(folder, (struct ell_text){key, KEY});
    bool good = path != NULL && ell_read_file(path, MAX_BYTES, bytes, NULL);
    free(path);
    if (!good)
        return false;
    struct head head;
    if (bytes->size > sizeof head) {
        head = head_of(key, bytes->data + sizeof head, bytes->size - sizeof head);
        if (memcmp(&head, bytes->data, sizeof head) == 0) {
            bytes->size -= sizeof head;
            memmove(bytes->data, bytes->data + sizeof head, bytes->size);
            return true;
        }
    }
    ell_bytes_free(bytes);
    return false;
}

static bool write_all(int descriptor, const void *data, size_t size)
{
    const char *at = data;
    while (size > 0) {
        ssize_t count = write(descriptor, at, size);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return false;
        at += count;
        size -= (size_t)count;
    }
    return true;
}

void ell_cache_write(const char *folder, const char *key, const void *data, size_t size)
{
    char name[KEY + 48];
    if (size == 0 || size > MAX_BYTES - sizeof(struct head))
        return;
    snprintf(name, sizeof name, "%.64s.%ld-%.0f.new", key, (long)getpid(), ell_seconds() * 1e9);
    char *path = ell_path(folder, (struct ell_text){key, KEY}), *fresh = ell_path(folder, ell_text_of(name));
    int descriptor = path != NULL && fresh != NULL ? open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
    if (descriptor >= 0) {
        struct head head = head_of(key, data, size);
        bool good = write_all(descriptor, &head, sizeof head) && write_all(descriptor, data, size);
        if (close(descriptor) != 0 || !good || rename(fresh, path) != 0)
            unlink(fresh);
    }
    free(path);
    free(fresh);
}

#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64

#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

char *ell_path(const char *directory, struct ell_text name)
{
    size_t size = strlen(directory);
    char *path = malloc(size + name.size + 2);
    if (path == NULL)
        return NULL;
    memcpy(path, directory, size);
    path[size] = '/';
    memcpy(path + size + 1, name.data, name.size);
    path[size + 1 + name.size] = '\0';
    return path;
}

char *ell_path_beside(const char *directory, const char *name)
{
    size_t end = strlen(directory), start;
    while (end > 1 && directory[end - 1] == '/')
        end--;
    for (start = end; start > 0 && directory[start - 1] != '/';)
        start--;
    /* "a/b" is in "a", "b" is in ".", and only the system knows where "a/.." and "." are. */
    bool dots = end - start <= 2 && strspn(directory + start, ".") >= end - start;
    size_t kept = dots ? end : start;
    char *path = malloc(kept + strlen(name) + 5);
    if (path == NULL)
        return NULL;
    memcpy(path, directory, kept);
    strcpy(path + kept, dots ? "/../" : "");
    strcat(path, name);
    return path;
}

bool ell_plain_file(const char *directory, struct ell_text name, uint64_t *size, struct ell_error *error)
{
    char *path = ell_path(directory, name);
    if (path == NULL)
        return ell_fail_memory(error);
    char *end = path + strlen(path), *at = path + strlen(directory) + 1;
    const char *wrong = NULL;
    while (wrong == NULL && at < end) {
        char *slash = strchr(at, '/');
        at = slash != NULL ? slash : end;
        char kept = *at;
        *at = '\0';
        struct stat status;
        if (lstat(path, &status) != 0)
            wrong = errno == ENOENT || errno == ENOTDIR ? "is missing" : "cannot be read";
        else if (S_ISLNK(status.st_mode))
            wrong = "is a symbolic link or lies behind one; a bundle has none";
        else if (kept == '/' && !S_ISDIR(status.st_mode))
            wrong = "is missing";
        else if (kept == '\0' && !S_ISREG(status.st_mode))
            wrong = "is not a regular file";
        else
            *size = (uint64_t)status.st_size;
        *at = kept;
        at += kept == '/';
    }
    if (wrong != NULL)
        ell_fail(error, "%s %s", path, wrong);
    free(path);
    return wrong == NULL;
}

bool ell_file_exists(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0;
}

static bool refuse(const char *path, int descriptor, struct ell_error *error)
{
    ell_fail(error, "%s cannot be read: %s", path, strerror(errno));
    if (descriptor >= 0)
        close(descriptor);
    return false;
}

bool ell_map_file(const char *path, struct ell_mapped *mapped, struct ell_error *error)
{
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0 || fstat(descriptor, &status) != 0)
        return refuse(path, descriptor, error);
    *mapped = (struct ell_mapped){NULL, 0};
    if ((uint64_t)status.st_size > SIZE_MAX) {
        close(descriptor);
        return ell_fail(error, "%s is larger than this processor can address", path);
    }
    if (status.st_size > 0) {
        void *data = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
        if (data == MAP_FAILED)
            return refuse(path, descriptor, error);
        *mapped = (struct ell_mapped){data, (size_t)status.st_size};
    }
    close(descriptor);
    return true;
}

void ell_unmap_file(struct ell_mapped *mapped)
{
    if (mapped->size != 0)
        munmap((void *)(uintptr_t)mapped->data, mapped->size);
    *mapped = (struct ell_mapped){NULL, 0};
}

bool ell_read_file(const char *path, size_t most, struct ell_bytes *bytes, struct ell_error *error)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return refuse(path, descriptor, error);
    *bytes = (struct ell_bytes){0};
    for (;;) {
        if (!ell_grow(&bytes->data, &bytes->room, bytes->size + (64 << 10), 1)) {
            close(descriptor);
            ell_bytes_free(bytes);
            return ell_fail_memory(error);
        }
        ssize_t count = read(descriptor, bytes->data + bytes->size, bytes->room - bytes->size - 1);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0) {
            ell_bytes_free(bytes);
            return refuse(path, descriptor, error);
        }
        bytes->size += (size_t)count;
        if (count == 0 || bytes->size > most)
            break;
    }
    close(descriptor);
    if (bytes->size > most) {
        ell_bytes_free(bytes);
        return ell_fail(error, "%s is larger than %zu bytes, more than such a file ever has", path, most);
    }
    bytes->data[bytes->size] = 0;
    return true;
}

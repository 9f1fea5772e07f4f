/* Files of a bundle: read whole, or mapped. Paths are UTF-8. */
#ifndef ELL_FILE_H
#define ELL_FILE_H

#include "base.h"

/* A file's bytes, mapped for reading only. */
struct ell_mapped {
    const uint8_t *data;
    size_t size;
};

/* "directory/name" in new memory, to be freed; NULL without memory. */
char *ell_path(const char *directory, struct ell_text name);

/* "parent/name" of the directory that `directory` is in, in new memory, to be freed; NULL without memory. */
char *ell_path_beside(const char *directory, const char *name);

/* Whether `directory/name` is a regular file, behind no symbolic link on the way below `directory`; its size. */
bool ell_plain_file(const char *directory, struct ell_text name, uint64_t *size, struct ell_error *error);

bool ell_file_exists(const char *path);

bool ell_map_file(const char *path, struct ell_mapped *mapped, struct ell_error *error);
void ell_unmap_file(struct ell_mapped *mapped);

/* A whole file of at most `most` bytes; the result ends in a zero that does not count. */
bool ell_read_file(const char *path, size_t most, struct ell_bytes *bytes, struct ell_error *error);

#endif

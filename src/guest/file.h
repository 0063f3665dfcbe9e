/* Small files, read and written whole.
 * Never follows a link at the name that it writes. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/** guest_read_file: Returns: (transfer full): the content with a NUL after it, for free(3); NULL with errno (EFBIG over
 * @max). */
char *guest_read_file (const char *path, size_t max);

/** guest_read_word: reads the first line of a small file (sysfs) into @buffer. Returns: 0, or -1 with errno. */
int guest_read_word (const char *path, char *buffer, size_t size);

/**
 * guest_write_file:
 * Replaces @path by a file of @mode with @text, owned by root: a new file, renamed over the old name. A file that has
 * the text and the mode already is left alone. Returns: 0, or -1 with errno.
 */
int guest_write_file (const char *path, const char *text, mode_t mode);

/** guest_make_dirs: mkdir -p; 0755. Returns: 0, or -1 with errno. */
int guest_make_dirs (const char *path);

/** guest_copy_file: copies @from to the new file @to. Returns: 0, or -1 with errno. */
int guest_copy_file (const char *from, const char *to, mode_t mode);

/* tar(5) as banger and tar(1) write it today: ustar, pax with sparse files of form 1.0, GNU's long names.
 * Used by copy.c.
 * Never trusts a length, never keeps more than one header. */
#pragma once

#include "common/tree-write.h"

/** guest_untar: from @fd to its end. Returns: 0; -1: @ret_damage says what is wrong with the tar, or, NULL, the writer has a
 * problem. */
int guest_untar (int fd, BangerTreeWriter *writer, const char **ret_damage);

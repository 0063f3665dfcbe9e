/* Loop devices over descriptors that passed a gate.
 * Called by snapshot.c, in worker threads.
 * Never detaches a loop: each goes by itself with its last user (autoclear). */
#pragma once

#include "privileged/root.h"

/**
 * banger_loop_attach:
 * LOOP_CONFIGURE (loop(4)) with autoclear over @file_fd. Keep the result open until the loop has another user.
 * Returns: a descriptor of the loop, -1 on error; @ret_device is its number.
 */
int banger_loop_attach (int file_fd, gboolean read_only, dev_t *ret_device, GError **error);

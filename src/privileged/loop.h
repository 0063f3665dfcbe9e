/* Loop devices over descriptors that passed a gate.
 * Runs in worker threads.
 * Never detaches a loop: each goes by itself with its last user (autoclear). */
#pragma once

#include "privileged/root.h"

/* Loops of numbers that the kernel never chooses by itself: so udev's rule (udev/) knows them by their names, from the
 * first event on. The last one never gets a file: it shows whether udev has the rule. */
#define BANGER_LOOP_FIRST 60000
#define BANGER_LOOP_LAST 60998
#define BANGER_LOOP_PROBE "loop60999"

/**
 * banger_loop_attach:
 * LOOP_CONFIGURE (loop(4)) with autoclear over @file_fd, at a number of banger's. Keep the result open until the loop
 * has another user. Partitions are not looked for. Call under one lock with the two below.
 * Returns: a descriptor of the loop, -1 on error; @ret_device is its number.
 */
int banger_loop_attach (int file_fd, gboolean read_only, dev_t *ret_device, GError **error);
/** banger_loop_sweep: removes banger's loops without a file: another program would get one with its file. */
void banger_loop_sweep (void);

/** banger_loop_add_probe: makes %BANGER_LOOP_PROBE anew, without a file. */
gboolean banger_loop_add_probe (GError **error);
void banger_loop_remove_probe (void);

/* What a program finds when it starts, made as its code takes it to be: three descriptors, children that can be waited
 * for. Called first thing in every main() (no GLib here: banger-guest and banger-jailer link it).
 * Never fails: what cannot be opened stays closed. */
#pragma once

#include <stdbool.h>

/**
 * banger_std_fds_fill:
 * Opens /dev/null in place of closed descriptors 0, 1 and 2, which the next open(2) would take: what is written to
 * "stdout" would end in a socket, and what is read from "stdin" would be our own signalfd. stdout gets it for reading
 * only, so that a write fails as it does on a closed one. Besides, SIGCHLD gets its default back: whoever ignores it
 * has the kernel throw the status of our children away.
 */
void banger_std_fds_fill (void);

/**
 * banger_std_fds_raise:
 * Takes as many descriptors as it may have, up to 16384, LimitNOFILE of the units: hundreds of VMs and of calls hold a few
 * each. 1024, the usual soft limit, is for those who call select(2).
 */
void banger_std_fds_raise (void);

/** banger_std_fds_was_closed: whether @fd (0, 1, 2) was closed when banger_std_fds_fill() looked. */
bool banger_std_fds_was_closed (int fd);

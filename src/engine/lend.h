/* A file that QEMU is to map privately, and cannot open to write: it is handed what was opened to read.
 * Never what keeps QEMU from writing there: that is who may write to the file, and the mount that it lies on. */
#pragma once

#include <glib.h>

typedef struct BangerLend BangerLend;

/**
 * banger_lend_child:
 * In the child, before it becomes QEMU: from now on what it opens with exactly O_RDWR, as it opens the file of
 * its memory (QEMU up to 8.1; later ones have "rom=off" for this) and no disk, is asked about. See seccomp_unotify(2). Only system
 * calls. @socket: gets the listener. Returns: 0, or -1 with errno.
 */
int banger_lend_child (int socket);
/**
 * banger_lend_new:
 * In the parent: takes the listener from @socket, where the child has ended its part; what is asked about
 * becomes @file_fd (duplicated). Returns: %NULL if none came.
 */
BangerLend *banger_lend_new (int socket, int file_fd);
void banger_lend_free (BangerLend *lend);

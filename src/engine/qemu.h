/* The QEMU process: started, watched, never left behind.
 * Never outlives its parent (PR_SET_PDEATHSIG). */
#pragma once

#include <glib.h>

typedef struct BangerQemu BangerQemu;

/** BangerQemuExited: @wait_status as waitpid(2); @last_words: the end of its stderr, never %NULL. Free @qemu in or
 * after it. */
typedef void (*BangerQemuExited) (int wait_status, const char *last_words, gpointer user_data);

/**
 * banger_qemu_spawn:
 * @argv: argv[0] is the path. @fds: descriptors it inherits by number (they stay close-on-exec here), ended by -1.
 * @stdout_fd: its standard output, see console.h. stdin is the VMM's own; stderr is read and logged line by line.
 * @lent_fd: -1, or the file of its memory, opened to read, which it maps privately (lend.h).
 */
BangerQemu *banger_qemu_spawn (char **argv, const int *fds, int stdout_fd, int lent_fd, BangerQemuExited exited,
                               gpointer user_data, GError **error);

/** banger_qemu_kill: SIGKILL; @exited follows from the main loop. */
void banger_qemu_kill (BangerQemu *qemu);

/** banger_qemu_kill_and_wait: SIGKILL and reap now, without the callback. */
void banger_qemu_kill_and_wait (BangerQemu *qemu);

void banger_qemu_free (BangerQemu *qemu);

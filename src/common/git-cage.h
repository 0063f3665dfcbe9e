/* The host's own git, asked about a repository that nobody vouches for.
 * Runs in worker threads.
 * Never lets git start a program, open a socket or write anything but its answer and what lies in the one folder that
 * was made for it, whatever the repository's or the owner's configuration names: the kernel refuses it, so that no list
 * of dangerous keys has to be complete. */
#pragma once

#include <gio/gio.h>

/**
 * banger_git_run:
 * Runs `git -C @folder` with @words (%NULL-ended) as the owner, with his configuration, in a process group of its own
 * that ends with @cancellable. It is refused where the kernel has no seccomp.
 * @max: of the answer in bytes; more is an error.
 * Returns: (transfer full): the answer, %NULL on error. Where git itself says no: %BANGER_ERROR_INVALID_PATH with its
 * words on one line.
 */
GString *banger_git_run (const char *folder, const char *const *words, gsize max, GCancellable *cancellable,
                         GError **error);

/**
 * banger_git_run_warned:
 * @warnings: (element-type utf8): gets each line in which git warned, without the word, such as of a folder that it
 * could not open and passed over.
 */
GString *banger_git_run_warned (const char *folder, const char *const *words, gsize max, GPtrArray *warnings,
                                GCancellable *cancellable, GError **error);

typedef struct {
  int in;        /* its stdin; -1: none */
  gsize max;     /* of the answer in bytes */
  int wake;      /* readable: end it; -1: nothing does */
  GString *said; /* gets what it complained of, the first MiB */
} BangerGitEnds;

/**
 * banger_git_run_within:
 * Runs `git -C @folder` where @folder is a work tree with a .git that was made for this: it may write below it, and
 * nowhere else, and reads no configuration but that which is there. It is refused where the kernel has no Landlock.
 * Errors as of banger_git_run(); %BANGER_ERROR_CANCELLED if it was woken.
 */
GString *banger_git_run_within (const char *folder, const char *const *words, const BangerGitEnds *ends,
                                GError **error);

/* Programs that judge what the owner made: run as the owner, with nothing but what they are given.
 * Runs in worker threads.
 * Never runs a program that did not pass the gate, never waits without an end. */
#pragma once

#include "common/cage.h"
#include "privileged/jail.h"

typedef struct {
  int program_fd; /* gated; executed by descriptor */
  const char *const *argv;
  guint64 at_once; /* of all programs; others wait for their turn */
  uid_t uid;
  gid_t gid;
  int (*request) (gpointer data, GError **error); /* becomes 0, made when it is its turn; NULL: /dev/null */
  gpointer request_data;
  int image_fd;               /* becomes 3; -1: none */
  const BangerJailPlan *root; /* NULL: the host's; else its own: @top (covered by a tmpfs that nobody else sees), binds,
                               * links and nodes */
  const BangerCage *cage;     /* NULL: none, for tests; the program cannot start processes all the same */
  guint64 file_bytes;         /* it can write to no file beyond this, RLIMIT_FSIZE */
  guint64 memory_bytes;       /* RLIMIT_AS */
  guint seconds;              /* then it is killed */
  gboolean interruptible;     /* it may be killed at any time: banger_worker_stop() */
  size_t max_output;          /* of its standard output; more ends it */
} BangerWorker;

/* A node's name in its own root. */
#define BANGER_WORKER_NODE "disk"

/**
 * banger_worker_run:
 * Runs the program to its end: the uid and gid, no supplementary groups, no capabilities, no new privileges, no child
 * processes, no core, no descriptors but those above, killed if the helper dies.
 * @ret_status: its exit status. Ended by a signal: %BANGER_ERROR_FAILED. Not in time: %BANGER_ERROR_TIMEOUT. By
 * banger_worker_stop(): %BANGER_ERROR_CANCELLED.
 * Returns: (transfer full): its output.
 */
GByteArray *banger_worker_run (const BangerWorker *worker, const char *what, int *ret_status, GError **error);

/** banger_worker_stop: the helper ends: programs that may be interrupted are, now and from now on. */
void banger_worker_stop (void);

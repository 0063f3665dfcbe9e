/* Programs that judge what the owner made: run as the owner, with nothing but what they are given.
 * Called by disk.c, in worker threads, and by helper.c.
 * Never runs a program that did not pass the gate, never waits without an end. */
#pragma once

#include "privileged/root.h"

typedef struct {
  int program_fd; /* gated; executed by descriptor */
  const char *const *argv;
  uid_t uid;
  gid_t gid;
  int request_fd;          /* becomes 0; -1: /dev/null */
  int image_fd;            /* becomes 3; -1: none */
  dev_t device;            /* 0: none; else a node of it, the owner's, below @node_folder */
  const char *node_folder; /* covered by a tmpfs that only the program sees */
  guint64 file_bytes;      /* it can write to no file beyond this, RLIMIT_FSIZE */
  gboolean threads;        /* may start threads; processes then are forbidden by a filter of system calls */
  guint64 memory_bytes;    /* RLIMIT_AS */
  guint seconds;           /* then it is killed */
  gboolean interruptible;  /* it may be killed at any time: banger_worker_stop() */
  size_t max_output;       /* of its standard output; more ends it */
} BangerWorker;

/* The node's name below node_folder. */
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

/* Other programs as child processes, without a shell: what they print, with a bound.
 * Runs in worker threads.
 * Never waits without an end, never keeps more than it was told to. */
#pragma once

#include <gio/gio.h>

typedef struct {
  const char *const *argv;
  const char *folder; /* to run in; NULL: as the caller */
  gsize max_output;   /* of stdout; more ends it */
  guint seconds;      /* then it is killed */
  GCancellable *cancellable;
  gboolean (*look) (gpointer data, GError **error); /* every now and then, FALSE ends it; may be NULL */
  gpointer look_data;
  gboolean tail;          /* of stdout and stderr the end is kept, instead of what is too much ending it */
  guint patience_seconds; /* that it has to end by SIGTERM, with all that it started, before it is killed; 0: none */
  gboolean keeper;        /* nothing that it starts, and whatever that does, outlives it: see keeper.h */
  void (*printed) (const char *text, gpointer data); /* parts of stdout as they come; may be NULL */
  gpointer printed_data;
} BangerProgram;

/**
 * banger_program_run:
 * LC_ALL is C.UTF-8; the rest of the environment is the caller's.
 * @ret_errors: (out) (transfer full) (nullable): the beginning (with tail, the end) of what it said on stderr, on failure, too.
 * Returns: (transfer full): what it printed, valid UTF-8; %NULL with %BANGER_ERROR_NOT_SUPPORTED (not there),
 * %BANGER_ERROR_CANCELLED, %BANGER_ERROR_TIMEOUT, %BANGER_ERROR_LIMITS_EXCEEDED or, for a status that is not 0,
 * %BANGER_ERROR_FAILED.
 */
char *banger_program_run (const BangerProgram *program, char **ret_errors, GError **error);

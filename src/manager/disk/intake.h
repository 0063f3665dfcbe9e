/* A program without rights that reads what strangers made: tars, ext4 files, kernels and packages.
 * Runs in worker threads.
 * Never believes its numbers, never waits for it without an end, leaves nothing of it behind. */
#pragma once

#include <gio/gio.h>

#include "common/error.h"
#include "common/progress.h"
#include "intake/protocol.h"

#define BANGER_INTAKE_LATER -2 /* of open(): the file will come, ask again; -1: there is none */

typedef struct {
  const char *verb; /* BANGER_INTAKE_TAR and so on */
  guint64 number;
  const char *reference; /* which image of several; NULL: there is one */
  const char *what;      /* "the tar", for messages */
  BangerError bad;       /* what it means if the program dies of it */
  int source_fd;
  gboolean stream; /* the source may be a pipe: it is read and digested here and the program gets the bytes only */
  guint64 expected_bytes; /* of a stream that does not know; 0: unknown, -1 is reported */
  int target_fds[2];      /* regular files, for the program to write; the first may be one to read */
  int extra_fd;           /* a third file, for the verb to read or to write; -1: none */
  /* BANGER_INTAKE_OCI: opens a file that it asks for, a regular one for reading; -1, or BANGER_INTAKE_LATER. @source_fd is unused. */
  int (*open) (const char *name, gpointer data);
  gpointer open_data;
  guint64 target_bytes; /* neither target may become longer; 0: no bound but the disk's room */
  guint quiet_seconds;  /* without a sign of life while there is work; 0: the default */
  BangerProgress progress;
  gpointer progress_data;
  GCancellable *cancellable;
} BangerIntake;

typedef struct {
  BangerIntakeResult result; /* the program's words: checked for form, not for truth */
  char *digest;              /* of a stream: "sha256:..." of all its bytes */
  char **warnings;           /* sentences for people */
  char **settings[BANGER_N_INTAKE_SETTINGS];
} BangerIntakeAnswer;

void banger_intake_answer_clear (BangerIntakeAnswer *answer);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (BangerIntakeAnswer, banger_intake_answer_clear)

/**
 * banger_intake_run:
 * Starts banger-intake with these descriptors and nothing else: no environment, a session of its own, bounds for
 * memory, processor time and files, no new privileges; it then takes away its own system calls but those on open
 * descriptors. It ends with this thread.
 * @ret_answer: written only on success.
 * Errors: what the program says; @bad if it dies; %BANGER_ERROR_TIMEOUT if it is silent; %BANGER_ERROR_NO_SPACE before
 * the disk is full; %BANGER_ERROR_CANCELLED; %BANGER_ERROR_FAILED.
 */
gboolean banger_intake_run (const BangerIntake *intake, BangerIntakeAnswer *ret_answer, GError **error);

/** banger_digest_file: sha256 of a whole file, holes as the zeros that they read as. Returns: (transfer full). */
char *banger_digest_file (int fd, GCancellable *cancellable, GError **error);

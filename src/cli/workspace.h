/* What changed in a guest's copy of a work tree, as text.
 * Never believes that it is a patch. */
#pragma once

#include "cli/guest-script.h"

typedef enum {
  BANGER_CHANGES_PATCH,   /* for git apply */
  BANGER_CHANGES_TEXT,    /* to be read */
  BANGER_CHANGES_COMMITS, /* for git am */
  BANGER_CHANGES_APPLY,   /* as the first, from where the last one that was applied ended */
  BANGER_CHANGES_SENT,    /* a commit on a line and, as a patch against it, how the files that changed were before */
  BANGER_CHANGES_APPLIED, /* none: the last BANGER_CHANGES_APPLY was */
  BANGER_CHANGES_STATUS,  /* NUL-ended: commit sent, commit now, how many, names that changed, "", files as they were */
} BangerChanges;

#define BANGER_CHANGES_MAX_BYTES (G_GUINT64_CONSTANT (1) << 30)

/** banger_changes_write: @max: bytes, 0: %BANGER_CHANGES_MAX_BYTES. More is an error, with as much written. */
gboolean banger_changes_write (BangerGuest *guest, BangerChanges what, int fd, guint64 max, gboolean quiet,
                               GError **error);

typedef struct {
  int fd;           /* a file of BANGER_CHANGES_APPLY */
  int sent_fd;      /* one of BANGER_CHANGES_SENT: merge with what was changed on the host since; -1: do not */
  const char *what; /* it is, for an error's text */
} BangerPatch;

/**
 * banger_changes_apply:
 * Puts a guest's patch into the work tree @top, or changes nothing. What it cannot be put into is told, too.
 * Returns: how many files were changed, -1 on error.
 */
gssize banger_changes_apply (const char *top, const BangerPatch *patch, GError **error);

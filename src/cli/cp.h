/* One copy between the host and a guest: what cp-in.c and cp-out.c share, and vm-cp.c calls.
 * Never seen by others. */
#pragma once

#include "cli/guest-script.h"
#include "cli/progress.h"
#include "common/tree-write.h"

typedef struct {
  BangerGuest guest;
  char *from, *to; /* paths, one of them the guest's; "-" of the host: a tar */
  gboolean quiet;
  BangerProgressView *view; /* of a terminal; NULL: none looks */
  gint64 drawn;
  guint64 moved;
} BangerCopy;

/** banger_copy_kind: what the last component of @path asks for: "dir/." means what is in it. @ret_name: (transfer full): of
 * the one that is meant. */
BangerTreeKind banger_copy_kind (const char *path, char **ret_name);

/** banger_copy_shown: @path: of a tar that calls what is at @from @name. Returns: (transfer full): as the user would. */
char *banger_copy_shown (const char *from, const char *name, const char *path);

/**
 * banger_copy_run:
 * Has the guest's agent pack or unpack, between @in or @out (-1: none) and its other end.
 * @ret_said: (transfer full): what it complained of, a line for each thing.
 * Returns: %FALSE if it is not known how that went, or the guest is too old for it.
 */
gboolean banger_copy_run (BangerCopy *copy, const char *const *words, int in, int out, int *ret_status, char **ret_said,
                          GError **error);
/** banger_copy_check: Returns: whether @status and what was said mean that all is well; what is no error is told. */
gboolean banger_copy_check (BangerCopy *copy, int status, const char *said, GError **error);

gboolean banger_copy_in (BangerCopy *copy, GError **error);
gboolean banger_copy_out (BangerCopy *copy, GError **error);

/* Taking a tree away that somebody else may still write to.
 * Used through safe-path.h, by the helper, the manager and uninstall.
 * Never goes deeper than one folder: what is below a folder is moved up first, so depth costs neither stack nor
 * descriptors. */
#include "common/safe-path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/folder.h"
#include "common/log.h"

#define PATIENCE_USEC                                                                                                  \
  (120 * G_USEC_PER_SEC) /* somebody who makes folders faster than they go is not followed for ever */

typedef struct {
  int top; /* what is to go; everything is moved to directly below it */
  guint moved;
  gint64 until;
} Removal;

static gboolean
fail (GError **error, int code, const char *what, const char *name)
{
  g_autofree char *shown = banger_log_escape (name, 200);
  if (code == EBUSY)
    return banger_set_error (error, BANGER_ERROR_UNSAFE_FILE, "path '%s' is refused: something is mounted there",
                             shown);
  return banger_set_error_errno (error, BANGER_ERROR_FAILED, code, "%s '%s'", what, shown);
}

typedef enum { GONE, LATER, FULL, FAILED } Outcome;

/* FULL: a folder with something in it. LATER: it changed meanwhile. */
static Outcome
remove_one (int dir, const char *name, GError **error)
{
  if (unlinkat (dir, name, 0) == 0 || errno == ENOENT)
    return GONE;
  if (errno != EISDIR && errno != EPERM)
    return fail (error, errno, "cannot remove", name), FAILED;
  if (unlinkat (dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
    return GONE;
  if (errno == ENOTEMPTY || errno == EEXIST)
    return FULL;
  if (errno == ENOTDIR)
    return LATER;
  return fail (error, errno, "cannot remove folder", name), FAILED;
}

/* Nobody but root makes or moves anything in it from here on, whatever is open of it. */
static gboolean
freeze (int fd, const char *name, GError **error)
{
  struct stat st;
  if (geteuid () != 0)
    return TRUE;
  if (fstat (fd, &st) < 0 || (st.st_uid != 0 && fchown (fd, 0, 0) < 0)
      || ((st.st_uid != 0 || st.st_mode & 022) && fchmod (fd, 0700) < 0))
    return fail (error, errno, "cannot take folder", name);
  return TRUE;
}

/* @ret_fd: -1 if it is no folder any more; its name has its turn again. */
static gboolean
open_folder (int dir, const char *name, int *ret_fd, GError **error)
{
  banger_autofd int fd = openat (dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
  *ret_fd = -1;
  if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
    return TRUE;
  if (fd < 0)
    return fail (error, errno, "cannot open folder", name);
  if (!banger_safe_same_mount (dir, fd))
    return fail (error, EBUSY, "cannot enter", name);
  if (!freeze (fd, name, error))
    return FALSE;
  *ret_fd = banger_steal_fd (&fd);
  return TRUE;
}

static DIR *
list (int fd, GError **error)
{
  DIR *dir = banger_folder_take (fcntl (fd, F_DUPFD_CLOEXEC, 3));
  if (!dir)
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot list a folder");
  return dir;
}

/* @ret_name: NULL at the end. */
static gboolean
next_name (DIR *dir, const char **ret_name, GError **error)
{
  const struct dirent *entry = banger_folder_next (dir);
  if (!entry && errno != 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot list a folder");
  *ret_name = entry ? entry->d_name : NULL;
  return TRUE;
}

static gboolean
is_late (const Removal *self, const char *name, GError **error)
{
  if (g_get_monotonic_time () < self->until)
    return FALSE;
  g_autofree char *shown = banger_log_escape (name, 200);
  return !banger_set_error (error, BANGER_ERROR_TIMEOUT,
                            "folder '%s' is filled faster than it is emptied: end what writes there, and try again",
                            shown);
}

static gboolean
move_up (Removal *self, int from, const char *name, GError **error)
{
  char fresh[32];
  int r;
  do
    g_snprintf (fresh, sizeof fresh, ".removed-%u", ++self->moved);
  while ((r = renameat2 (from, name, self->top, fresh, RENAME_NOREPLACE)) < 0 && errno == EEXIST);
  return r == 0 || errno == ENOENT || fail (error, errno, "cannot move folder", name);
}

/* A folder directly below the top: its files go, its folders move up. What is left of it has its turn again. */
static gboolean
empty_folder (Removal *self, const char *folder, GError **error)
{
  banger_autofd int fd = -1;
  if (!open_folder (self->top, folder, &fd, error))
    return FALSE;
  if (fd < 0)
    return TRUE;
  banger_autofolder DIR *dir = list (fd, error);
  gboolean ok = dir != NULL;
  const char *name = NULL;
  while (ok && (ok = next_name (dir, &name, error)) && name) {
    Outcome outcome = remove_one (fd, name, error);
    ok = outcome != FAILED && (outcome != FULL || move_up (self, fd, name, error)) && !is_late (self, folder, error);
  }
  return ok && remove_one (self->top, folder, error) != FAILED;
}

static gboolean
empty_top (Removal *self, const char *name, GError **error)
{
  banger_autofolder DIR *dir = list (self->top, error);
  gboolean ok = dir != NULL, found = TRUE;
  while (ok && found) {
    found = FALSE;
    rewinddir (dir);
    const char *entry = NULL;
    while (ok && (ok = next_name (dir, &entry, error)) && entry) {
      Outcome outcome = remove_one (self->top, entry, error);
      found = TRUE;
      ok = outcome != FAILED && (outcome != FULL || empty_folder (self, entry, error)) && !is_late (self, name, error);
    }
  }
  return ok;
}

gboolean
banger_safe_remove_tree (int dir_fd, const char *name, GError **error)
{
  if (!banger_safe_check_name (name, error))
    return FALSE;
  Removal self = { -1, 0, g_get_monotonic_time () + PATIENCE_USEC };
  for (Outcome outcome; (outcome = remove_one (dir_fd, name, error)) != GONE;) {
    if (outcome == FAILED || is_late (&self, name, error))
      return FALSE;
    if (outcome == LATER)
      continue;
    gboolean ok = open_folder (dir_fd, name, &self.top, error) && (self.top < 0 || empty_top (&self, name, error));
    banger_clear_fd (&self.top);
    if (!ok)
      return FALSE;
  }
  return TRUE;
}

/* Files of a work tree changed together: each is made beforehand in a folder of ours at the top, then all of the old ones
 * are moved there and the new ones from there; what fails is undone in the opposite order.
 * Called by workspace-apply.c.
 * Never follows a link, never replaces what is not what it was when it was read. */
#include <fcntl.h>
#include <glib/gi18n.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/apply.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/ids.h"
#include "common/log.h"
#include "common/safe-path.h"

typedef struct {
  BangerApply *apply;
  char *stage;     /* the folder, below the top */
  mode_t mask;     /* the user's umask */
  GPtrArray *made; /* folders, in the order in which they were made */
  GPtrArray *gone; /* likewise taken away */
  gboolean lost;   /* something could not be put back: the stage stays */
} Commit;

static gboolean
failed (const char *path, int number, GError **error)
{
  g_autofree char *shown = banger_log_escape (path, PATH_MAX);
  return banger_set_error_errno (error, BANGER_ERROR_FAILED, number, _ ("cannot write '%s'"), shown);
}

static gboolean
was_changed (const char *path, GError **error)
{
  g_autofree char *shown = banger_log_escape (path, PATH_MAX);
  return banger_set_error (error, BANGER_ERROR_WRONG_STATE, _ ("'%s' was changed meanwhile"), shown);
}

static gboolean
move (Commit *commit, const char *from, const char *to)
{
  return banger_apply_move (commit->apply, from, to);
}

/* Beforehand */

static mode_t
mode_for (const Commit *commit, const BangerTarget *target, mode_t made)
{
  if (!target->there || !S_ISREG (target->before.st_mode))
    return (made & S_IXUSR ? 0777 : 0666) & ~commit->mask;
  mode_t mode = target->before.st_mode & 0777;
  if (made & S_IXUSR)
    return mode & S_IXUSR ? mode : mode | ((mode & 0444) >> 2);
  return mode & ~(mode_t)0111;
}

static gboolean
make_file (Commit *commit, const BangerTarget *target, int folder, const char *name, int stage, const char *kept)
{
  struct stat st;
  banger_autofd int in = openat (folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  banger_autofd int out = openat (stage, kept, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  return in >= 0 && out >= 0 && fstat (in, &st) == 0 && banger_apply_copy (in, out)
         && fchmod (out, mode_for (commit, target, st.st_mode)) == 0;
}

static gboolean
make (Commit *commit, BangerTarget *target, guint index, GError **error)
{
  const char *name, *kept;
  struct stat st;
  char text[PATH_MAX];
  target->kept = g_strdup_printf ("%s/new-%u", commit->stage, index);
  banger_autofd int folder = banger_apply_parent (commit->apply->scratch_fd, target->path, &name);
  banger_autofd int stage = banger_apply_parent (commit->apply->top_fd, target->kept, &kept);
  gboolean fine = folder >= 0 && stage >= 0 && fstatat (folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
  if (fine && S_ISLNK (st.st_mode)) {
    ssize_t n = readlinkat (folder, name, text, sizeof text - 1);
    text[MAX (n, 0)] = '\0';
    fine = n >= 0 && symlinkat (text, stage, kept) == 0;
  } else if (fine)
    fine = make_file (commit, target, folder, name, stage, kept);
  return fine || failed (target->path, errno, error);
}

/* Then */

static gboolean
same_file (const struct stat *a, const struct stat *b)
{
  return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size && a->st_mode == b->st_mode
         && a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static gboolean
take_away (Commit *commit, BangerTarget *target, guint index, GError **error)
{
  const char *name;
  struct stat st;
  g_autofree char *taken = g_strdup_printf ("%s/old-%u", commit->stage, index);
  if (!move (commit, target->path, taken))
    return errno == ENOENT ? was_changed (target->path, error) : failed (target->path, errno, error);
  target->taken = g_steal_pointer (&taken);
  banger_autofd int stage = banger_apply_parent (commit->apply->top_fd, target->taken, &name);
  if (stage < 0 || fstatat (stage, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !same_file (&st, &target->before))
    return was_changed (target->path, error);
  return TRUE;
}

static void
remove_folder (Commit *commit, const char *path)
{
  const char *name;
  banger_autofd int folder = banger_apply_parent (commit->apply->top_fd, path, &name);
  if (folder >= 0 && unlinkat (folder, name, AT_REMOVEDIR) == 0)
    g_ptr_array_add (commit->gone, g_strdup (path));
}

/* Those that are empty now, @path's own and above, and in or at @top (NULL: any). */
static void
remove_folders_of (Commit *commit, const char *path, const char *top)
{
  g_autofree char *at = g_strdup (path);
  gsize length = top ? strlen (top) : 0;
  for (char *slash; (slash = strrchr (at, '/'));) {
    *slash = '\0';
    if (top && (!g_str_has_prefix (at, top) || (at[length] != '/' && at[length] != '\0')))
      return;
    remove_folder (commit, at);
  }
}

static gboolean
make_folders_for (Commit *commit, const char *path)
{
  g_autofree char *at = g_strdup (path);
  for (char *slash = strchr (at, '/'); slash; slash = strchr (slash + 1, '/')) {
    const char *name;
    *slash = '\0';
    banger_autofd int folder = banger_apply_parent (commit->apply->top_fd, at, &name);
    if (folder < 0)
      return FALSE;
    if (mkdirat (folder, name, 0777) == 0)
      g_ptr_array_add (commit->made, g_strdup (at));
    else if (errno != EEXIST)
      return FALSE;
    *slash = '/';
  }
  return TRUE;
}

/* A folder is in the way only if the patch left nothing in it. */
static void
clear_the_way (Commit *commit, const BangerTarget *target)
{
  GPtrArray *targets = commit->apply->targets;
  g_autofree char *prefix = g_strconcat (target->path, "/", NULL);
  for (guint i = 0; i < targets->len; i++) {
    const BangerTarget *other = targets->pdata[i];
    if (other->taken && g_str_has_prefix (other->path, prefix))
      remove_folders_of (commit, other->path, target->path);
  }
}

static gboolean
place (Commit *commit, BangerTarget *target, GError **error)
{
  gboolean fine = make_folders_for (commit, target->path);
  if (fine && target->there && S_ISDIR (target->before.st_mode))
    clear_the_way (commit, target);
  if (!fine || !move (commit, target->kept, target->path))
    return errno == EEXIST && !target->there ? was_changed (target->path, error) : failed (target->path, errno, error);
  target->placed = TRUE;
  return TRUE;
}

/* Undone: what cannot be is said, and stays in the stage. */
static void
put_back (Commit *commit)
{
  BangerApply *apply = commit->apply;
  for (guint i = apply->targets->len; i-- > 0;) {
    BangerTarget *target = apply->targets->pdata[i];
    if (target->placed && !move (commit, target->path, target->kept))
      commit->lost = TRUE;
  }
  for (guint i = commit->made->len; i-- > 0;) {
    const char *name;
    banger_autofd int folder = banger_apply_parent (apply->top_fd, commit->made->pdata[i], &name);
    if (folder >= 0)
      (void)unlinkat (folder, name, AT_REMOVEDIR);
  }
  for (guint i = commit->gone->len; i-- > 0;) {
    const char *name;
    banger_autofd int folder = banger_apply_parent (apply->top_fd, commit->gone->pdata[i], &name);
    if (folder >= 0)
      (void)mkdirat (folder, name, 0777);
  }
  for (guint i = apply->targets->len; i-- > 0;) {
    BangerTarget *target = apply->targets->pdata[i];
    if (!target->taken || move (commit, target->taken, target->path))
      continue;
    banger_apply_tell_lost (apply, target->path, target->taken);
    commit->lost = TRUE;
  }
}

static gboolean
exchange (Commit *commit, GError **error)
{
  GPtrArray *targets = commit->apply->targets;
  gboolean fine = TRUE;
  for (guint i = 0; fine && i < targets->len; i++)
    if (((BangerTarget *)targets->pdata[i])->comes)
      fine = make (commit, targets->pdata[i], i, error);
  fine = fine && banger_apply_journal_write (commit->apply, error);
  for (guint i = 0; fine && i < targets->len; i++)
    if (((BangerTarget *)targets->pdata[i])->goes)
      fine = take_away (commit, targets->pdata[i], i, error);
  for (guint i = 0; fine && i < targets->len; i++)
    if (((BangerTarget *)targets->pdata[i])->comes)
      fine = place (commit, targets->pdata[i], error);
  if (!fine) {
    put_back (commit);
    return FALSE;
  }
  for (guint i = 0; i < targets->len; i++) {
    const BangerTarget *target = targets->pdata[i];
    if (target->goes && !target->comes)
      remove_folders_of (commit, target->path, NULL);
  }
  return TRUE;
}

gboolean
banger_apply_commit (BangerApply *apply, GError **error)
{
  g_autofree char *id = banger_id_new ();
  g_autofree char *stage = g_strconcat (".banger-apply-", id, NULL);
  g_autoptr (GPtrArray) made = g_ptr_array_new_with_free_func (g_free), gone = g_ptr_array_new_with_free_func (g_free);
  Commit commit = { .apply = apply, .stage = stage, .made = made, .gone = gone, .mask = umask (0) };
  umask (commit.mask);
  if (!banger_apply_journal_begin (apply, stage, error))
    return FALSE;
  if (mkdirat (apply->top_fd, stage, 0700) < 0) {
    (void)failed (apply->top, errno, error);
    banger_apply_journal_end (apply, stage, FALSE);
    return FALSE;
  }
  banger_apply_fault ();
  gboolean fine = exchange (&commit, error);
  banger_apply_fault ();
  if (!fine)
    g_prefix_error_literal (error, commit.lost ? _ ("not all could be undone: ") : _ ("nothing was changed: "));
  banger_apply_journal_end (apply, stage, commit.lost);
  return fine;
}

/* What a patch names, out of a work tree into a folder of ours, and what became of it there.
 * Called by workspace-apply.c.
 * Never follows a link; never enters the repository's own folder, whatever it is called. */
#include "cli/apply.h"

#include <fcntl.h>
#include <glib/gi18n.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/names.h"
#include "common/safe-path.h"

#define ATTRIBUTES ".gitattributes"
#define MAX_BYTES (G_GUINT64_CONSTANT (2) << 30) /* git has them all in memory */

void
banger_target_free (gpointer data)
{
  BangerTarget *target = data;
  g_free (target->path);
  g_free (target->kept);
  g_free (target->taken);
  g_free (target);
}

static gboolean
refuse (const char *path, const char *why, GError **error)
{
  g_autofree char *shown = banger_log_escape (path, PATH_MAX);
  return banger_set_error (error, BANGER_ERROR_UNSAFE_FILE, _ ("the patch names '%s': %s"), shown, why);
}

static gboolean
failed (const char *path, GError **error)
{
  int number = errno;
  g_autofree char *shown = banger_log_escape (path, PATH_MAX);
  return banger_set_error_errno (error, BANGER_ERROR_FAILED, number, _ ("cannot read '%s'"), shown);
}

int
banger_apply_parent (int root_fd, const char *path, const char **ret_name)
{
  const char *slash = strrchr (path, '/');
  *ret_name = slash ? slash + 1 : path;
  if (!slash)
    return fcntl (root_fd, F_DUPFD_CLOEXEC, 3);
  g_autofree char *folder = g_strndup (path, (gsize)(slash - path));
  errno = 0;
  int fd = banger_safe_openat (root_fd, folder, O_PATH | O_DIRECTORY, 0, BANGER_SAFE_XDEV, NULL);
  if (fd < 0 && errno == 0)
    errno = ENOTDIR;
  return fd;
}

gboolean
banger_apply_copy (int in, int out)
{
  char buffer[65536];
  for (;;) {
    ssize_t n = read (in, buffer, sizeof buffer);
    if (n == 0)
      return TRUE;
    if (n < 0 && errno != EINTR)
      return FALSE;
    for (ssize_t done = 0; done < n;) {
      ssize_t written = write (out, buffer + done, (size_t)(n - done));
      if (written < 0 && errno != EINTR)
        return FALSE;
      done += MAX (written, 0);
    }
  }
}

void
banger_apply_fault (void)
{
#if BANGER_FAULT_HOOKS
  static guint calls;
  g_autofree char *here = g_strdup_printf ("apply-%u", calls++);
  if (g_strcmp0 (g_getenv (BANGER_ENV_FAULT), here) == 0)
    kill (getpid (), SIGKILL);
#endif
}

gboolean
banger_apply_move (const BangerApply *apply, const char *from, const char *to)
{
  const char *name, *other;
  struct stat st;
  banger_autofd int source = banger_apply_parent (apply->top_fd, from, &name);
  banger_autofd int target = banger_apply_parent (apply->top_fd, to, &other);
  banger_apply_fault ();
  if (source < 0 || target < 0)
    return FALSE;
  if (renameat2 (source, name, target, other, RENAME_NOREPLACE) == 0)
    return TRUE;
  if (errno != EINVAL && errno != ENOSYS)
    return FALSE;
  if (fstatat (target, other, &st, AT_SYMLINK_NOFOLLOW) == 0) { /* a file system without */
    errno = EEXIST;
    return FALSE;
  }
  return renameat (source, name, target, other) == 0;
}

void
banger_apply_tell_lost (const BangerApply *apply, const char *path, const char *taken)
{
  g_autofree char *shown = banger_log_escape (path, PATH_MAX);
  g_printerr (_ ("banger: '%s' could not be put back, it is '%s/%s'\n"), shown, apply->top, taken);
}

/* git looks at names so, too. What it would find is that nothing is written; here nothing is even read. */
gboolean
banger_apply_check_name (const char *path, GError **error)
{
  g_auto (GStrv) parts = g_strsplit (path, "/", -1);
  for (char **part = parts; *part; part++)
    if (**part == '\0' || strcmp (*part, ".") == 0 || strcmp (*part, "..") == 0 || strlen (*part) > NAME_MAX)
      return refuse (path, _ ("that is no name below the work tree"), error);
    else if (g_ascii_strcasecmp (*part, ".git") == 0)
      return refuse (path, _ ("what is git's own is not touched"), error);
  return *parts || refuse (path, _ ("that is no name below the work tree"), error);
}

static gboolean
copy_file (BangerApply *apply, int from, const char *name, int to, const char *path, GError **error)
{
  struct stat st;
  banger_autofd int in = openat (from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (in < 0 || fstat (in, &st) < 0)
    return failed (path, error);
  banger_autofd int out = openat (to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
                                  st.st_mode & S_IXUSR ? 0777 : 0666);
  if (out < 0)
    return errno == EEXIST || failed (path, error); /* it was copied already */
  apply->copied += (guint64)st.st_size;
  if (apply->copied > MAX_BYTES)
    return banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED,
                             _ ("the files that the patch names are larger than %d GiB"), (int)(MAX_BYTES >> 30));
  return banger_apply_copy (in, out) || failed (path, error);
}

static gboolean
copy_leaf (BangerApply *apply, int from, const char *name, int to, const struct stat *st, const char *path,
           GError **error)
{
  if (S_ISREG (st->st_mode))
    return copy_file (apply, from, name, to, path, error);
  if (S_ISDIR (st->st_mode))
    return mkdirat (to, name, 0777) == 0 || errno == EEXIST || failed (path, error);
  if (!S_ISLNK (st->st_mode))
    return refuse (path, _ ("it is neither a file nor a link"), error);
  char text[PATH_MAX];
  ssize_t n = readlinkat (from, name, text, sizeof text - 1);
  if (n < 0)
    return failed (path, error);
  text[n] = '\0';
  return symlinkat (text, to, name) == 0 || errno == EEXIST || failed (path, error);
}

/* They say how lines end in the files below. */
static gboolean
copy_attributes (BangerApply *apply, int from, int to, GError **error)
{
  struct stat st;
  return fstatat (from, ATTRIBUTES, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG (st.st_mode)
         || copy_file (apply, from, ATTRIBUTES, to, ATTRIBUTES, error);
}

static gboolean
has (int folder, const char *name)
{
  struct stat st;
  return fstatat (folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Of any repository in the tree: what is in it says what git runs there. */
static gboolean
is_bare (int folder)
{
  return has (folder, "HEAD") && has (folder, "objects") && has (folder, "refs");
}

static gboolean
is_git_folder (const BangerApply *apply, const struct stat *st)
{
  for (guint i = 0; i < G_N_ELEMENTS (apply->git_folders); i++)
    if (apply->git_folders[i].st_dev == st->st_dev && apply->git_folders[i].st_ino == st->st_ino)
      return TRUE;
  return FALSE;
}

/* One folder further down, on both sides. @at: which one, in @path. @ret_more: %FALSE if there is none. */
static gboolean
descend (BangerApply *apply, int *from, int *to, const char *name, const char *path, const char *at, gboolean *ret_more,
         GError **error)
{
  struct stat st;
  *ret_more = FALSE;
  if (fstatat (*from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
    return errno == ENOENT || failed (path, error);
  if (!S_ISDIR (st.st_mode)) { /* git is to see that, and says what it thinks of it */
    g_hash_table_add (apply->in_the_way, g_strndup (path, (gsize)(at - path)));
    return copy_leaf (apply, *from, name, *to, &st, path, error);
  }
  if (is_git_folder (apply, &st))
    return refuse (path, _ ("what is git's own is not touched"), error);
  gboolean fresh = mkdirat (*to, name, 0777) == 0;
  int next_from = openat (*from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  int next_to = openat (*to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  banger_clear_fd (from);
  banger_clear_fd (to);
  *from = next_from;
  *to = next_to;
  *ret_more = next_from >= 0 && next_to >= 0;
  if (!*ret_more)
    return failed (path, error);
  if (is_bare (*from))
    return refuse (path, _ ("what is git's own is not touched"), error);
  return !fresh || copy_attributes (apply, *from, *to, error);
}

static gboolean
take (BangerApply *apply, const char *path, GError **error)
{
  g_auto (GStrv) parts = g_strsplit (path, "/", -1);
  banger_autofd int from = fcntl (apply->top_fd, F_DUPFD_CLOEXEC, 3),
                    to = fcntl (apply->scratch_fd, F_DUPFD_CLOEXEC, 3);
  BangerTarget *target = g_new0 (BangerTarget, 1);
  target->path = g_strdup (path);
  g_ptr_array_add (apply->targets, target);
  char **part = parts;
  const char *at = path;
  for (gboolean more = TRUE; part[1]; part++, at++) {
    at += strlen (*part);
    if (!descend (apply, &from, &to, *part, path, at, &more, error))
      return FALSE;
    if (!more)
      return TRUE;
  }
  target->there = fstatat (from, *part, &target->before, AT_SYMLINK_NOFOLLOW) == 0;
  if (!target->there)
    return errno == ENOENT || failed (path, error);
  if (S_ISDIR (target->before.st_mode) && is_git_folder (apply, &target->before))
    return refuse (path, _ ("what is git's own is not touched"), error);
  return copy_leaf (apply, from, *part, to, &target->before, path, error);
}

static int
compare_targets (gconstpointer a, gconstpointer b)
{
  return strcmp ((*(const BangerTarget *const *)a)->path, (*(const BangerTarget *const *)b)->path);
}

gboolean
banger_apply_take (BangerApply *apply, GHashTable *names, GError **error)
{
  GHashTableIter iter;
  gpointer name;
  for (g_hash_table_iter_init (&iter, names); g_hash_table_iter_next (&iter, &name, NULL);)
    if (!banger_apply_check_name (name, error))
      return FALSE;
  struct stat top;
  if (fstat (apply->top_fd, &top) < 0)
    return failed (apply->top, error);
  if (is_git_folder (apply, &top) || is_bare (apply->top_fd))
    return refuse (apply->top, _ ("what is git's own is not touched"), error);
  if (!copy_attributes (apply, apply->top_fd, apply->scratch_fd, error))
    return FALSE;
  for (g_hash_table_iter_init (&iter, names); g_hash_table_iter_next (&iter, &name, NULL);)
    if (!take (apply, name, error))
      return FALSE;
  g_ptr_array_sort (apply->targets, compare_targets);
  return TRUE;
}

/* What became of it */

static gboolean
same_bytes (int a, int b)
{
  char one[65536], other[65536];
  for (;;) {
    ssize_t n = read (a, one, sizeof one), done = 0;
    for (ssize_t m = 1; n > 0 && done < n && m > 0; done += m)
      m = read (b, other + done, (size_t)(n - done));
    if (n <= 0)
      return n == 0 && read (b, other, 1) == 0;
    if (done != n || memcmp (one, other, (size_t)n) != 0)
      return FALSE;
  }
}

static gboolean
same_link (int a, int b, const char *name)
{
  char one[PATH_MAX], other[PATH_MAX];
  ssize_t n = readlinkat (a, name, one, sizeof one), m = readlinkat (b, name, other, sizeof other);
  return n >= 0 && n == m && memcmp (one, other, (size_t)n) == 0;
}

static gboolean
is_same (int folder, int before, const char *name, const struct stat *st, const struct stat *was)
{
  if ((st->st_mode & S_IFMT) != (was->st_mode & S_IFMT))
    return FALSE;
  if (S_ISLNK (st->st_mode))
    return same_link (folder, before, name);
  if (!S_ISREG (st->st_mode) || st->st_size != was->st_size || (st->st_mode & S_IXUSR) != (was->st_mode & S_IXUSR))
    return S_ISDIR (st->st_mode);
  banger_autofd int a = openat (folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  banger_autofd int b = openat (before, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  return a >= 0 && b >= 0 && same_bytes (a, b);
}

static void
compare (BangerApply *apply, BangerTarget *target)
{
  struct stat st;
  const char *name = NULL;
  banger_autofd int folder = banger_apply_parent (apply->scratch_fd, target->path, &name);
  banger_autofd int before = banger_apply_parent (apply->top_fd, target->path, &name);
  gboolean exists = folder >= 0 && fstatat (folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
  gboolean file = exists && (S_ISREG (st.st_mode) || S_ISLNK (st.st_mode)); /* a folder is there for what is in it */
  gboolean was_file = target->there && !S_ISDIR (target->before.st_mode);
  if (file && was_file && before >= 0 && is_same (folder, before, name, &st, &target->before))
    return;
  target->goes = was_file;
  target->comes = file;
}

static gboolean
is_either_way (const BangerApply *apply, const char *folder, const char *name)
{
  const int roots[] = { apply->top_fd, apply->scratch_fd };
  g_autofree char *path = g_strconcat (folder, name, NULL);
  for (guint i = 0; i < G_N_ELEMENTS (roots); i++) {
    const char *last;
    banger_autofd int fd = banger_apply_parent (roots[i], path, &last);
    if (fd >= 0 && has (fd, last))
      return TRUE;
  }
  return FALSE;
}

/* Whether a folder that it is in is a repository with it. */
static gboolean
makes_repository (const BangerApply *apply, const char *path)
{
  g_auto (GStrv) parts = g_strsplit (path, "/", -1);
  g_autoptr (GString) folder = g_string_new (NULL);
  for (char **part = parts; *part; g_string_append_printf (folder, "%s/", *part), part++)
    if ((g_ascii_strcasecmp (*part, "HEAD") == 0 || g_ascii_strcasecmp (*part, "objects") == 0
         || g_ascii_strcasecmp (*part, "refs") == 0)
        && is_either_way (apply, folder->str, "HEAD") && is_either_way (apply, folder->str, "objects")
        && is_either_way (apply, folder->str, "refs"))
      return TRUE;
  return FALSE;
}

gssize
banger_apply_compare (BangerApply *apply, GError **error)
{
  gssize count = 0;
  for (guint i = 0; i < apply->targets->len; i++) {
    BangerTarget *target = apply->targets->pdata[i];
    compare (apply, target);
    if (target->comes && makes_repository (apply, target->path)) {
      refuse (target->path, _ ("it would make a repository of its own"), error);
      return -1;
    }
    count += target->goes || target->comes;
  }
  return count;
}

/* The cgroup of each VMM.
 * Never touches a cgroup whose name does not follow from a VM id. */
#include "privileged/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/ids.h"
#include "common/log.h"
#include "common/safe-path.h"
#include "common/validate.h"
#include "privileged/gate.h"

#define SLICE "/banger.slice/"

/* @cgroup relative to the mount: the part below the cgroup that is mounted there, "" for that one itself. */
static const char *
below_mount (const char *mount_root, const char *cgroup)
{
  if (g_str_equal (mount_root, "/"))
    return cgroup + 1;
  size_t length = strlen (mount_root);
  if (g_str_equal (cgroup, mount_root))
    return "";
  return strncmp (cgroup, mount_root, length) == 0 && cgroup[length] == '/' ? cgroup + length + 1 : NULL;
}

void
banger_cgroup_mount_free (BangerCgroupMount *mount)
{
  g_free (mount->root);
  g_free (mount->path);
  g_free (mount);
}

/* proc(5): 36 35 98:0 /root /mount/point options - type source super. Octal escapes occur only with odd names. */
GPtrArray *
banger_cgroup_parse_mountinfo (const char *text)
{
  GPtrArray *found = g_ptr_array_new_with_free_func ((GDestroyNotify)banger_cgroup_mount_free);
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  for (char **line = lines; *line; line++) {
    const char *separator = strstr (*line, " - ");
    if (!separator || !g_str_has_prefix (separator, " - cgroup2 "))
      continue;
    g_auto (GStrv) words = g_strsplit (*line, " ", 6);
    guint64 id;
    if (g_strv_length (words) < 6 || words[3][0] != '/' || !banger_uint_parse (words[0], 0, G_MAXINT32, &id, NULL))
      continue;
    BangerCgroupMount *mount = g_new0 (BangerCgroupMount, 1);
    mount->id = id;
    mount->root = g_strcompress (words[3]);
    mount->path = g_strcompress (words[4]);
    g_ptr_array_add (found, mount);
  }
  return found;
}

/* Another mount may cover it: then its path leads there. Where statx(2) has no ids of mounts, that it is a cgroup2 has to
 * do. */
static int
open_visible (const BangerCgroupMount *mount)
{
  struct statx st;
  struct statfs fs;
  banger_autofd int fd = open (mount->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0 || fstatfs (fd, &fs) < 0 || fs.f_type != CGROUP2_SUPER_MAGIC)
    return -1;
  if (statx (fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &st) < 0
      || ((st.stx_mask & STATX_MNT_ID) && st.stx_mnt_id != mount->id))
    return -1;
  return banger_steal_fd (&fd);
}

/* Of several, one below which the helper's own cgroup is. */
static int
choose (const GPtrArray *mounts, const char *own, char **ret_root)
{
  banger_autofd int chosen = -1;
  const char *root = NULL;
  for (guint i = 0; i < mounts->len && !(root && below_mount (root, own)); i++) {
    const BangerCgroupMount *mount = mounts->pdata[i];
    banger_autofd int fd = chosen < 0 || below_mount (mount->root, own) ? open_visible (mount) : -1;
    if (fd < 0)
      continue;
    banger_clear_fd (&chosen);
    chosen = banger_steal_fd (&fd);
    root = mount->root;
  }
  *ret_root = g_strdup (root);
  return banger_steal_fd (&chosen);
}

int
banger_cgroup_find (char **ret_root, char **ret_own, GError **error)
{
  g_autofree char *text = NULL, *own = NULL, *root = NULL;
  if (!g_file_get_contents ("/proc/self/mountinfo", &text, NULL, error)
      || !g_file_get_contents ("/proc/self/cgroup", &own, NULL, error))
    return -1;
  g_autofree char *path = banger_gate_cgroup_path (own);
  g_autoptr (GPtrArray) mounts = banger_cgroup_parse_mountinfo (text);
  banger_autofd int fd = path ? choose (mounts, path, &root) : -1;
  if (fd < 0) {
    banger_set_error (error, BANGER_ERROR_NOT_SUPPORTED, "%s",
                      path && mounts->len > 0
                          ? "every mount of the cgroup2 hierarchy is covered by another one; unmount that"
                          : "no cgroup2 hierarchy is mounted; mount one (mount -t cgroup2 none /sys/fs/cgroup)");
    return -1;
  }
  *ret_root = g_steal_pointer (&root);
  *ret_own = g_steal_pointer (&path);
  return banger_steal_fd (&fd);
}

char *
banger_cgroup_of_vm (gboolean systemd, const char *own, const char *vm)
{
  g_autofree char *scope = banger_scope_name (vm);
  if (systemd)
    return g_strconcat (SLICE, scope, NULL);
  return g_strdup_printf ("%s%sbanger-vm-%s", own, g_str_has_suffix (own, "/") ? "" : "/", vm);
}

gboolean
banger_cgroup_check (const char *cgroup, const char *vm, GError **error)
{
  g_autofree char *scope = banger_scope_name (vm), *plain = g_strconcat ("banger-vm-", vm, NULL);
  const char *last = strrchr (cgroup, '/');
  gboolean plain_path = cgroup[0] == '/' && !strstr (cgroup, "//") && !strstr (cgroup, "/../")
                        && !strstr (cgroup, "/./") && strlen (cgroup) < 2048;
  if (!plain_path || !(g_str_equal (last + 1, scope) || g_str_equal (last + 1, plain)))
    return banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "the lease of %s names a cgroup that is not its own",
                             vm);
  return TRUE;
}

int
banger_cgroup_open (int mount, const char *mount_root, const char *cgroup, gboolean create, GError **error)
{
  const char *relative = below_mount (mount_root, cgroup);
  if (!relative) {
    banger_set_error (error, BANGER_ERROR_NOT_SUPPORTED, "cgroup '%s' is not below the mounted '%s'", cgroup,
                      mount_root);
    return -1;
  }
  if (*relative == '\0') {
    int own = openat (mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (own < 0)
      banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot open cgroup '%s'", cgroup);
    return own;
  }
  if (create && mkdirat (mount, relative, 0755) < 0 && errno != EEXIST) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make cgroup '%s'", cgroup);
    return -1;
  }
  return banger_safe_openat (mount, relative, O_RDONLY | O_DIRECTORY, 0, BANGER_SAFE_NONE, error);
}

static gboolean
write_value (int folder, const char *name, const char *text)
{
  banger_autofd int fd = openat (folder, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
  return fd >= 0 && write (fd, text, strlen (text)) == (ssize_t)strlen (text);
}

/* Only the root cgroup has no cgroup.type. */
static gboolean
may_delegate (int fd)
{
  char byte;
  if (faccessat (fd, "cgroup.type", F_OK, AT_SYMLINK_NOFOLLOW) < 0)
    return TRUE;
  banger_autofd int procs = openat (fd, "cgroup.procs", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  return procs >= 0 && read (procs, &byte, 1) == 0;
}

char *
banger_cgroup_limit (int parent_fd, int fd, const BangerLimits *limits)
{
  const struct {
    const char *controller, *file;
    guint64 value;
  } rows[] = {
    { "memory", "memory.max", limits->memory_bytes },
    { "pids", "pids.max", limits->tasks },
    { "cpu", "cpu.weight", limits->cpu_weight },
  };
  GString *missing = g_string_new (NULL);
  gboolean may = may_delegate (parent_fd);
  for (size_t i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autofree char *enable = g_strconcat ("+", rows[i].controller, NULL);
    g_autofree char *value = g_strdup_printf ("%" G_GUINT64_FORMAT, rows[i].value);
    if (!may || !write_value (parent_fd, "cgroup.subtree_control", enable) || !write_value (fd, rows[i].file, value))
      g_string_append_printf (missing, "%s%s", missing->len ? ", " : "", rows[i].controller);
  }
  return g_string_free (missing, FALSE);
}

/* cgroup.kill is there since Linux 5.14; the VMM itself was killed by its pidfd before. */
static void
kill_members (int fd)
{
  banger_autofd int file = openat (fd, "cgroup.kill", O_WRONLY | O_CLOEXEC);
  if (file >= 0)
    (void)!write (file, "1", 1);
}

/* The folder of a scope is systemd's: taken away under its eyes, the scope would stay "running" for good, as systemd
 * then may never learn that it is empty. */
gboolean
banger_cgroup_remove (int mount, const char *mount_root, const char *cgroup, guint timeout_ms, GError **error)
{
  const char *relative = below_mount (mount_root, cgroup);
  gboolean scope = g_str_has_prefix (cgroup, SLICE);
  if (!relative) {
    banger_log (LOG_WARNING, NULL, "cgroup '%s' cannot be there: it is not below the mounted '%s'", cgroup, mount_root);
    return TRUE;
  }
  for (guint waited = 0;; waited += 10) {
    banger_autofd int fd = openat (mount, relative, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
      return TRUE;
    if (fd >= 0)
      kill_members (fd);
    if (!scope || waited >= timeout_ms) {
      if (unlinkat (mount, relative, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return TRUE;
      if (errno != EBUSY || waited >= timeout_ms)
        return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot remove cgroup '%s' after %u ms",
                                       cgroup, waited);
    }
    g_usleep (10000);
  }
}

/* The chroot of a VMM: what is put into it, and how the folder goes.
 * Runs in worker threads.
 * Never writes to the host's file system but for one empty folder per VM. */
#include "privileged/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "common/folder.h"
#include "common/log.h"
#include "common/names.h"
#include "common/safe-path.h"
#include "common/validate.h"
#include "privileged/lease.h"

#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif
#ifndef UMOUNT_NOFOLLOW
#define UMOUNT_NOFOLLOW 8
#endif

#define READ_ONLY (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)

static void
bind_clear (gpointer data)
{
  BangerJailBind *bind = data;
  banger_clear_fd (&bind->tree_fd);
  g_free (bind->target);
}

BangerJailPlan *
banger_jail_plan_new (void)
{
  BangerJailPlan *plan = g_new0 (BangerJailPlan, 1);
  plan->vmm_tree = plan->jailer_fd = plan->null_fd = plan->console_fd = plan->go_fd = plan->report_fd = -1;
  plan->tap_fd = -1;
  plan->binds = g_array_new (FALSE, FALSE, sizeof (BangerJailBind));
  g_array_set_clear_func (plan->binds, bind_clear);
  plan->nodes = g_array_new (FALSE, FALSE, sizeof (BangerJailNode));
  plan->links = g_ptr_array_new_with_free_func (g_free);
  plan->own = g_array_new (FALSE, FALSE, sizeof (int));
  return plan;
}

static int
compare (gconstpointer a, gconstpointer b)
{
  return *(const int *)a - *(const int *)b;
}

void
banger_jail_seal (BangerJailPlan *plan)
{
  const int fds[] = { plan->vmm_tree, plan->jailer_fd, plan->null_fd, plan->console_fd,
                      plan->go_fd,    plan->report_fd, plan->tap_fd };
  g_array_append_vals (plan->own, fds, G_N_ELEMENTS (fds));
  for (guint i = 0; i < plan->binds->len; i++)
    g_array_append_val (plan->own, g_array_index (plan->binds, BangerJailBind, i).tree_fd);
  g_array_sort (plan->own, compare);
}

void
banger_jail_plan_free (BangerJailPlan *plan)
{
  if (!plan)
    return;
  int *fds[] = { &plan->vmm_tree, &plan->jailer_fd, &plan->null_fd, &plan->console_fd,
                 &plan->go_fd,    &plan->report_fd, &plan->tap_fd };
  for (size_t i = 0; i < G_N_ELEMENTS (fds); i++)
    banger_clear_fd (fds[i]);
  g_array_unref (plan->binds);
  g_array_unref (plan->nodes);
  g_array_unref (plan->own);
  g_ptr_array_unref (plan->links);
  g_strfreev (plan->argv);
  g_free (plan->top);
  g_free (plan);
}

int
banger_jail_clone (int fd, gboolean recursive, guint64 attributes, const char *what, GError **error)
{
  unsigned flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);
  struct mount_attr attr = { .attr_set = attributes };
  banger_autofd int tree = (int)syscall (SYS_open_tree, fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags);
  if (tree < 0 || syscall (SYS_mount_setattr, tree, "", flags, &attr, sizeof attr) < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot bind %s into the jail", what);
    return -1;
  }
  return banger_steal_fd (&tree);
}

gboolean
banger_jail_bind (BangerJailPlan *plan, int fd, const char *target, gboolean folder, guint64 attributes, GError **error)
{
  BangerJailBind bind = { banger_jail_clone (fd, FALSE, attributes, target, error), NULL, folder };
  if (bind.tree_fd < 0)
    return FALSE;
  bind.target = g_strdup (target);
  g_array_append_val (plan->binds, bind);
  return TRUE;
}

void
banger_jail_node (BangerJailPlan *plan, const char *name, mode_t mode, dev_t device, uid_t uid, gid_t gid)
{
  BangerJailNode node = { name, mode, device, uid, gid };
  g_array_append_val (plan->nodes, node);
}

/* /lib, /bin and the like: a link into /usr is made again, a real folder is bound. */
static gboolean
add_tree (BangerJailPlan *plan, const char *name, GError **error)
{
  g_autofree char *path = g_strconcat ("/", name, NULL), *link = g_file_read_link (path, NULL);
  if (link) {
    g_ptr_array_add (plan->links, g_strdup (name));
    g_ptr_array_add (plan->links, g_steal_pointer (&link));
    return TRUE;
  }
  banger_autofd int fd = open (path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  struct stat st;
  if (fd < 0 && errno == ENOENT)
    return TRUE;
  if (fd < 0 || fstat (fd, &st) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot open '%s'", path);
  BangerJailBind bind = { banger_jail_clone (fd, S_ISDIR (st.st_mode), READ_ONLY, path, error), NULL,
                          S_ISDIR (st.st_mode) };
  if (bind.tree_fd < 0)
    return FALSE;
  bind.target = g_strdup (name);
  g_array_append_val (plan->binds, bind);
  return TRUE;
}

gboolean
banger_jail_bind_libraries (BangerJailPlan *plan, gboolean programs, GError **error)
{
  static const char *const all[] = {
    "usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc/ld.so.cache", "etc/alternatives", NULL
  };
  static const char *const libraries[] = { "usr/lib", "usr/lib32", "usr/lib64", "usr/libx32", "usr/local/lib",
                                           "lib",     "lib32",     "lib64",     "libx32",     "etc/ld.so.cache",
                                           NULL };
  for (const char *const *name = programs ? all : libraries; *name; name++)
    if (!add_tree (plan, *name, error))
      return FALSE;
  return TRUE;
}

gboolean
banger_jail_make (int jail_fd, const char *vm, GError **error)
{
  if (mkdirat (jail_fd, vm, 0711) < 0 && errno != EEXIST)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make the chroot of %s", vm);
  banger_autofd int fd = banger_safe_openat (jail_fd, vm, O_RDONLY | O_DIRECTORY, 0, BANGER_SAFE_NONE, error);
  struct stat st;
  if (fd < 0)
    return FALSE;
  return (fstat (fd, &st) == 0 && st.st_uid == 0 && !(st.st_mode & 022))
         || banger_set_error (error, BANGER_ERROR_UNSAFE_FILE, "the chroot of %s does not belong to root alone", vm);
}

static int
by_depth (gconstpointer a, gconstpointer b)
{
  size_t la = strlen (*(char *const *)a), lb = strlen (*(char *const *)b);
  return la > lb ? -1 : la < lb;
}

/* Mount points at or below @top, from /proc/self/mountinfo, deepest first. */
static GPtrArray *
mounts_below (const char *top, GError **error)
{
  g_autofree char *text = NULL;
  if (!g_file_get_contents ("/proc/self/mountinfo", &text, NULL, error))
    return NULL;
  GPtrArray *found = g_ptr_array_new_with_free_func (g_free);
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  size_t length = strlen (top);
  for (char **line = lines; *line; line++) {
    g_auto (GStrv) words = g_strsplit (*line, " ", 6);
    if (g_strv_length (words) < 6)
      continue;
    g_autofree char *point = g_strcompress (words[4]);
    if (strncmp (point, top, length) == 0 && (point[length] == '\0' || point[length] == '/'))
      g_ptr_array_add (found, g_steal_pointer (&point));
  }
  g_ptr_array_sort (found, by_depth);
  return found;
}

static gboolean
unmount_below (const char *top, GError **error)
{
  g_autoptr (GPtrArray) mounts = mounts_below (top, error);
  if (!mounts)
    return FALSE;
  for (guint i = 0; i < mounts->len; i++)
    if (umount2 (mounts->pdata[i], MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot unmount '%s'",
                                     (char *)mounts->pdata[i]);
  g_autoptr (GPtrArray) left = mounts_below (top, error);
  return left
         && (left->len == 0
             || banger_set_error (error, BANGER_ERROR_UNSAFE_FILE, "'%s' is still mounted; nothing is removed",
                                  (char *)left->pdata[0]));
}

gboolean
banger_jail_remove (const BangerRoot *root, const char *vm, GError **error)
{
  struct stat st;
  g_autofree char *top = g_strdup_printf ("%s/" BANGER_JAIL_DIR "/" BANGER_JAIL_EXEC_NAME "/%s",
                                          root->install->state_dir, vm);
  if (fstatat (root->jail_fd, vm, &st, AT_SYMLINK_NOFOLLOW) < 0)
    return errno == ENOENT || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "the chroot of %s", vm);
  if (!S_ISDIR (st.st_mode))
    return banger_set_error (error, BANGER_ERROR_UNSAFE_FILE, "the chroot of %s is not a folder; it is left alone", vm);
  return unmount_below (top, error) && banger_safe_remove_tree (root->jail_fd, vm, error);
}

void
banger_jail_sweep (const BangerRoot *root)
{
  banger_autofolder DIR *dir = banger_folder_open (root->jail_fd, ".");
  for (const struct dirent *entry; (entry = banger_folder_next (dir));) {
    g_autoptr (GError) error = NULL;
    if (banger_id_check (entry->d_name, "chroot", NULL) && !banger_lease_exists (root, entry->d_name)
        && !banger_jail_remove (root, entry->d_name, &error))
      banger_log (LOG_WARNING, BANGER_FIELDS (BANGER_FIELD_VM, entry->d_name), "%s", error->message);
  }
  if (errno != 0)
    banger_log (LOG_WARNING, NULL, "cannot list the chroots: %s", g_strerror (errno));
}

/* The daemon object: install metadata, directories by descriptor, tables of VMs, images, kernels and jobs.
 * Made by main.c; used by every domain file and by the bus side.
 * Never knows D-Bus: manager-dbus.c observes it. */
#include "manager/manager.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/names.h"
#include "manager/helper-client.h"
#include "manager/record.h"
#include "manager/vm.h"

#define LOCK_WAIT_MSEC 5000 /* for one that is just ending */
#define LOCK_LOOK_MSEC 50

static gboolean
check_identity (const BangerInstall *install, uid_t uid, GError **error)
{
  if (uid == 0)
    return banger_set_error (error, BANGER_ERROR_NOT_AUTHORIZED,
                             "bangerd never runs as root: start it as %s (uid %u), the owner in install.toml",
                             install->owner_user, install->owner_uid);
  if (uid != install->owner_uid)
    return banger_set_error (error, BANGER_ERROR_NOT_AUTHORIZED,
                             "bangerd runs as uid %u, but install.toml names %s (uid %u) as the owner", uid,
                             install->owner_user, install->owner_uid);
  return TRUE;
}

/* A directory that must be ours and closed to others. */
static gboolean
check_private (int fd, const char *path, GError **error)
{
  struct stat st;
  if (fstat (fd, &st) != 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot look at %s", path);
  if (st.st_uid != geteuid () || (st.st_mode & 077) != 0)
    return banger_set_error (error, BANGER_ERROR_UNSAFE_FILE,
                             "%s must belong to uid %u with mode 0700 (it is uid %u, mode %04o)", path, geteuid (),
                             st.st_uid, st.st_mode & 07777);
  return TRUE;
}

static int
open_state (const char *path, GError **error)
{
  banger_autofd int fd = open (path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno,
                            "cannot open the owner's state directory %s (bangerd-root makes it when it starts)", path);
    return -1;
  }
  if (!check_private (fd, path, error))
    return -1;
  return banger_steal_fd (&fd);
}

/* The name on the bus keeps a second manager away from one session bus only: each login may have another bus, and what
 * one manager is making looks half-made to the other. The lock goes with the process, however it ends. */
static gboolean
lock_state (int fd, const char *path, GError **error)
{
  for (guint waited = 0; flock (fd, LOCK_EX | LOCK_NB) != 0; waited += LOCK_LOOK_MSEC) {
    if (errno != EWOULDBLOCK && errno != EINTR)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot lock %s", path);
    if (waited >= LOCK_WAIT_MSEC)
      return banger_set_error (error, BANGER_ERROR_IN_USE,
                               "another bangerd works on %s, perhaps on another session bus: end it first", path);
    g_usleep (LOCK_LOOK_MSEC * 1000);
  }
  return TRUE;
}

static int
open_kind (int state_fd, const char *name, GError **error)
{
  int made = mkdirat (state_fd, name, 0700);
  if ((made != 0 && errno != EEXIST) || (made == 0 && fsync (state_fd) != 0)) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make %s in the state directory", name);
    return -1;
  }
  banger_autofd int fd = openat (state_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot open %s in the state directory", name);
    return -1;
  }
  if (!check_private (fd, name, error))
    return -1;
  return banger_steal_fd (&fd);
}

static gboolean
open_directories (BangerManager *manager, GError **error)
{
  const struct {
    const char *name;
    int *fd;
  } kinds[] = {
    { "vms", &manager->vms_fd },
    { "images", &manager->images_fd },
    { "kernels", &manager->kernels_fd },
  };
  manager->state_fd = open_state (manager->state_path, error);
  if (manager->state_fd < 0 || !lock_state (manager->state_fd, manager->state_path, error))
    return FALSE;
  for (guint i = 0; i < G_N_ELEMENTS (kinds); i++) {
    *kinds[i].fd = open_kind (manager->state_fd, kinds[i].name, error);
    if (*kinds[i].fd < 0)
      return FALSE;
  }
  return TRUE;
}

BangerManager *
banger_manager_new (BangerInstall *install, GError **error)
{
  g_autoptr (BangerManager) manager = g_new0 (BangerManager, 1);
  manager->install = install;
  manager->state_fd = manager->vms_fd = manager->images_fd = manager->kernels_fd = -1;
  manager->state_path = g_strdup_printf ("%s/%u", install->state_dir, install->owner_uid);
  manager->runtime_path = g_strdup_printf ("%s/%u", install->runtime_dir, install->owner_uid);
  manager->images = banger_asset_table_new ();
  manager->kernels = banger_asset_table_new ();
  manager->jobs = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, (GDestroyNotify)banger_job_unref);
  manager->set_aside = g_ptr_array_new_with_free_func (g_free);
  if (!check_identity (install, geteuid (), error) || !open_directories (manager, error))
    return NULL;
  return g_steal_pointer (&manager);
}

void
banger_manager_free (BangerManager *manager)
{
  if (manager == NULL)
    return;
  manager->observer = NULL;
  g_clear_pointer (&manager->vms, banger_vms_free);
  if (manager->helper_notify != 0)
    banger_helper_remove_notify (manager->helper, manager->helper_notify);
  g_clear_pointer (&manager->helper, banger_helper_free);
  g_hash_table_unref (manager->jobs);
  g_hash_table_unref (manager->images);
  g_hash_table_unref (manager->kernels);
  g_ptr_array_unref (manager->set_aside);
  banger_clear_fd (&manager->vms_fd);
  banger_clear_fd (&manager->images_fd);
  banger_clear_fd (&manager->kernels_fd);
  banger_clear_fd (&manager->state_fd);
  g_free (manager->state_path);
  g_free (manager->runtime_path);
  banger_install_free (manager->install);
  g_free (manager);
}

void
banger_manager_added (BangerManager *manager, BangerObjectKind kind, const char *id)
{
  if (manager->observer != NULL)
    manager->observer->added (kind, id, manager->observer_data);
}

void
banger_manager_removed (BangerManager *manager, BangerObjectKind kind, const char *id)
{
  if (manager->observer != NULL)
    manager->observer->removed (kind, id, manager->observer_data);
}

void
banger_manager_changed (BangerManager *manager, BangerObjectKind kind, const char *id, const char *const *properties)
{
  if (manager->observer != NULL)
    manager->observer->changed (kind, id, properties, manager->observer_data);
}

static void
vm_added (const char *id, gpointer data)
{
  banger_manager_added (data, BANGER_OBJECT_VM, id);
}

static void
vm_removed (const char *id, gpointer data)
{
  banger_manager_removed (data, BANGER_OBJECT_VM, id);
}

static void
vm_changed (const char *id, const char *const *properties, gpointer data)
{
  banger_manager_changed (data, BANGER_OBJECT_VM, id, properties);
}

static void
note_set_aside (BangerManager *manager, const char *dir, const char *name, const GError *why)
{
  char *path = g_strdup_printf ("%s/%s/%s", manager->state_path, dir, name);
  banger_log (LOG_ERR, NULL, "%s: %s; set aside", path, why->message);
  g_ptr_array_add (manager->set_aside, path);
}

static void
vm_set_aside (const char *new_name, const GError *why, gpointer data)
{
  note_set_aside (data, "vms", new_name, why);
}

static gboolean
image_for_vm (const char *name, BangerVmSource *ret, gpointer data, GError **error)
{
  int fd = -1;
  const BangerImage *image = banger_asset_find_ready (&banger_image_class, data,
                                                      name != NULL ? name : BANGER_DEFAULT_NAME, &fd, error);
  if (image == NULL)
    return FALSE;
  *ret = (BangerVmSource){ .id = g_strdup (image->asset.id),
                           .name = g_strdup (image->asset.name),
                           .dir_fd = fd,
                           .rootfs_bytes = image->size_bytes,
                           .seed_bytes = image->seed_bytes };
  return TRUE;
}

static gboolean
kernel_for_vm (const char *name, BangerVmSource *ret, gpointer data, GError **error)
{
  int fd = -1;
  const BangerAsset *kernel = banger_asset_find_ready (&banger_kernel_class, data,
                                                       name != NULL ? name : BANGER_DEFAULT_NAME, &fd, error);
  if (kernel == NULL)
    return FALSE;
  *ret = (BangerVmSource){ .id = g_strdup (kernel->id), .name = g_strdup (kernel->name), .dir_fd = fd };
  return TRUE;
}

static void
helper_changed (gboolean available, gpointer data)
{
  BangerManager *manager = data;
  banger_log (LOG_INFO, NULL, available ? "the root helper is reachable" : "the root helper is not reachable");
  if (manager->observer != NULL)
    manager->observer->helper_changed (available, manager->observer_data);
}

gboolean
banger_manager_load (BangerManager *manager, GError **error)
{
  static const BangerVmSources sources = { image_for_vm, kernel_for_vm };
  static const BangerVmObserver observer = { vm_added, vm_removed, vm_changed, vm_set_aside };
  if (!banger_asset_load_all (&banger_image_class, manager, error)
      || !banger_asset_load_all (&banger_kernel_class, manager, error))
    return FALSE;
  manager->helper = banger_helper_new ();
  manager->helper_notify = banger_helper_add_notify (manager->helper, helper_changed, manager);
  manager->vms = banger_vms_new (manager->install, manager->helper, &sources, &observer, manager, error);
  return manager->vms != NULL;
}

void
banger_manager_reconcile (BangerManager *manager)
{
  banger_vms_reconcile (manager->vms);
}

void
banger_manager_set_aside (BangerManager *manager, BangerObjectKind kind, const char *id, const GError *why)
{
  gboolean image = kind == BANGER_OBJECT_IMAGE;
  g_autoptr (GError) error = NULL;
  g_autofree char *name = banger_record_set_aside (image ? manager->images_fd : manager->kernels_fd, id, &error);
  if (name == NULL)
    banger_log (LOG_ERR, NULL, "%s", error->message);
  note_set_aside (manager, image ? "images" : "kernels", name != NULL ? name : id, why);
}

char *
banger_manager_users_of (BangerManager *manager, const char *id)
{
  if (manager->vms == NULL)
    return NULL;
  g_autoptr (GPtrArray) vms = banger_vms_list (manager->vms);
  g_autoptr (GString) names = g_string_new (NULL);
  for (guint i = 0; i < vms->len; i++) {
    const BangerVmRecord *record = banger_vm_record (vms->pdata[i]);
    if (g_strcmp0 (record->image_id, id) == 0 || g_strcmp0 (record->kernel_id, id) == 0)
      g_string_append_printf (names, "%s%s", names->len > 0 ? ", " : "", record->name);
  }
  return names->len == 0 ? NULL : g_string_free (g_steal_pointer (&names), FALSE);
}

guint
banger_manager_end_jobs (BangerManager *manager)
{
  GHashTableIter iter;
  gpointer job = NULL;
  guint running = 0;
  manager->ending = TRUE;
  g_hash_table_iter_init (&iter, manager->jobs);
  while (g_hash_table_iter_next (&iter, NULL, &job)) {
    if (banger_job_state (job) != BANGER_JOB_RUNNING)
      continue;
    running++;
    if (banger_job_cancelable (job)) /* cancelling again changes nothing */
      g_cancellable_cancel (banger_job_cancellable (job));
  }
  return running;
}

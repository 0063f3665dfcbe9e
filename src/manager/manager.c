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
#include "common/op-id.h"
#include "manager/core/record.h"
#include "manager/core/work.h"
#include "manager/names.h"
#include "manager/net/address.h"
#include "manager/peer/helper.h"
#include "manager/ssh-config.h"
#include "manager/vm/vm.h"

#define LOCK_WAIT_MSEC 5000 /* for one that is just ending */
#define LOCK_LOOK_MSEC 50
#define CONFIG_MSEC 3000 /* that the start waits for the owner's settings */

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
    { BANGER_FOLDER_VMS, &manager->vms_fd },
    { BANGER_FOLDER_IMAGES, &manager->images_fd },
    { BANGER_FOLDER_KERNELS, &manager->kernels_fd },
    { BANGER_FOLDER_TEMPLATES, &manager->templates_fd },
    { BANGER_FOLDER_SNAPSHOTS, &manager->snapshots_fd },
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

/* A VM has its name on the host as long as it is known to run, and so in those guests that may reach it. */
static void
name_vm (const BangerManager *manager, const char *id)
{
  BangerVm *vm = banger_vms_find_id (manager->vms, id);
  const BangerVmRecord *record = vm ? banger_vm_record (vm) : NULL;
  if (record && record->state == BANGER_VM_RUNNING && banger_vm_known (vm))
    banger_names_put (manager->names, id, record->name, record->address);
  else
    banger_names_drop (manager->names, id);
  banger_vms_look_at_names (manager->vms);
}

static void
on_added (BangerObjectKind kind, const char *id, gpointer data)
{
  const BangerManager *manager = data;
  if (kind == BANGER_OBJECT_VM)
    banger_ssh_config_look (manager->ssh_config);
  if (manager->observer)
    manager->observer->added (kind, id, manager->observer_data);
}

static void
on_removed (BangerObjectKind kind, const char *id, gpointer data)
{
  const BangerManager *manager = data;
  if (kind == BANGER_OBJECT_VM) {
    name_vm (manager, id);
    banger_ssh_config_look (manager->ssh_config);
    if (manager->snapshots)
      banger_snapshots_drop_of (manager->snapshots, id);
  } else if (manager->templates && (kind == BANGER_OBJECT_IMAGE || kind == BANGER_OBJECT_KERNEL)) {
    banger_templates_drop_of (manager->templates, id);
  }
  if (manager->observer)
    manager->observer->removed (kind, id, manager->observer_data);
}

static gboolean
has_one (const char *const *words, const char *const *wanted)
{
  gboolean found = FALSE;
  for (; *wanted && !found; wanted++)
    found = g_strv_contains (words, *wanted);
  return found;
}

static void
on_changed (BangerObjectKind kind, const char *id, const char *const *properties, gpointer data)
{
  const BangerManager *manager = data;
  static const char *const naming[] = { "State", "Name", "Links", "HostPorts", NULL };
  if (kind == BANGER_OBJECT_VM && has_one (properties, naming))
    name_vm (manager, id);
  if (kind == BANGER_OBJECT_VM && g_strv_contains (properties, "Name"))
    banger_ssh_config_look (manager->ssh_config);
  if (manager->observer)
    manager->observer->changed (kind, id, properties, manager->observer_data);
}

static void
on_job_begun (BangerJob *job, gpointer data)
{
  const BangerManager *manager = data;
  if (manager->templates)
    banger_templates_job_begun (manager->templates, job);
  if (manager->observer)
    manager->observer->job_new (job, manager->observer_data);
}

static void
on_job_ended (BangerJob *job, gpointer data)
{
  const BangerManager *manager = data;
  if (manager->templates)
    banger_templates_job_ended (manager->templates, job);
  if (manager->observer)
    manager->observer->job_finished (job, manager->observer_data);
}

static void
note_set_aside (BangerObjectKind kind, const char *name, const GError *why, gpointer data)
{
  static const char *const dirs[] = { [BANGER_OBJECT_VM] = BANGER_FOLDER_VMS,
                                      [BANGER_OBJECT_IMAGE] = BANGER_FOLDER_IMAGES,
                                      [BANGER_OBJECT_KERNEL] = BANGER_FOLDER_KERNELS,
                                      [BANGER_OBJECT_SNAPSHOT] = BANGER_FOLDER_SNAPSHOTS };
  BangerManager *manager = data;
  char *path = g_strdup_printf ("%s/%s/%s", manager->state_path, dirs[kind], name);
  banger_log (LOG_ERR, NULL, "%s: %s; left as it is", path, why->message);
  g_ptr_array_add (manager->set_aside, path);
}

/* The VMs made from that image or kernel, "a, b". */
static char *
users_of (const char *id, gpointer data)
{
  const BangerManager *manager = data;
  if (!manager->vms)
    return NULL;
  g_autoptr (GPtrArray) vms = banger_vms_list (manager->vms);
  g_autoptr (GString) names = g_string_new (NULL);
  for (guint i = 0; i < vms->len; i++) {
    const BangerVmRecord *record = banger_vm_record (vms->pdata[i]);
    if (record->state == BANGER_VM_DELETING) /* on the disk: it is never started again, and to give back what it holds
                                                needs neither */
      continue;
    /* Of an unreadable one it may not be known what it uses: then it may be anything. */
    gboolean unknown = record->state == BANGER_VM_UNREADABLE && (!*record->image_id || !*record->kernel_id);
    if (unknown || g_strcmp0 (record->image_id, id) == 0 || g_strcmp0 (record->kernel_id, id) == 0)
      g_string_append_printf (names, "%s%s", names->len > 0 ? ", " : "", record->name);
  }
  return names->len == 0 ? NULL : g_string_free (g_steal_pointer (&names), FALSE);
}

static void
log_problems (const BangerConfig *config)
{
  for (guint i = 0; i < config->problems->len; i++)
    banger_log (LOG_WARNING, NULL, "%s", (const char *)config->problems->pdata[i]);
}

static void
on_process_ended (BangerProcess *process, gpointer data)
{
  BangerManager *manager = data;
  if (manager->observer)
    manager->observer->process_ended (process, manager->observer_data);
}

static const BangerProcessObserver process_observer = { { on_added, on_removed, on_changed }, on_process_ended };
static const BangerJobObserver job_observer = { { on_added, on_removed, on_changed }, on_job_begun, on_job_ended };
static const BangerSnapshotsHouse snapshots_house = { { on_added, on_removed, on_changed }, note_set_aside };
static const BangerAssetsHouse assets_house = { { on_added, on_removed, on_changed }, users_of, note_set_aside };

typedef struct {
  BangerConfig *config;
} Reload;

static gboolean
reload (gpointer data, GCancellable *cancellable, GError **error)
{
  ((Reload *)data)->config = banger_config_load (NULL);
  return TRUE;
}

static void
reload_free (gpointer data)
{
  Reload *self = data;
  banger_config_free (self->config);
  g_free (self);
}

static const BangerWork reading = { .name = "config", .run = reload, .free = reload_free };

static void
on_first_config (GObject *source, GAsyncResult *result, gpointer data)
{
  static const char late[] = "the owner's config.toml does not answer: the defaults hold until `banger config reload`";
  Reload *read = banger_work_data (result);
  *(BangerConfig **)data = banger_work_finish (result, NULL) ? g_steal_pointer (&read->config)
                                                             : banger_config_unread (NULL, late);
}

static gboolean
on_late (gpointer data)
{
  g_cancellable_cancel (data);
  return G_SOURCE_REMOVE;
}

/* Where the owner's home does not answer, VMs are to be stopped and started all the same. In a context of its own, as nothing
 * else is there yet that could have its turn. */
static BangerConfig *
first_config (void)
{
  BangerConfig *config = NULL;
  g_autoptr (GMainContext) context = g_main_context_new ();
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  g_autoptr (GSource) timeout = g_timeout_source_new (CONFIG_MSEC);
  g_source_set_callback (timeout, on_late, cancellable, NULL);
  g_source_attach (timeout, context);
  g_main_context_push_thread_default (context);
  banger_work_async (&reading, g_new0 (Reload, 1), cancellable, on_first_config, &config);
  while (!config)
    g_main_context_iteration (context, TRUE);
  g_source_destroy (timeout);
  g_main_context_pop_thread_default (context);
  return config;
}

BangerManager *
banger_manager_new (BangerInstall *install, GError **error)
{
  g_autoptr (BangerManager) manager = g_new0 (BangerManager, 1);
  manager->install = install;
  manager->config = first_config ();
  log_problems (manager->config);
  manager->state_fd = manager->vms_fd = manager->images_fd = manager->kernels_fd = manager->templates_fd
      = manager->snapshots_fd = -1;
  manager->state_path = g_strdup_printf ("%s/%u", install->state_dir, install->owner_uid);
  manager->runtime_path = g_strdup_printf ("%s/%u", install->runtime_dir, install->owner_uid);
  manager->writer = banger_writer_new ();
  manager->images = banger_assets_new (&banger_image_class, &assets_house, manager);
  manager->kernels = banger_assets_new (&banger_kernel_class, &assets_house, manager);
  manager->jobs = banger_jobs_new (&job_observer, manager);
  manager->processes = banger_processes_new (&process_observer, manager);
  manager->set_aside = g_ptr_array_new_with_free_func (g_free);
  if (!check_identity (install, geteuid (), error) || !open_directories (manager, error))
    return NULL;
  return g_steal_pointer (&manager);
}

void
banger_manager_free (BangerManager *manager)
{
  if (!manager)
    return;
  manager->observer = NULL;
  g_clear_pointer (&manager->processes, banger_processes_free);
  g_clear_pointer (&manager->ssh_config, banger_ssh_config_free);
  g_clear_pointer (&manager->snapshots, banger_snapshots_free);
  g_clear_pointer (&manager->vms, banger_vms_free);
  g_clear_pointer (&manager->templates, banger_templates_free);
  g_clear_pointer (&manager->client, g_free);
  if (manager->helper_notify != 0)
    banger_helper_remove_notify (manager->helper, manager->helper_notify);
  if (manager->helper)
    banger_helper_set_resolver (manager->helper, NULL, NULL);
  g_clear_pointer (&manager->names, banger_names_free);
  g_clear_pointer (&manager->helper, banger_helper_free);
  g_clear_pointer (&manager->writer, banger_writer_free);
  banger_jobs_free (manager->jobs);
  banger_assets_free (manager->images);
  banger_assets_free (manager->kernels);
  g_ptr_array_unref (manager->set_aside);
  banger_clear_fd (&manager->vms_fd);
  banger_clear_fd (&manager->images_fd);
  banger_clear_fd (&manager->kernels_fd);
  banger_clear_fd (&manager->templates_fd);
  banger_clear_fd (&manager->snapshots_fd);
  banger_clear_fd (&manager->state_fd);
  g_free (manager->state_path);
  g_free (manager->runtime_path);
  banger_install_free (manager->install);
  banger_config_free (manager->config);
  g_free (manager);
}

static void
vm_unreadable (const char *name, const GError *why, gpointer data)
{
  note_set_aside (BANGER_OBJECT_VM, name, why, data);
}

static gboolean
image_for_vm (const char *name, BangerVmSource *ret, gpointer data, GError **error)
{
  int fd = -1;
  const BangerManager *manager = data;
  const BangerImage *image = banger_asset_find_ready (manager->images, name ? name : manager->config->image, &fd,
                                                      error);
  if (!image)
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
  const BangerAsset *kernel = banger_asset_find_ready (((BangerManager *)data)->kernels,
                                                       name ? name : BANGER_DEFAULT_NAME, &fd, error);
  if (!kernel)
    return FALSE;
  *ret = (BangerVmSource){ .id = g_strdup (kernel->id), .name = g_strdup (kernel->name), .dir_fd = fd };
  return TRUE;
}

static const BangerConfig *
config_for_vm (gpointer data)
{
  return ((BangerManager *)data)->config;
}

/* Templates. */

static gboolean
describe_template (const BangerVmRecord *record, BangerTemplate *ret, gpointer data)
{
  const BangerManager *manager = data;
  const BangerImage *image = banger_assets_find_id (manager->images, record->image_id);
  const BangerAsset *kernel = banger_assets_find_id (manager->kernels, record->kernel_id);
  if (!image || !kernel || *record->init) /* by another init it has booted another way */
    return FALSE;
  ret->image_id = g_strdup (record->image_id);
  ret->image_digest = g_strdup (image->asset.digest);
  ret->kernel_id = g_strdup (record->kernel_id);
  ret->kernel_digest = g_strdup (kernel->digest);
  ret->disk_bytes = image->seed_bytes > 0 ? record->disk_bytes : 0;
  return TRUE;
}

static gboolean
template_is_current (const BangerTemplate *template, gpointer data)
{
  const BangerManager *manager = data;
  const BangerAsset *image = banger_assets_find_id (manager->images, template->image_id),
                    *kernel = banger_assets_find_id (manager->kernels, template->kernel_id);
  return image && kernel && g_str_equal (image->digest, template->image_digest)
         && g_str_equal (kernel->digest, template->kernel_digest);
}

static guint64
template_budget (gpointer data)
{
  return ((const BangerManager *)data)->config->template_bytes;
}

/* Two VMs are to fit beside those that there are: that which is made, and one of somebody's. */
static gboolean
templates_are_automatic (gpointer data)
{
  const BangerManager *manager = data;
  g_autoptr (GPtrArray) vms = banger_vms_list (manager->vms);
  return manager->client && g_str_equal (manager->config->warm, BANGER_WARM_AUTO)
         && vms->len + 2 <= manager->install->max_vms;
}

static BangerJob *
make_template (const BangerVmSpec *spec, gpointer data, GError **error)
{
  BangerManager *manager = data;
  BangerVmSpec own = *spec;
  g_autofree char *op_id = banger_op_id_new ();
  const BangerJobSpec job = { .kind = "warm-image", .op_id = op_id, .cancelable = TRUE };
  own.client = manager->client;
  return banger_templates_job_new (manager->templates, manager->vms, manager->vms_fd, &own, TRUE, manager->jobs, &job,
                                   error);
}

static void
vm_booted (const BangerVmRecord *record, gpointer data)
{
  banger_templates_booted (((BangerManager *)data)->templates, record);
}

static gboolean
template_for_vm (const BangerVmRecord *record, BangerVmTemplate *ret, gpointer data)
{
  return banger_templates_find (((BangerManager *)data)->templates, record, ret);
}

static void
template_ended (const char *id, const char *why, gpointer data)
{
  banger_templates_ended (((BangerManager *)data)->templates, id, why);
}

static void
templates_changed (const char *image_id, gpointer data)
{
  static const char *const properties[] = { "Templates", NULL };
  if (banger_assets_find_id (((const BangerManager *)data)->images, image_id))
    on_changed (BANGER_OBJECT_IMAGE, image_id, properties, data);
}

static const BangerTemplatesHouse templates_house = { describe_template,       template_is_current, template_budget,
                                                      templates_are_automatic, make_template,       templates_changed };

static void
resolver_is_there (gpointer nothing, gpointer data)
{
  banger_names_route_again (((BangerManager *)data)->names);
}

static void
helper_changed (gboolean available, gpointer data)
{
  BangerManager *manager = data;
  if (available && manager->names)
    banger_names_route_again (manager->names);
  banger_log (LOG_INFO, NULL, available ? "the root helper is reachable" : "the root helper is not reachable");
  if (manager->observer)
    manager->observer->helper_changed (available, manager->observer_data);
}

gboolean
banger_manager_load (BangerManager *manager, GError **error)
{
  static const BangerVmSources sources = { image_for_vm,    kernel_for_vm,  config_for_vm,
                                           template_for_vm, template_ended, vm_booted };
  static const BangerVmObserver observer = { { on_added, on_removed, on_changed }, vm_unreadable };
  BangerSubnet subnet;
  if (!banger_subnet_parse (manager->install->bridge_address, &subnet, error)
      || !banger_assets_load (manager->images, manager->images_fd, manager->writer, error)
      || !banger_assets_load (manager->kernels, manager->kernels_fd, manager->writer, error))
    return FALSE;
  manager->helper = banger_helper_new (manager->install->max_pending);
  manager->names = banger_names_new (manager->install->bridge, &subnet, manager->helper,
                                     (guint16)manager->config->dns_port);
  banger_helper_set_resolver (manager->helper, resolver_is_there, manager);
  manager->helper_notify = banger_helper_add_notify (manager->helper, helper_changed, manager);
  manager->templates = banger_templates_new (manager->install, manager->helper, manager->writer, manager->templates_fd,
                                             &templates_house, manager, error);
  if (!manager->templates)
    return FALSE;
  manager->vms = banger_vms_new (manager->install, manager->helper, manager->writer, &sources, &observer, manager,
                                 error);
  if (!manager->vms)
    return FALSE;
  manager->snapshots = banger_snapshots_new (manager->helper, manager->writer, manager->vms, manager->snapshots_fd,
                                             &snapshots_house, manager, error);
  manager->ssh_config = banger_ssh_config_new (manager->vms);
  return manager->snapshots != NULL;
}

void
banger_manager_reconcile (BangerManager *manager, GSourceFunc looked, gpointer looked_data)
{
  banger_vms_reconcile (manager->vms, looked, looked_data);
}

static void
on_reloaded (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  BangerManager *manager = g_task_get_task_data (task);
  Reload *self = banger_work_data (result);
  GError *error = NULL;
  if (!banger_work_finish (result, &error)) {
    g_task_return_error (task, error);
    return;
  }
  log_problems (self->config);
  if (self->config->broken) { /* what was read before holds on */
    GPtrArray *problems = manager->config->problems;
    manager->config->problems = self->config->problems;
    self->config->problems = problems;
  } else {
    BangerConfig *before = manager->config;
    manager->config = g_steal_pointer (&self->config);
    banger_config_free (before);
    banger_names_set_port (manager->names, (guint16)manager->config->dns_port);
    banger_templates_fit (manager->templates);
  }
  if (manager->observer)
    manager->observer->config_changed (manager->observer_data);
  g_task_return_boolean (task, TRUE);
}

void
banger_manager_reload_async (BangerManager *manager, GAsyncReadyCallback callback, gpointer user_data)
{
  GTask *task = g_task_new (NULL, NULL, callback, user_data);
  g_task_set_task_data (task, manager, NULL);
  banger_work_async (&reading, g_new0 (Reload, 1), NULL, on_reloaded, task);
}

gboolean
banger_manager_reload_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

BangerAssets *
banger_manager_assets (BangerManager *manager, const BangerAssetClass *class)
{
  return class == &banger_image_class ? manager->images : manager->kernels;
}

const BangerImage *
banger_manager_image_of (BangerManager *manager, BangerVm *vm)
{
  const char *id = banger_vm_record (vm)->image_id;
  return id ? banger_assets_find_id (manager->images, id) : NULL;
}

guint
banger_manager_end_jobs (BangerManager *manager)
{
  return banger_jobs_end (manager->jobs) + banger_assets_going (manager->images)
         + banger_assets_going (manager->kernels) + (banger_names_end (manager->names) ? 1 : 0);
}

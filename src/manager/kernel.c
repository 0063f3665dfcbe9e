/* Guest kernels: records, and importing them as jobs.
 * Called by the bus side and by manager.c on behalf of vm.c.
 * Never knows D-Bus; the bytes are written by kernel-import.c. */
#include "manager/kernel.h"

#include "common/error.h"
#include "common/fd.h"
#include "common/ids.h"
#include "common/log.h"
#include "common/validate.h"
#include "manager/fault.h"
#include "manager/kernel-import.h"
#include "manager/manager.h"
#include "manager/record.h"

#define KIND "kernel"

static const char *const state_words[] = { "importing", "ready", NULL };
G_STATIC_ASSERT (G_N_ELEMENTS (state_words) == BANGER_N_KERNEL_STATES + 1);

static const BangerRecordField fields[] = {
  { "id", BANGER_RECORD_STRING, G_STRUCT_OFFSET (BangerKernel, id), NULL, TRUE },
  { "name", BANGER_RECORD_STRING, G_STRUCT_OFFSET (BangerKernel, name), NULL, TRUE },
  { "state", BANGER_RECORD_WORD, G_STRUCT_OFFSET (BangerKernel, state), state_words, TRUE },
  { "kernel-version", BANGER_RECORD_STRING, G_STRUCT_OFFSET (BangerKernel, version) },
  { "source", BANGER_RECORD_STRING, G_STRUCT_OFFSET (BangerKernel, source) },
  { "digest", BANGER_RECORD_STRING, G_STRUCT_OFFSET (BangerKernel, digest) },
  { "created-at", BANGER_RECORD_UINT64, G_STRUCT_OFFSET (BangerKernel, created_at) },
  { NULL },
};

const char *
banger_kernel_state_to_string (BangerKernelState state)
{
  g_return_val_if_fail (state < BANGER_N_KERNEL_STATES, state_words[BANGER_KERNEL_IMPORTING]);
  return state_words[state];
}

int
banger_kernel_state_from_string (const char *word)
{
  for (int i = 0; i < BANGER_N_KERNEL_STATES; i++)
    if (g_strcmp0 (word, state_words[i]) == 0)
      return i;
  return -1;
}

static BangerKernel *
kernel_new (BangerManager *manager)
{
  BangerKernel *kernel = g_new0 (BangerKernel, 1);
  kernel->manager = manager;
  kernel->id = g_strdup ("");
  kernel->name = g_strdup ("");
  kernel->version = g_strdup ("");
  kernel->source = g_strdup ("");
  kernel->digest = g_strdup ("");
  return kernel;
}

void
banger_kernel_free (BangerKernel *kernel)
{
  if (kernel == NULL)
    return;
  banger_record_clear (fields, kernel);
  g_free (kernel);
}

/* What one directory holds: a kernel, nothing (half-made, removed), or an error to report. */
static BangerKernel *
load_one (BangerManager *manager, const char *id, GError **error)
{
  g_autoptr (BangerKernel) kernel = kernel_new (manager);
  gboolean missing = FALSE;
  g_autoptr (GError) local = NULL;
  banger_autofd int dir_fd = banger_record_open_dir (manager->kernels_fd, id, error);
  if (dir_fd < 0)
    return NULL;
  if (!banger_record_load (dir_fd, KIND, fields, kernel, &missing, &local) && !missing) {
    g_propagate_error (error, g_steal_pointer (&local));
    return NULL;
  }
  if (missing || kernel->state != BANGER_KERNEL_READY) {
    banger_log (LOG_NOTICE, NULL, "removing the half-made kernel %s (%s)", id, kernel->name);
    banger_record_remove (manager->kernels_fd, id, error);
    return NULL;
  }
  if (!g_str_equal (kernel->id, id)) {
    banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "record: it is of another kernel");
    return NULL;
  }
  return g_steal_pointer (&kernel);
}

gboolean
banger_kernel_load_all (BangerManager *manager, GError **error)
{
  g_auto (GStrv) ids = banger_record_list (manager->kernels_fd, error);
  if (ids == NULL)
    return FALSE;
  for (char **id = ids; *id != NULL; id++) {
    g_autoptr (GError) local = NULL;
    BangerKernel *kernel = load_one (manager, *id, &local);
    if (kernel != NULL)
      g_hash_table_insert (manager->kernels, kernel->id, kernel);
    else if (g_error_matches (local, BANGER_ERROR, BANGER_ERROR_STATE_CORRUPT))
      banger_manager_set_aside (manager, BANGER_OBJECT_KERNEL, *id, local);
    else if (local != NULL)
      banger_log (LOG_WARNING, NULL, "kernel %s: %s", *id, local->message);
  }
  return TRUE;
}

static gboolean
check_request (BangerManager *manager, const char *name, const char *source, GError **error)
{
  if (!banger_name_check (name, "kernel name", error))
    return FALSE;
  if (banger_manager_find_kernel (manager, name, NULL) != NULL)
    return banger_set_error (error, BANGER_ERROR_KERNEL_EXISTS,
                             "there is a kernel \"%s\" already: delete it first or choose another name", name);
  if (!g_str_has_prefix (source, "apt:") && !g_path_is_absolute (source))
    return banger_set_error (error, BANGER_ERROR_INVALID_PATH,
                             "kernel source \"%s\" is neither an absolute path nor \"apt:PACKAGE\"", source);
  return TRUE;
}

BangerKernel *
banger_kernel_add (BangerManager *manager, const char *name, const char *source, GError **error)
{
  if (!check_request (manager, name, source, error))
    return NULL;
  g_autoptr (BangerKernel) kernel = kernel_new (manager);
  g_free (kernel->id);
  kernel->id = banger_id_new ();
  g_free (kernel->name);
  kernel->name = g_strdup (name);
  g_free (kernel->source);
  kernel->source = g_strdup (source);
  kernel->created_at = (guint64)g_get_real_time ();
  banger_autofd int dir_fd = banger_record_make_dir (manager->kernels_fd, kernel->id, error);
  if (dir_fd < 0)
    return NULL;
  if (!banger_record_save (dir_fd, KIND, fields, kernel, error)) {
    banger_record_remove (manager->kernels_fd, kernel->id, NULL);
    return NULL;
  }
  banger_fault_point ("kernel-recorded");
  BangerKernel *kept = g_steal_pointer (&kernel);
  g_hash_table_insert (manager->kernels, kept->id, kept);
  banger_manager_added (manager, BANGER_OBJECT_KERNEL, kept->id);
  return kept;
}

static void
forget (BangerManager *manager, const char *id)
{
  g_autofree char *keep = g_strdup (id);
  if (g_hash_table_remove (manager->kernels, keep))
    banger_manager_removed (manager, BANGER_OBJECT_KERNEL, keep);
}

/* Out of the table at once; what is left on disk after a failure goes at the next start. */
static void
undo (BangerManager *manager, const char *id)
{
  g_autofree char *keep = g_strdup (id);
  g_autoptr (GError) error = NULL;
  forget (manager, keep);
  if (!banger_record_remove (manager->kernels_fd, keep, &error))
    banger_log (LOG_WARNING, NULL, "kernel %s: cannot remove what was made: %s", keep, error->message);
}

void
banger_kernel_drop (BangerKernel *kernel)
{
  undo (kernel->manager, kernel->id);
}

typedef struct {
  BangerManager *manager;
  char *id;
  char *source;
  char *modules; /* NULL: none */
  int dir_fd;
  BangerJobProgress *progress;
  BangerKernelInfo info;
} Work;

static void
work_free (gpointer data)
{
  Work *work = data;
  banger_job_progress_free (work->progress);
  banger_clear_fd (&work->dir_fd);
  banger_kernel_info_clear (&work->info);
  g_free (work->modules);
  g_free (work->source);
  g_free (work->id);
  g_free (work);
}

static void
work_thread (GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
  Work *work = data;
  g_autoptr (GError) error = NULL;
  if (banger_kernel_import (work->source, work->modules, work->dir_fd, banger_job_progress_report, work->progress,
                            cancellable, &work->info, &error))
    g_task_return_boolean (task, TRUE);
  else
    g_task_return_error (task, g_steal_pointer (&error));
}

static gboolean
make_ready (BangerKernel *kernel, Work *work, GError **error)
{
  kernel->state = BANGER_KERNEL_READY;
  g_free (kernel->version);
  kernel->version = g_strdup (work->info.version != NULL ? work->info.version : "");
  g_free (kernel->digest);
  kernel->digest = g_strdup (work->info.digest != NULL ? work->info.digest : "");
  banger_fault_point ("kernel-made");
  if (!banger_record_save (work->dir_fd, KIND, fields, kernel, error))
    return FALSE;
  banger_manager_changed (kernel->manager, BANGER_OBJECT_KERNEL, kernel->id,
                          BANGER_PROPERTIES ("State", "Version", "Digest"));
  return TRUE;
}

static void
work_done (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) outer = data;
  Work *work = g_task_get_task_data (G_TASK (result));
  g_autoptr (GError) error = NULL;
  BangerKernel *kernel = g_hash_table_lookup (work->manager->kernels, work->id);
  if (g_task_propagate_boolean (G_TASK (result), &error) && make_ready (kernel, work, &error)) {
    g_task_return_boolean (outer, TRUE);
    return;
  }
  undo (work->manager, work->id);
  g_task_return_error (outer, g_steal_pointer (&error));
}

void
banger_kernel_create_async (BangerKernel *kernel, const char *modules, BangerJob *job, GAsyncReadyCallback callback,
                            gpointer user_data)
{
  g_autoptr (GTask) outer = g_task_new (NULL, NULL, callback, user_data);
  g_autoptr (GTask) inner = g_task_new (NULL, banger_job_cancellable (job), work_done, g_object_ref (outer));
  Work *work = g_new0 (Work, 1);
  work->manager = kernel->manager;
  work->id = g_strdup (kernel->id);
  work->source = g_strdup (kernel->source);
  work->modules = g_strdup (modules);
  work->progress = banger_job_progress_new (job);
  g_task_set_task_data (inner, work, work_free);
  g_task_set_check_cancellable (inner, FALSE);
  banger_job_set_stage (job, "importing kernel");
  g_autoptr (GError) error = NULL;
  work->dir_fd = banger_record_open_dir (kernel->manager->kernels_fd, kernel->id, &error);
  if (work->dir_fd < 0)
    g_task_return_error (inner, g_steal_pointer (&error));
  else
    g_task_run_in_thread (inner, work_thread);
}

gboolean
banger_kernel_create_finish (BangerManager *manager, GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

gboolean
banger_kernel_delete (BangerKernel *kernel, GError **error)
{
  BangerManager *manager = kernel->manager;
  g_autofree char *users = banger_manager_users_of (manager, kernel->id);
  if (kernel->state != BANGER_KERNEL_READY)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE,
                             "kernel \"%s\" is being imported: cancel its job or wait for the end", kernel->name);
  if (users != NULL)
    return banger_set_error (error, BANGER_ERROR_IN_USE, "kernel \"%s\" is used by %s: delete them first", kernel->name,
                             users);
  g_autofree char *id = g_strdup (kernel->id);
  if (!banger_record_remove (manager->kernels_fd, id, error))
    return FALSE;
  forget (manager, id);
  return TRUE;
}

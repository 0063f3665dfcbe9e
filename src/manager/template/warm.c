/* How a template is made: a VM is booted, saved, and ends; its guest and its disks are the template.
 * Never has one in the table, or under a record, that is not whole and on the disk. */
#include "manager/template/private.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/ids.h"
#include "common/log.h"
#include "common/names.h"
#include "manager/core/later.h"
#include "manager/core/steps.h"
#include "manager/core/work.h"
#include "manager/disk/stamp.h"
#include "manager/peer/helper-answers.h"

#define SETTLE_SECONDS 60
#define REST_FIRST_SECONDS 1
#define REST_LAST_SECONDS 60

enum { CREATE, START, SETTLE, SAVE, KEEP, DISK, RECORD, DELETE, N_STEPS };

typedef struct {
  BangerJob job;
  BangerTemplates *templates;
  BangerVms *vms;
  BangerVmSpec spec;
  char *image, *kernel, *client; /* of @spec */
  BangerVm *vm;
  BangerTemplate *template; /* being filled; NULL: it is in the table */
  int vms_fd;
  gboolean idle;
} Warm;

/* @error: (transfer none) (nullable). */
static void
warm_end (Warm *warm, const GError *error)
{
  if (warm->template)
    g_hash_table_remove (warm->templates->making, warm->template->id);
  g_clear_pointer (&warm->template, template_free);
  g_clear_pointer (&warm->image, g_free);
  g_clear_pointer (&warm->kernel, g_free);
  g_clear_pointer (&warm->client, g_free);
  g_clear_pointer (&warm->vm, banger_vm_unref);
  banger_job_finish (&warm->job, error);
  banger_job_unref (&warm->job);
}

/* The VM: verbs of it, as anybody's. */

static void
create_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Warm *warm = data;
  banger_vm_run_async (warm->vm, BANGER_VM_VERB_CREATE, NULL, &warm->job, callback, user_data);
}

static void
start_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Warm *warm = data;
  const BangerVmVerbOptions options = { .mapped = TRUE, .idle = warm->idle };
  banger_vm_run_async (warm->vm, BANGER_VM_VERB_START, &options, &warm->job, callback, user_data);
}

/* A guest that is ready may still be starting services: each of its copies would do that again, and take what is asked of
 * it later. Where nobody knows when that is over, or it does not end, it is as it is. */

typedef struct {
  GTask *task;
  BangerExec *exec;
  guint timeout_id;
  gulong cancel_id;
} Settle;

static void
settle_end (Settle *settle)
{
  g_autoptr (GTask) task = settle->task;
  g_clear_handle_id (&settle->timeout_id, g_source_remove);
  g_clear_signal_handler (&settle->cancel_id, g_task_get_cancellable (task));
  g_clear_pointer (&settle->exec, banger_exec_free);
  g_free (settle);
  banger_task_return_later (g_steal_pointer (&task), NULL);
}

static gboolean
on_settle_late (gpointer data)
{
  Settle *settle = data;
  settle->timeout_id = 0;
  settle_end (settle);
  return G_SOURCE_REMOVE;
}

static void
on_settle_cancelled (GCancellable *cancellable, Settle *settle)
{
  g_clear_handle_id (&settle->timeout_id, g_source_remove);
  settle->timeout_id = g_idle_add (on_settle_late, settle);
}

static void
on_settled (BangerExec *exec, int status, int number, const GError *error, gpointer data)
{
  settle_end (data);
}

static void
on_asked (GObject *source, GAsyncResult *result, gpointer data)
{
  Settle *settle = data;
  int fds[BANGER_EXEC_STREAMS];
  g_autoptr (GError) error = NULL;
  settle->exec = banger_vm_exec_finish (result, fds, &error);
  for (gsize i = 0; settle->exec && i < G_N_ELEMENTS (fds); i++)
    banger_clear_fd (&fds[i]);
  if (settle->exec) {
    settle->timeout_id = g_timeout_add_seconds (SETTLE_SECONDS, on_settle_late, settle);
    settle->cancel_id = g_signal_connect (g_task_get_cancellable (settle->task), "cancelled",
                                          G_CALLBACK (on_settle_cancelled), settle);
    banger_exec_watch (settle->exec, on_settled, settle);
  } else {
    settle_end (settle);
  }
}

static void
settle_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  static const char *const arguments[] = { "systemctl", "is-system-running", "--wait", NULL };
  static const BangerExecSpec spec = { .arguments = arguments, .no_stdin = TRUE, .no_stdout = TRUE };
  Warm *warm = data;
  Settle *settle = g_new0 (Settle, 1);
  settle->task = g_task_new (NULL, cancellable, callback, user_data);
  banger_job_set_stage (&warm->job, "waiting until the guest is idle");
  banger_job_set_cancelable (&warm->job, TRUE); /* the start has ended that */
  banger_vm_exec_async (warm->vm, &spec, cancellable, on_asked, settle);
}

static void
save_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  static const BangerVmVerbOptions options = { .paused = TRUE };
  Warm *warm = data;
  banger_vm_run_async (warm->vm, BANGER_VM_VERB_SUSPEND, &options, &warm->job, callback, user_data);
}

/* Also if the job is cancelled. What cannot be deleted now goes because its client is gone, at the latest with us. */
static void
delete_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  static const BangerVmVerbOptions options = { .force = TRUE };
  Warm *warm = data;
  banger_vm_run_async (warm->vm, BANGER_VM_VERB_DELETE, &options, NULL, callback, user_data);
}

static gboolean
delete_finish (GAsyncResult *result, GError **error)
{
  g_autoptr (GError) own = NULL;
  if (banger_vm_run_finish (result, &own) || g_error_matches (own, BANGER_ERROR, BANGER_ERROR_NO_SUCH_VM))
    return TRUE;
  g_propagate_error (error, g_steal_pointer (&own));
  return FALSE;
}

/* The template is whole by then: what is left of its VM is told, and goes later. */
static gboolean
delete_take (gpointer data, GAsyncResult *result, GError **error)
{
  Warm *warm = data;
  g_autoptr (GError) own = NULL;
  if (delete_finish (result, &own) || banger_vm_is_gone (warm->vm))
    return TRUE;
  g_autofree char *text = g_strdup_printf ("its VM %s is deleted later: %s", banger_vm_record (warm->vm)->name,
                                           own->message);
  banger_job_warn (&warm->job, text);
  return TRUE;
}

/* A VM that could not be deleted, as the helper was not there, for instance: until it is. */

typedef struct {
  BangerTemplates **link;
  BangerVm *vm;
  guint seconds;
} Rest;

static void
rest_free (Rest *rest)
{
  g_rc_box_release (rest->link);
  banger_vm_unref (rest->vm);
  g_free (rest);
}

static gboolean on_rest_due (gpointer data);

static void
on_rest_deleted (GObject *source, GAsyncResult *result, gpointer data)
{
  Rest *rest = data;
  g_autoptr (GError) error = NULL;
  if (delete_finish (result, &error) || banger_vm_is_gone (rest->vm)) {
    rest_free (rest);
    return;
  }
  g_timeout_add_seconds (rest->seconds, on_rest_due, rest);
  rest->seconds = MIN (rest->seconds * 2, REST_LAST_SECONDS);
}

static gboolean
on_rest_due (gpointer data)
{
  static const BangerVmVerbOptions options = { .force = TRUE };
  Rest *rest = data;
  if (*rest->link && !banger_vm_is_gone (rest->vm))
    banger_vm_run_async (rest->vm, BANGER_VM_VERB_DELETE, &options, NULL, on_rest_deleted, rest);
  else
    rest_free (rest);
  return G_SOURCE_REMOVE;
}

static void
end_vm (const Warm *warm)
{
  if (banger_vm_is_gone (warm->vm))
    return;
  Rest *rest = g_new0 (Rest, 1);
  rest->link = g_rc_box_acquire (warm->templates->link);
  rest->vm = banger_vm_ref (warm->vm);
  rest->seconds = REST_FIRST_SECONDS;
  g_timeout_add_seconds (rest->seconds, on_rest_due, rest);
}

/* Its files. */

typedef struct {
  const BangerInstall *install;
  int templates_fd, vms_fd;
  char *id, *vm;
  gboolean root; /* the root disk is a file */
  char *files, *programs;
  guint64 size_bytes;
  int dir_fd; /* of the template */
} Keep;

static void
keep_free (gpointer data)
{
  Keep *keep = data;
  banger_clear_fd (&keep->templates_fd);
  banger_clear_fd (&keep->vms_fd);
  banger_clear_fd (&keep->dir_fd);
  g_free (keep->id);
  g_free (keep->vm);
  g_free (keep->files);
  g_free (keep->programs);
  g_free (keep);
}

/* Names in the VM's folder and in the template's. One that has no work disk has none of it. */
static const struct {
  const char *of_vm, *of_template;
  gboolean optional;
} moves[] = {
  { BANGER_FILE_VM_SAVE_STATE, BANGER_FILE_TEMPLATE_STATE, FALSE },
  { BANGER_FILE_VM_SAVE_MEMORY, BANGER_FILE_TEMPLATE_MEMORY, FALSE },
  { BANGER_FILE_VM_WORK, BANGER_FILE_VM_WORK, TRUE },
  { BANGER_FILE_VM_ROOTFS, BANGER_FILE_VM_ROOTFS, TRUE },
};

static gboolean
move_all (Keep *keep, int vm_fd, int to_fd, GError **error)
{
  for (gsize i = 0; i < G_N_ELEMENTS (moves); i++) {
    struct stat st;
    if (renameat (vm_fd, moves[i].of_vm, to_fd, moves[i].of_template) < 0) {
      if (errno == ENOENT && moves[i].optional)
        continue;
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot keep %s", moves[i].of_vm);
    }
    if (fchmodat (to_fd, moves[i].of_template, 0400, 0) < 0
        || fstatat (to_fd, moves[i].of_template, &st, AT_SYMLINK_NOFOLLOW) < 0)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot keep %s", moves[i].of_template);
    keep->size_bytes += (guint64)st.st_blocks * 512;
  }
  keep->files = banger_stamp_files (to_fd, banger_vm_template_files, TRUE, error);
  return keep->files != NULL;
}

static gboolean
keep (gpointer data, GCancellable *cancellable, GError **error)
{
  Keep *self = data;
  banger_autofd int vm_fd = banger_record_open_dir (self->vms_fd, self->vm, error);
  if (vm_fd < 0)
    return FALSE;
  if (mkdirat (self->templates_fd, self->id, 0700) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make the folder of the template");
  self->dir_fd = banger_record_open_dir (self->templates_fd, self->id, error);
  if (self->dir_fd < 0 || !move_all (self, vm_fd, self->dir_fd, error))
    return FALSE;
  self->programs = banger_vm_template_programs (self->install);
  return (fsync (self->dir_fd) == 0 && fsync (self->templates_fd) == 0)
         || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot write the folder of the template");
}

static void
drop_kept (gpointer data)
{
  const Keep *self = data;
  banger_record_remove (self->templates_fd, self->id, NULL);
}

static void
keep_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  static const BangerWork keeping = { "template-keep", keep, drop_kept, keep_free };
  Warm *warm = data;
  const BangerVmRecord *record = banger_vm_record (warm->vm);
  Keep *self = g_new0 (Keep, 1);
  self->install = warm->templates->install;
  self->dir_fd = -1;
  self->templates_fd = fcntl (warm->templates->dir_fd, F_DUPFD_CLOEXEC, 3);
  self->vms_fd = fcntl (warm->vms_fd, F_DUPFD_CLOEXEC, 3);
  self->id = g_strdup (warm->template->id);
  self->vm = g_strdup (record->id);
  banger_job_set_stage (&warm->job, TEMPLATE_STAGE_KEEPING);
  banger_job_set_cancelable (&warm->job, TRUE);
  banger_work_async (&keeping, self, cancellable, callback, user_data);
}

static gboolean
keep_take (gpointer data, GAsyncResult *result, GError **error)
{
  const Warm *warm = data;
  Keep *self = banger_work_data (result);
  if (!banger_work_finish (result, error))
    return FALSE;
  BangerTemplate *template = warm->template;
  template->files = g_steal_pointer (&self->files);
  template->programs = g_steal_pointer (&self->programs);
  template->root = g_strdup (banger_vm_record (warm->vm)->root);
  template->size_bytes = self->size_bytes;
  template->dir_fd = banger_steal_fd (&self->dir_fd);
  return TRUE;
}

/* Nobody needs to wait: without a record it is none. */
static void
keep_undo (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  const Warm *warm = data;
  banger_record_remove_async (warm->templates->dir_fd, warm->template->id, NULL, NULL);
  banger_task_return_later (g_task_new (NULL, NULL, callback, user_data), NULL);
}

/* The root disk, where it is the helper's. */

static gboolean
disk_skip (gpointer data)
{
  return g_str_equal (((const Warm *)data)->template->root, "file");
}

static void
disk_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Warm *warm = data;
  banger_job_set_cancelable (&warm->job, FALSE); /* what the helper copies would be there after it was forgotten */
  banger_helper_call (warm->templates->helper, &warm->job.caller, "CopyDisk", cancellable, callback, user_data,
                      banger_vm_record (warm->vm)->id, warm->template->id, FALSE);
}

static void
disk_undo (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  const Warm *warm = data;
  banger_gone_disks_add (warm->templates->disks, warm->template->id);
  banger_task_return_later (g_task_new (NULL, NULL, callback, user_data), NULL);
}

/* The record, which makes it one. */

static void
record_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Warm *warm = data;
  BangerTemplate *template = warm->template;
  banger_job_set_cancelable (&warm->job, FALSE);
  template->created_at = template->used_at = (guint64)g_get_real_time ();
  banger_record_put (warm->templates->writer, template, template->dir_fd, "template", template_fields, template,
                     callback, user_data);
}

#define AFTER(step) BANGER_STEP (step)
#define ITSELF BANGER_STEP_BOUNDS_ITSELF

/* clang-format off */
static const BangerStep warm_steps[] = {
  [CREATE] = { "template-create", NULL, 0, ITSELF, .run = create_run, .finish = banger_vm_run_finish, .undo = delete_run,
               .undo_finish = delete_finish },
  [START] = { "template-start", NULL, AFTER (CREATE), ITSELF, .run = start_run, .finish = banger_vm_run_finish },
  [SETTLE] = { "template-settle", NULL, AFTER (START), ITSELF, .run = settle_run },
  [SAVE] = { "template-save", NULL, AFTER (SETTLE), ITSELF, .run = save_run, .finish = banger_vm_run_finish },
  [KEEP] = { "template-keep", NULL, AFTER (SAVE), 600, "disk", .run = keep_run, .take = keep_take, .undo = keep_undo },
  [DISK] = { "template-disk", NULL, AFTER (KEEP), ITSELF, .run = disk_run, .finish = banger_helper_finish,
             .undo = disk_undo, .skip = disk_skip },
  [RECORD] = { "template-record", NULL, AFTER (DISK), 60, "disk", .run = record_run, .finish = banger_writer_finish },
  [DELETE] = { "template-delete", NULL, AFTER (RECORD), ITSELF, .run = delete_run, .take = delete_take },
};
/* clang-format on */
G_STATIC_ASSERT (G_N_ELEMENTS (warm_steps) == N_STEPS);

static void
on_warm (GObject *source, GAsyncResult *result, gpointer data)
{
  Warm *warm = data;
  g_autoptr (GError) error = NULL;
  if (banger_steps_run_finish (result, &error)) {
    BangerTemplate *template = g_steal_pointer (&warm->template);
    g_hash_table_remove (warm->templates->making, template->id);
    banger_log (LOG_INFO, BANGER_FIELDS (BANGER_FIELD_OP_ID, warm->job.op_id), "template %s is made", template->id);
    if (!template_add (warm->templates, template))
      error = g_error_new (BANGER_ERROR, BANGER_ERROR_WRONG_STATE, "what the template is made from is gone meanwhile");
  } else if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
    g_clear_error (&error);
    error = banger_error_cancelled ();
  }
  end_vm (warm);
  warm_end (warm, error);
}

static gboolean
is_being_made (BangerTemplates *templates, const BangerTemplate *wanted)
{
  GHashTableIter iter;
  gpointer other;
  g_hash_table_iter_init (&iter, templates->making);
  while (g_hash_table_iter_next (&iter, NULL, &other))
    if (template_is_same (other, wanted))
      return TRUE;
  return FALSE;
}

/* Returns: (transfer full): what is to be made; %NULL: with an error, or it is there. */
static BangerTemplate *
look (BangerTemplates *templates, BangerVm *vm, GError **error)
{
  g_autoptr (BangerTemplate) wanted = template_wanted (templates, banger_vm_record (vm), error);
  if (!wanted || template_find (templates, wanted))
    return NULL;
  if (is_being_made (templates, wanted)) {
    banger_set_error (error, BANGER_ERROR_WRONG_STATE, "that template is being made: wait for it");
    return NULL;
  }
  wanted->id = banger_id_new ();
  return g_steal_pointer (&wanted);
}

static void
on_engine_known (GObject *source, GAsyncResult *result, gpointer data)
{
  Warm *warm = data;
  BangerTemplates *templates = warm->templates;
  g_autofree char *id = banger_id_new (), *name = g_strdup_printf ("template-%.8s", id);
  g_autoptr (GError) error = NULL;
  BangerVm *vm = banger_vms_add (warm->vms, name, &warm->spec, &error);
  warm->template = vm ? look (templates, vm, &error) : NULL;
  if (!warm->template) {
    if (vm)
      banger_vm_drop (vm);
    warm_end (warm, error);
    return;
  }
  warm->vm = banger_vm_ref (vm);
  banger_vm_reserve (vm);
  g_hash_table_insert (templates->making, warm->template->id, warm->template);
  const BangerSteps steps = { .table = warm_steps, .n = N_STEPS, .seconds = 60, .data = warm };
  banger_steps_run_async (&steps, warm->job.cancellable, on_warm, warm);
}

static void
begin (BangerJob *job)
{
  template_engine_async (((Warm *)job)->templates, on_engine_known, job);
}

BangerJob *
banger_templates_job_new (BangerTemplates *templates, BangerVms *vms, int vms_fd, const BangerVmSpec *vm, gboolean idle,
                          BangerJobs *jobs, const BangerJobSpec *spec, GError **error)
{
  BangerJobSpec own = *spec;
  own.size = sizeof (Warm);
  own.begin = begin;
  own.object_kind = BANGER_OBJECT_IMAGE;
  own.object_id = vm->image;
  BangerJob *job = banger_job_new (jobs, &own, error);
  if (!job)
    return NULL;
  Warm *warm = (Warm *)banger_job_ref (job);
  warm->templates = templates;
  warm->vms = vms;
  warm->spec = *vm;
  warm->spec.bare = TRUE;
  warm->spec.image = warm->image = g_strdup (vm->image);
  warm->spec.kernel = warm->kernel = g_strdup (vm->kernel);
  warm->spec.client = warm->client = g_strdup (vm->client);
  warm->vms_fd = vms_fd;
  warm->idle = idle;
  return job;
}

/* How a snapshot is made: a folder, the VM's verb that fills it, the record that makes it one.
 * Never leaves a folder or a disk of one that was not made. */
#include "common/error.h"
#include "common/ids.h"
#include "common/log.h"
#include "common/names.h"
#include "manager/core/later.h"
#include "manager/core/steps.h"
#include "manager/snapshot/private.h"

enum { FOLDER, FILL, RECORD, N_STEPS };

typedef struct {
  BangerJob job;
  BangerSnapshots *snapshots;
  BangerVm *vm;
  BangerVmSnapshot *snapshot; /* NULL: it is in the table */
} Make;

static void
folder_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  const Make *make = data;
  snapshot_folder_async (make->snapshots->dir_fd, make->snapshot, cancellable, callback, user_data);
}

static gboolean
folder_take (gpointer data, GAsyncResult *result, GError **error)
{
  return snapshot_folder_finish (((const Make *)data)->snapshot, result, error);
}

/* Nobody needs to wait: without a record it is none. */
static void
folder_undo (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  const Make *make = data;
  snapshot_remove_files (make->snapshots, make->snapshot);
  banger_task_return_later (g_task_new (NULL, NULL, callback, user_data), NULL);
}

static void
fill_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Make *make = data;
  const BangerVmVerbOptions options = { .snapshot = make->snapshot };
  banger_vm_run_async (make->vm, BANGER_VM_VERB_SNAPSHOT, &options, &make->job, callback, user_data);
}

static void
record_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Make *make = data;
  banger_job_set_cancelable (&make->job, FALSE);
  make->snapshot->created_at = (guint64)g_get_real_time ();
  banger_record_put (make->snapshots->writer, make->snapshot, make->snapshot->dir_fd, "snapshot",
                     banger_vm_snapshot_fields, make->snapshot, callback, user_data);
}

#define AFTER(step) BANGER_STEP (step)

static const BangerStep make_steps[] = {
  [FOLDER] = { "snapshot-folder", NULL, 0, 60, "disk", .run = folder_run, .take = folder_take, .undo = folder_undo },
  [FILL] = { "snapshot-fill", NULL, AFTER (FOLDER), BANGER_STEP_BOUNDS_ITSELF, .run = fill_run,
             .finish = banger_vm_run_finish },
  [RECORD] = { "snapshot-record", NULL, AFTER (FILL), 60, "disk", .run = record_run, .finish = banger_writer_finish },
};
G_STATIC_ASSERT (G_N_ELEMENTS (make_steps) == N_STEPS);

/* @error: (transfer none) (nullable). */
static void
make_end (Make *make, const GError *error)
{
  g_ptr_array_remove (make->snapshots->making, make->snapshot);
  g_clear_pointer (&make->snapshot, banger_vm_snapshot_unref);
  g_clear_pointer (&make->vm, banger_vm_unref);
  banger_job_finish (&make->job, error);
  banger_job_unref (&make->job);
}

static void
on_made (GObject *source, GAsyncResult *result, gpointer data)
{
  Make *make = data;
  g_autoptr (GError) error = NULL;
  const BangerVmSnapshot *snapshot = make->snapshot;
  if (!banger_steps_run_finish (result, &error)) {
    if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
      g_clear_error (&error);
      error = banger_error_cancelled ();
    }
  } else if (snapshot_add (make->snapshots, banger_vm_snapshot_ref (make->snapshot))) {
    banger_log (LOG_INFO, BANGER_FIELDS (BANGER_FIELD_VM, snapshot->vm, BANGER_FIELD_OP_ID, make->job.op_id),
                "snapshot %s is made; its guest stood still for %" G_GUINT64_FORMAT " ms", snapshot->name,
                snapshot->paused_usec / 1000);
  } else {
    error = g_error_new (BANGER_ERROR, BANGER_ERROR_NO_SUCH_VM, "its VM is gone meanwhile");
  }
  make_end (make, error);
}

static void
begin (BangerJob *job)
{
  Make *make = (Make *)job;
  const BangerSteps steps = { .table = make_steps, .n = N_STEPS, .seconds = 60, .data = make };
  banger_steps_run_async (&steps, job->cancellable, on_made, make);
}

BangerJob *
banger_snapshots_job_new (BangerSnapshots *snapshots, BangerVm *vm, const char *name, BangerJobs *jobs,
                          const BangerJobSpec *spec, GError **error)
{
  const BangerVmVerbOptions options = { 0 };
  g_autofree char *id = banger_id_new ();
  BangerJobSpec own = *spec;
  own.size = sizeof (Make);
  own.begin = begin;
  own.object_kind = BANGER_OBJECT_SNAPSHOT;
  own.object_id = id;
  if (!snapshot_check_new (snapshots, vm, name, error) || !banger_vm_may (vm, BANGER_VM_VERB_SNAPSHOT, &options, error))
    return NULL;
  BangerJob *job = banger_job_new (jobs, &own, error);
  if (!job)
    return NULL;
  Make *make = (Make *)banger_job_ref (job);
  make->snapshots = snapshots;
  make->vm = banger_vm_ref (vm);
  make->snapshot = banger_vm_snapshot_new ();
  make->snapshot->id = g_steal_pointer (&id);
  make->snapshot->name = g_strdup (name);
  make->snapshot->vm = g_strdup (banger_vm_record (vm)->id);
  g_ptr_array_add (snapshots->making, make->snapshot);
  return job;
}

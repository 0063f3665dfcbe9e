/* Copies of a VM that runs: one save of it, in a folder that no record makes a template, from which as many are started.
 * Never lets some of them stay if one does not come to run, nor that folder if the job has ended. */
#include "common/error.h"
#include "common/ids.h"
#include "common/log.h"
#include "common/names.h"
#include "manager/core/later.h"
#include "manager/core/steps.h"
#include "manager/snapshot/private.h"

#define AT_ONCE 4

enum { FOLDER, CREATE, SAVE, START, N_STEPS };

typedef struct {
  BangerJob job;
  BangerSnapshots *snapshots;
  int templates_fd;
  BangerVm *vm;
  guint64 starts; /* of it, when they were added */
  GPtrArray *copies;
  BangerVmSnapshot *snapshot;
} Fork;

/* Verbs of all of them. */

typedef struct {
  GTask *task;
  GPtrArray *copies;
  BangerVmVerb verb;
  BangerVmVerbOptions options;
  BangerJob *whole; /* NULL: they go on if the job is cancelled */
  guint next, running;
  GError *error; /* of the first that failed: no other is begun then, but where @whole is not known */
} All;

static void all_go_on (All *all);

static void
all_end (All *all)
{
  g_autoptr (GTask) task = all->task;
  GError *error = all->error;
  g_ptr_array_unref (all->copies);
  g_free (all);
  banger_task_return_later (g_steal_pointer (&task), error);
}

typedef struct {
  All *all;
  BangerVm *vm;
} One;

static void
on_one (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autofree One *one = data;
  All *all = one->all;
  GError *error = NULL;
  gboolean deletes = all->verb == BANGER_VM_VERB_DELETE;
  if (!banger_vm_run_finish (result, &error) && deletes && banger_vm_is_gone (one->vm))
    g_clear_error (&error);
  if (error && !all->error) {
    g_prefix_error (&error, "%s: ", banger_vm_record (one->vm)->name);
    all->error = g_steal_pointer (&error);
  }
  g_clear_error (&error);
  all->running--;
  all_go_on (all);
}

static void
all_go_on (All *all)
{
  while (all->running < AT_ONCE && all->next < all->copies->len && (!all->error || !all->whole)) {
    One *one = g_new0 (One, 1);
    one->all = all;
    one->vm = all->copies->pdata[all->next++];
    all->running++;
    banger_vm_run_async (one->vm, all->verb, &all->options, all->whole, on_one, one);
  }
  if (all->running == 0)
    all_end (all);
}

static void
run_all (Fork *fork, BangerVmVerb verb, const BangerVmVerbOptions *options, BangerJob *whole,
         GAsyncReadyCallback callback, gpointer user_data)
{
  All *all = g_new0 (All, 1);
  all->task = g_task_new (NULL, NULL, callback, user_data);
  all->copies = g_ptr_array_ref (fork->copies);
  all->verb = verb;
  all->options = *options;
  all->whole = whole;
  banger_job_set_cancelable (&fork->job, whole != NULL); /* what one of them said of that holds for that one */
  all_go_on (all);
}

/* Steps. */

static void
folder_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  const Fork *fork = data;
  snapshot_folder_async (fork->templates_fd, fork->snapshot, cancellable, callback, user_data);
}

static gboolean
folder_take (gpointer data, GAsyncResult *result, GError **error)
{
  return snapshot_folder_finish (((const Fork *)data)->snapshot, result, error);
}

static void
create_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Fork *fork = data;
  const BangerVmVerbOptions options = { 0 };
  run_all (fork, BANGER_VM_VERB_CREATE, &options, &fork->job, callback, user_data);
}

static void
create_undo (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  const BangerVmVerbOptions options = { .force = TRUE };
  banger_vms_drop_copies (((Fork *)data)->copies);
  run_all (data, BANGER_VM_VERB_DELETE, &options, NULL, callback, user_data);
}

static void
save_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Fork *fork = data;
  const BangerVmVerbOptions options = { .snapshot = fork->snapshot };
  banger_vm_run_async (fork->vm, BANGER_VM_VERB_FORK, &options, &fork->job, callback, user_data);
}

/* Their records are of the VM as it was when they were added. */
static gboolean
save_take (gpointer data, GAsyncResult *result, GError **error)
{
  const Fork *fork = data;
  return banger_vm_run_finish (result, error)
         && (fork->snapshot->starts == fork->starts
             || banger_set_error (error, BANGER_ERROR_WRONG_STATE, "%s was started anew meanwhile",
                                  banger_vm_record (fork->vm)->name));
}

static void
start_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Fork *fork = data;
  const BangerVmVerbOptions options = { .snapshot = fork->snapshot };
  run_all (fork, BANGER_VM_VERB_START, &options, &fork->job, callback, user_data);
}

#define AFTER(step) BANGER_STEP (step)
#define ITSELF BANGER_STEP_BOUNDS_ITSELF

/* clang-format off */
static const BangerStep fork_steps[] = {
  [FOLDER] = { "fork-folder", NULL, 0, 60, "disk", .run = folder_run, .take = folder_take },
  [CREATE] = { "fork-create", NULL, AFTER (FOLDER), ITSELF, .run = create_run, .undo = create_undo },
  [SAVE] = { "fork-save", NULL, AFTER (CREATE), ITSELF, .run = save_run, .take = save_take },
  [START] = { "fork-start", NULL, AFTER (SAVE), ITSELF, .run = start_run },
};
/* clang-format on */
G_STATIC_ASSERT (G_N_ELEMENTS (fork_steps) == N_STEPS);

/* @error: (transfer none) (nullable). */
static void
fork_end (Fork *fork, const GError *error)
{
  banger_record_remove_async (fork->templates_fd, fork->snapshot->id, NULL, NULL);
  if (g_strcmp0 (fork->snapshot->root, "file") != 0)
    banger_gone_disks_add (fork->snapshots->disks, fork->snapshot->id);
  g_clear_pointer (&fork->snapshot, banger_vm_snapshot_unref);
  g_clear_pointer (&fork->copies, g_ptr_array_unref);
  g_clear_pointer (&fork->vm, banger_vm_unref);
  banger_job_finish (&fork->job, error);
  banger_job_unref (&fork->job);
}

static void
on_forked (GObject *source, GAsyncResult *result, gpointer data)
{
  Fork *fork = data;
  g_autoptr (GError) error = NULL;
  if (banger_steps_run_finish (result, &error)) {
    banger_log (LOG_INFO, BANGER_FIELDS (BANGER_FIELD_VM, fork->snapshot->vm, BANGER_FIELD_OP_ID, fork->job.op_id),
                "%u copies of it run; its guest stood still for %" G_GUINT64_FORMAT " ms", fork->copies->len,
                fork->snapshot->paused_usec / 1000);
  } else {
    banger_vms_drop_copies (fork->copies); /* also where no step was begun */
    if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
      g_clear_error (&error);
      error = banger_error_cancelled ();
    }
  }
  fork_end (fork, error);
}

static void
begin (BangerJob *job)
{
  Fork *fork = (Fork *)job;
  const BangerVmRecord *record = banger_vm_record (fork->vm);
  const BangerSteps steps = { .table = fork_steps, .n = N_STEPS, .seconds = 60, .data = fork };
  if (record->forwards && *record->forwards) {
    g_autofree char *ports = g_strjoinv (", ", record->forwards);
    g_autofree char *text = g_strdup_printf ("what is forwarded to %s stays its own, and leads to no copy: %s",
                                             record->name, ports);
    banger_job_warn (job, text);
  }
  banger_steps_run_async (&steps, job->cancellable, on_forked, fork);
}

BangerJob *
banger_snapshots_fork_job_new (BangerSnapshots *snapshots, int templates_fd, BangerVm *vm, const char *name,
                               guint count, BangerJobs *jobs, const BangerJobSpec *spec, GError **error)
{
  const BangerVmVerbOptions options = { 0 };
  BangerJobSpec own = *spec;
  g_autoptr (GPtrArray) copies = banger_vm_may (vm, BANGER_VM_VERB_FORK, &options, error)
                                     ? banger_vms_add_copies (snapshots->vms, vm, name, count, error)
                                     : NULL;
  if (!copies)
    return NULL;
  own.size = sizeof (Fork);
  own.begin = begin;
  own.object_kind = BANGER_OBJECT_VM;
  own.object_id = banger_vm_record (copies->pdata[0])->id;
  BangerJob *job = banger_job_new (jobs, &own, error);
  if (!job) {
    banger_vms_drop_copies (copies);
    return NULL;
  }
  Fork *fork = (Fork *)banger_job_ref (job);
  fork->snapshots = snapshots;
  fork->templates_fd = templates_fd;
  fork->vm = banger_vm_ref (vm);
  fork->starts = banger_vm_record (vm)->starts;
  fork->copies = g_steal_pointer (&copies);
  fork->snapshot = banger_vm_snapshot_new ();
  fork->snapshot->id = banger_id_new ();
  fork->snapshot->name = g_strdup ("");
  fork->snapshot->vm = g_strdup (banger_vm_record (vm)->id);
  return job;
}

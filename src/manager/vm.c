/* The table of VMs, their records and states, and who may do what when.
 * Called by manager.c and vm-dbus.c; the verbs themselves are in vm-start.c and vm-stop.c.
 * Never lets two verbs work on one VM at a time. */
#include "manager/vm-private.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/ids.h"
#include "common/pidfd.h"
#include "common/size.h"
#include "common/validate.h"
#include "manager/console.h"
#include "manager/later.h"
#include "manager/record.h"
#include "manager/workspace.h"

#define DEFAULT_VCPUS 2
#define MAX_VCPUS 32
#define DEFAULT_MEMORY_MIB 1024
#define MIN_MEMORY_MIB 128
#define MAX_MEMORY_MIB (1 << 20)
#define DEFAULT_DISK_BYTES (G_GUINT64_CONSTANT (8) << 30)
#define MIN_DISK_BYTES (G_GUINT64_CONSTANT (16) << 20)
#define MAX_DISK_BYTES (G_GUINT64_CONSTANT (16) << 40)
#define DISK_ALIGN 4096
#define CONSOLE_LOOK_SECONDS 5
#define TAIL_BYTES 2048
#define TAIL_LINES 12

static const char *const state_words[] = { "creating", "stopped", "starting", "running", "stopping", "deleting", NULL };
G_STATIC_ASSERT (G_N_ELEMENTS (state_words) == BANGER_N_VM_STATES + 1);

const char *
banger_vm_state_to_string (BangerVmState state)
{
  g_return_val_if_fail ((guint)state < BANGER_N_VM_STATES, "stopped");
  return state_words[state];
}

int
banger_vm_state_from_string (const char *word)
{
  for (int i = 0; i < BANGER_N_VM_STATES; i++)
    if (g_strcmp0 (word, state_words[i]) == 0)
      return i;
  return -1;
}

#define FIELD(key, type, member, words, required)                                                                      \
  {                                                                                                                    \
    key, BANGER_RECORD_##type, G_STRUCT_OFFSET (BangerVmRecord, member), words, required                               \
  }
static const BangerRecordField record_fields[] = {
  FIELD ("name", STRING, name, NULL, TRUE),
  FIELD ("state", WORD, state, state_words, TRUE),
  FIELD ("reason", STRING, reason, NULL, FALSE),
  FIELD ("image", STRING, image, NULL, TRUE),
  FIELD ("image-id", STRING, image_id, NULL, TRUE),
  FIELD ("kernel", STRING, kernel, NULL, TRUE),
  FIELD ("kernel-id", STRING, kernel_id, NULL, TRUE),
  FIELD ("vcpus", UINT32, vcpus, NULL, TRUE),
  FIELD ("memory-mib", UINT32, memory_mib, NULL, TRUE),
  FIELD ("disk-bytes", UINT64, disk_bytes, NULL, TRUE),
  FIELD ("nat", BOOL, nat, NULL, TRUE),
  FIELD ("ephemeral", BOOL, ephemeral, NULL, FALSE),
  FIELD ("address", STRING, address, NULL, TRUE),
  FIELD ("mac", STRING, mac, NULL, TRUE),
  FIELD ("root", STRING, root, NULL, FALSE),
  FIELD ("created-at", UINT64, created_at, NULL, TRUE),
  FIELD ("started-at", UINT64, started_at, NULL, FALSE),
  FIELD ("pid", UINT32, pid, NULL, FALSE),
  FIELD ("boot-id", STRING, boot_id, NULL, FALSE),
  { NULL },
};

/* Strings of a record are never NULL for those who read it. */
static void
record_fill (BangerVmRecord *record)
{
  for (const BangerRecordField *field = record_fields; field->key; field++) {
    char **text = G_STRUCT_MEMBER_P (record, field->offset);
    if (field->type == BANGER_RECORD_STRING && !*text)
      *text = g_strdup ("");
  }
}

static void
record_clear (BangerVmRecord *record)
{
  banger_record_clear (record_fields, record);
  g_clear_pointer (&record->id, g_free);
}

static void
record_copy (BangerVmRecord *to, const BangerVmRecord *from)
{
  record_clear (to);
  *to = *from;
  to->id = g_strdup (from->id);
  for (const BangerRecordField *field = record_fields; field->key; field++)
    if (field->type == BANGER_RECORD_STRING) {
      char **text = G_STRUCT_MEMBER_P (to, field->offset);
      *text = g_strdup (*text);
    }
}

/* Record members behind the properties of org.banger.VM that change. */
static const struct {
  const char *property;
  size_t offset;
  enum { TEXT, NUMBER, BIG } kind;
} changeables[] = {
  { "State", G_STRUCT_OFFSET (BangerVmRecord, state), NUMBER },
  { "StateReason", G_STRUCT_OFFSET (BangerVmRecord, reason), TEXT },
  { "StartedAt", G_STRUCT_OFFSET (BangerVmRecord, started_at), BIG },
  { "Pid", G_STRUCT_OFFSET (BangerVmRecord, pid), NUMBER },
  { "BootId", G_STRUCT_OFFSET (BangerVmRecord, boot_id), TEXT },
};

static gboolean
differs (guint row, const BangerVmRecord *a, const BangerVmRecord *b)
{
  gconstpointer x = G_STRUCT_MEMBER_P (a, changeables[row].offset), y = G_STRUCT_MEMBER_P (b, changeables[row].offset);
  switch (changeables[row].kind) {
    case TEXT:
      return g_strcmp0 (*(char *const *)x, *(char *const *)y) != 0;
    case BIG:
      return *(const guint64 *)x != *(const guint64 *)y;
    case NUMBER:
    default:
      return *(const guint32 *)x != *(const guint32 *)y;
  }
}

/* One announcement for all that changed since the last. */
static void
vm_announce (BangerVm *vm)
{
  const char *changed[G_N_ELEMENTS (changeables) + 1];
  guint n = 0;
  for (guint i = 0; i < G_N_ELEMENTS (changeables); i++)
    if (differs (i, &vm->record, &vm->announced))
      changed[n++] = changeables[i].property;
  changed[n] = NULL;
  record_copy (&vm->announced, &vm->record);
  if (n > 0 && vm->vms && !vm->gone)
    vm->vms->observer->changed (vm->record.id, changed, vm->vms->user_data);
}

void
vm_set_string (char **field, const char *value)
{
  if (g_strcmp0 (*field, value) == 0)
    return;
  g_free (*field);
  *field = g_strdup (value);
}

void
vm_log (BangerVm *vm, VmOp *op, int priority, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  banger_log (priority,
              BANGER_FIELDS (BANGER_FIELD_VM, vm->record.id, BANGER_FIELD_OP_ID, op ? op->caller.op_id : NULL),
              "%s: %s", vm->record.name, text);
}

gboolean
vm_set_state (BangerVm *vm, VmOp *op, BangerVmState state, const char *reason, GError **error)
{
  BangerVmState before = (BangerVmState)vm->record.state;
  vm->record.state = state;
  vm_set_string (&vm->record.reason, reason ? reason : "");
  if (state != BANGER_VM_RUNNING && state != BANGER_VM_STOPPING) {
    vm->record.started_at = 0;
    vm->record.pid = 0;
    vm_set_string (&vm->record.boot_id, "");
  }
  g_autoptr (GError) own = NULL;
  gboolean ok = banger_record_save (vm->dir_fd, "vm", record_fields, &vm->record, &own);
  vm_announce (vm);
  if (before != state)
    vm_log (vm, op, LOG_INFO, "%s -> %s%s%s", state_words[before], state_words[state], reason && *reason ? ": " : "",
            reason ? reason : "");
  if (ok)
    return TRUE;
  if (!error) /* the caller goes on */
    vm_log (vm, op, LOG_ERR, "cannot write the record: %s", own->message);
  g_propagate_error (error, g_steal_pointer (&own));
  return FALSE;
}

/* The VM object. */

static BangerVm *
vm_new (BangerVms *vms, const char *id)
{
  BangerVm *vm = g_new0 (BangerVm, 1);
  g_ref_count_init (&vm->refs);
  vm->vms = vms;
  vm->dir_fd = vm->pidfd = -1;
  vm->record.id = g_strdup (id);
  vm->alias = banger_ssh_host_key_alias (id);
  vm->dir_path = g_build_filename (vms->vms_path, id, NULL);
  vm->console_log = g_build_filename (vm->dir_path, BANGER_FILE_VM_CONSOLE, NULL);
  vm->run_path = g_build_filename (vms->runtime_path, id, NULL);
  vm->api_socket = g_build_filename (vm->run_path, BANGER_SOCKET_API, NULL);
  vm->vsock_socket = g_build_filename (vm->run_path, BANGER_SOCKET_VSOCK, NULL);
  return vm;
}

BangerVm *
banger_vm_ref (BangerVm *vm)
{
  g_ref_count_inc (&vm->refs);
  return vm;
}

void
banger_vm_unref (BangerVm *vm)
{
  if (!vm || !g_ref_count_dec (&vm->refs))
    return;
  vm_drop_agent (vm);
  vm_unwatch (vm);
  banger_clear_fd (&vm->dir_fd);
  record_clear (&vm->record);
  record_clear (&vm->announced);
  g_free (vm->alias);
  g_free (vm->dir_path);
  g_free (vm->console_log);
  g_free (vm->run_path);
  g_free (vm->api_socket);
  g_free (vm->vsock_socket);
  g_free (vm);
}

const BangerVmRecord *
banger_vm_record (BangerVm *vm)
{
  return &vm->record;
}

const char *
banger_vm_identity_file (BangerVm *vm)
{
  return vm->vms->ssh->identity_file;
}

const char *
banger_vm_known_hosts_file (BangerVm *vm)
{
  return vm->vms->ssh->known_hosts_file;
}

const char *
banger_vm_host_key_alias (BangerVm *vm)
{
  return vm->alias;
}

const char *
banger_vm_console_log (BangerVm *vm)
{
  return vm->console_log;
}

int
banger_vm_open_console (BangerVm *vm, GError **error)
{
  int fd = openat (vm->dir_fd, BANGER_FILE_VM_CONSOLE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT)
    banger_set_error (error, BANGER_ERROR_WRONG_STATE, "%s has no console log yet: start it first", vm->record.name);
  else if (fd < 0)
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot open %s", vm->console_log);
  return fd;
}

char *
vm_console_tail (BangerVm *vm)
{
  banger_autofd int fd = banger_vm_open_console (vm, NULL);
  struct stat st;
  if (fd < 0 || fstat (fd, &st) < 0)
    return NULL;
  char text[TAIL_BYTES + 1];
  ssize_t n = pread (fd, text, TAIL_BYTES, MAX (0, st.st_size - TAIL_BYTES));
  text[MAX (n, 0)] = '\0';
  g_auto (GStrv) lines = g_strsplit_set (text, "\r\n", -1);
  g_autoptr (GString) tail = g_string_new (NULL);
  guint taken = 0;
  for (guint i = g_strv_length (lines); i > 0 && taken < TAIL_LINES; i--) {
    g_autofree char *line = banger_log_escape (g_strstrip (lines[i - 1]), 200);
    if (*line == '\0')
      continue;
    g_string_prepend (tail, line);
    g_string_prepend (tail, "\n  ");
    taken++;
  }
  return taken > 0 ? g_string_free (g_steal_pointer (&tail), FALSE) : NULL;
}

/* Whichever VMM writes it: a guest must not fill the owner's disk. */
static gboolean
on_look_at_console (gpointer user_data)
{
  BangerVm *vm = user_data;
  g_autoptr (GError) error = NULL;
  if (!banger_console_bound (vm->dir_fd, BANGER_FILE_VM_CONSOLE, BANGER_CONSOLE_MAX, BANGER_CONSOLE_KEEP, &error))
    vm_log (vm, NULL, LOG_WARNING, "the console log is not cut: %s", error->message);
  return G_SOURCE_CONTINUE;
}

static gboolean
on_vmm_ended (gpointer user_data)
{
  BangerVm *vm = user_data;
  vm->death_watch = 0;
  g_clear_handle_id (&vm->console_watch, g_source_remove);
  banger_clear_fd (&vm->pidfd);
  vm->died = TRUE;
  if (vm->op && vm->op->on_death)
    vm->op->on_death (vm->op);
  else if (vm->op && vm->op->row->verb == BANGER_VM_VERB_IMPORT_WORKSPACE)
    g_cancellable_cancel (vm->op->cancellable);
  else if (!vm->op)
    vm_op_begin (vm_op_new (vm, &vm_row_exit, NULL));
  return G_SOURCE_REMOVE;
}

void
vm_watch (BangerVm *vm, int pidfd)
{
  vm_unwatch (vm);
  vm->pidfd = pidfd;
  vm->died = FALSE;
  vm->death_watch = banger_pidfd_watch (pidfd, on_vmm_ended, vm);
  vm->console_watch = g_timeout_add_seconds (CONSOLE_LOOK_SECONDS, on_look_at_console, vm);
}

void
vm_unwatch (BangerVm *vm)
{
  g_clear_handle_id (&vm->death_watch, g_source_remove);
  g_clear_handle_id (&vm->console_watch, g_source_remove);
  banger_clear_fd (&vm->pidfd);
  vm->died = FALSE;
}

void
vm_drop_agent (BangerVm *vm)
{
  g_clear_pointer (&vm->agent, banger_agent_free);
}

/* Also after a reboot inside the guest that did not end the VMM. */
static void
on_agent_ready (BangerAgent *agent, const char *boot_id, gpointer user_data)
{
  BangerVm *vm = user_data;
  if (vm->record.state != BANGER_VM_RUNNING || g_str_equal (vm->record.boot_id, boot_id))
    return;
  vm_set_string (&vm->record.boot_id, boot_id);
  vm_set_state (vm, NULL, BANGER_VM_RUNNING, vm->record.reason, NULL);
}

void
vm_keep_agent (BangerVm *vm)
{
  if (!vm->agent)
    vm->agent = banger_agent_new (vm->vsock_socket, on_agent_ready, vm);
}

void
vm_forget (BangerVm *vm)
{
  if (vm->gone)
    return;
  vm->gone = TRUE;
  BangerVms *vms = vm->vms;
  g_autofree char *id = g_strdup (vm->record.id);
  g_hash_table_remove (vms->table, id);
  vms->observer->removed (id, vms->user_data);
}

/* Verbs. */

static void run_create (VmOp *op);
static void run_start (VmOp *op);
static void run_stop (VmOp *op);
static void run_kill (VmOp *op);
static void run_restart (VmOp *op);
static void run_delete (VmOp *op);
static void run_import (VmOp *op);
static void run_exit (VmOp *op);

#define S(state) VM_BIT (BANGER_VM_##state)
#define V(verb) VM_BIT (BANGER_VM_VERB_##verb)
static const VmVerbRow verb_rows[] = {
  { BANGER_VM_VERB_CREATE, "create", "being created", S (CREATING), 0, BANGER_N_VM_STATES, run_create },
  { BANGER_VM_VERB_START, "start", "being started", S (STOPPED), 0, BANGER_N_VM_STATES, run_start },
  { BANGER_VM_VERB_STOP, "stop", "being stopped", S (RUNNING) | S (STARTING),
    V (START) | V (RESTART) | V (IMPORT_WORKSPACE), BANGER_VM_STOPPED, run_stop },
  { BANGER_VM_VERB_KILL, "kill", "being killed", S (RUNNING) | S (STARTING) | S (STOPPING),
    V (START) | V (STOP) | V (RESTART) | V (IMPORT_WORKSPACE), BANGER_VM_STOPPED, run_kill },
  { BANGER_VM_VERB_RESTART, "restart", "being restarted", S (RUNNING), V (IMPORT_WORKSPACE), BANGER_N_VM_STATES,
    run_restart },
  { BANGER_VM_VERB_DELETE, "delete", "being deleted", S (STOPPED) | S (DELETING), 0, BANGER_N_VM_STATES, run_delete },
  { BANGER_VM_VERB_IMPORT_WORKSPACE, "import a workspace into", "taking in a workspace", S (RUNNING), 0,
    BANGER_N_VM_STATES, run_import },
};
G_STATIC_ASSERT (G_N_ELEMENTS (verb_rows) == BANGER_N_VM_VERBS);

/* Delete with force: the same verb, more rights. */
static const VmVerbRow row_delete_force = {
  BANGER_VM_VERB_DELETE,
  "delete",
  "being deleted",
  S (CREATING) | S (STOPPED) | S (STARTING) | S (RUNNING) | S (STOPPING) | S (DELETING),
  V (CREATE) | V (START) | V (STOP) | V (KILL) | V (RESTART) | V (IMPORT_WORKSPACE),
  BANGER_N_VM_STATES,
  run_delete,
};
const VmVerbRow vm_row_exit = { BANGER_N_VM_VERBS, "release", "being released", 0, 0, BANGER_N_VM_STATES, run_exit };
const VmVerbRow vm_row_reconcile = { BANGER_N_VM_VERBS,  "find again",    "being found again", 0, 0,
                                     BANGER_N_VM_STATES, vm_reconcile_run };

static const VmVerbRow *
find_row (BangerVmVerb verb, const BangerVmVerbOptions *options)
{
  return verb == BANGER_VM_VERB_DELETE && options && options->force ? &row_delete_force : &verb_rows[verb];
}

static const char *
wrong_state_advice (const VmVerbRow *row, int state)
{
  if (row->verb == BANGER_VM_VERB_DELETE && state != BANGER_VM_STOPPED)
    return ": stop it first, or delete with force";
  if (state == BANGER_VM_STOPPED
      && (row->verb == BANGER_VM_VERB_RESTART || row->verb == BANGER_VM_VERB_IMPORT_WORKSPACE))
    return ": start it first";
  return "";
}

static gboolean
check_begin (BangerVm *vm, const VmVerbRow *row, GError **error)
{
  const char *name = vm->record.name;
  if (vm->gone)
    return banger_set_error (error, BANGER_ERROR_NO_SUCH_VM, "no VM is called '%s' any more", name);
  if (vm->queue)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "%s is %s: wait for it", name, vm->queue->row->doing);
  if (vm->op && !(row->interrupts & VM_BIT (vm->op->row->verb)) && vm->op->row->verb < BANGER_N_VM_VERBS)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "%s is %s: wait for it", name, vm->op->row->doing);
  if (!(row->states & VM_BIT (vm->record.state)))
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "%s is %s%s", name, state_words[vm->record.state],
                             wrong_state_advice (row, vm->record.state));
  return TRUE;
}

gboolean
banger_vm_check (BangerVm *vm, BangerVmVerb verb, const BangerVmVerbOptions *options, GError **error)
{
  /* Before reconcile the state is that of the record, which may be of yesterday. */
  if (!vm->vms->reconciling && !check_begin (vm, find_row (verb, options), error))
    return FALSE;
  if (verb != BANGER_VM_VERB_IMPORT_WORKSPACE)
    return TRUE;
  g_autoptr (BangerWorkspace) workspace = banger_workspace_open (options->path, error);
  return workspace != NULL;
}

static void
on_job_cancelled (GCancellable *of_job, VmOp *op)
{
  g_cancellable_cancel (op->cancellable);
}

VmOp *
vm_op_new (BangerVm *vm, const VmVerbRow *row, BangerJob *job)
{
  VmOp *op = g_new0 (VmOp, 1);
  op->vm = banger_vm_ref (vm);
  op->row = row;
  op->cancellable = g_cancellable_new ();
  op->begun_at = g_get_monotonic_time ();
  if (job) {
    op->job = banger_job_ref (job);
    op->caller.op_id = banger_job_op_id (job);
    op->caller.interactive = banger_job_interactive (job);
    op->job_cancel_id = g_signal_connect (banger_job_cancellable (job), "cancelled", G_CALLBACK (on_job_cancelled), op);
    if (g_cancellable_is_cancelled (banger_job_cancellable (job)))
      g_cancellable_cancel (op->cancellable);
  }
  return op;
}

static void
op_free (VmOp *op)
{
  if (op->job) {
    g_signal_handler_disconnect (banger_job_cancellable (op->job), op->job_cancel_id);
    banger_job_unref (op->job);
  }
  g_clear_object (&op->task);
  g_clear_error (&op->failure);
  g_object_unref (op->cancellable);
  g_free (op->path);
  banger_vm_unref (op->vm);
  g_free (op);
}

/* Gives the result away without touching the VM's state. */
static void
op_refuse (VmOp *op, GError *error)
{
  if (op->task)
    banger_task_return_later (g_steal_pointer (&op->task), error);
  else
    g_error_free (error);
  op_free (op);
}

void
vm_op_begin (VmOp *op)
{
  BangerVm *vm = op->vm;
  GError *error = NULL;
  gboolean internal = op->row->verb >= BANGER_N_VM_VERBS;
  if (!internal && !op->after_interrupt && !check_begin (vm, op->row, &error)) {
    op_refuse (op, error);
    return;
  }
  if (vm->op) { /* its end begins us */
    op->after_interrupt = TRUE;
    VmOp *running = vm->op;
    vm->queue = op;
    g_cancellable_cancel (running->cancellable);
    if (vm->op == running && running->on_interrupt)
      running->on_interrupt (running);
    return;
  }
  vm->op = op;
  op->row->run (op);
}

/* A VM that is gone is as stopped and as deleted as can be. */
static gboolean
is_reached (const BangerVm *vm, const VmVerbRow *row)
{
  if (vm->gone)
    return row->verb == BANGER_VM_VERB_DELETE || row->reached == BANGER_VM_STOPPED;
  return vm->record.state == (int)row->reached;
}

/* The one that waited: what it wanted may be reached already. */
static void
begin_queued (VmOp *op)
{
  GError *error = NULL;
  if (is_reached (op->vm, op->row)) {
    op->vm->op = op;
    vm_op_end (op, NULL);
  } else if (!check_begin (op->vm, op->row, &error)) {
    op_refuse (op, error);
  } else {
    vm_op_begin (op);
  }
}

void
vm_op_end (VmOp *op, GError *error)
{
  g_autoptr (BangerVm) vm = banger_vm_ref (op->vm);
  vm->op = NULL;
  if (error && op->row->verb < BANGER_N_VM_VERBS)
    g_prefix_error (&error, "cannot %s %s: ", op->row->word, vm->record.name);
  if (op->task) {
    banger_task_return_later (g_steal_pointer (&op->task), error);
  } else if (error) {
    vm_log (vm, op, LOG_WARNING, "%s", error->message);
    g_error_free (error);
  }
  op_free (op);
  VmOp *queued = g_steal_pointer (&vm->queue);
  if (!vm->gone && vm->vms && vm->died && vm->record.state == BANGER_VM_RUNNING) {
    vm->queue = queued;
    vm_op_begin (vm_op_new (vm, &vm_row_exit, NULL));
  } else if (queued) {
    begin_queued (queued);
  }
}

void
banger_vm_verb_async (BangerVm *vm, BangerVmVerb verb, const BangerVmVerbOptions *options, BangerJob *job,
                      GAsyncReadyCallback callback, gpointer user_data)
{
  VmOp *op = vm_op_new (vm, find_row (verb, options), job);
  op->task = g_task_new (NULL, NULL, callback, user_data);
  if (options) {
    op->options = *options;
    op->options.path = op->path = g_strdup (options->path);
  }
  if (vm->vms->reconciling && verb != BANGER_VM_VERB_CREATE)
    g_queue_push_tail (&vm->vms->held, op);
  else
    vm_op_begin (op);
}

gboolean
banger_vm_verb_finish (BangerVm *vm, GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

/* Create. */

static void
created (VmOp *op, GError *error)
{
  BangerVm *vm = op->vm;
  if (!error)
    vm_set_state (vm, op, BANGER_VM_STOPPED, "", &error);
  if (error)
    banger_vm_drop (vm);
  vm_op_end (op, error);
}

static void
on_keys (GObject *source, GAsyncResult *result, gpointer user_data)
{
  GError *error = NULL;
  banger_ssh_prepare_finish (result, &error);
  if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
    g_clear_error (&error);
    error = g_error_new (BANGER_ERROR, BANGER_ERROR_CANCELLED, "cancelled");
  }
  created (user_data, error);
}

static void
run_create (VmOp *op)
{
  banger_job_set_stage (op->job, "making keys");
  banger_ssh_prepare_async (op->vm->vms->ssh, op->vm->dir_path, op->cancellable, on_keys, op);
}

/* The others: parts one after the other. */

static void
deleted_after (VmOp *op, GError *error)
{
  if (op->failure && error) {
    vm_log (op->vm, op, LOG_WARNING, "%s", error->message);
    g_clear_error (&error);
  }
  vm_op_end (op, op->failure ? g_steal_pointer (&op->failure) : error);
}

/* An ephemeral VM does not outlive its run, and whoever waits for the run's end finds it gone. */
static void
ended (VmOp *op, GError *error)
{
  if (op->vm->record.ephemeral && op->vm->record.state == BANGER_VM_STOPPED) {
    op->failure = error;
    vm_delete_run (op, deleted_after);
    return;
  }
  vm_op_end (op, error);
}

static void
run_start (VmOp *op)
{
  vm_start_run (op, ended);
}

static void
run_stop (VmOp *op)
{
  vm_stop_run (op, ended);
}

static void
run_kill (VmOp *op)
{
  vm_kill_run (op, ended);
}

static void
run_exit (VmOp *op)
{
  vm_exited_run (op, ended);
}

static void
restart_stopped (VmOp *op, GError *error)
{
  if (!error && g_cancellable_is_cancelled (op->cancellable))
    error = g_error_new (BANGER_ERROR, BANGER_ERROR_CANCELLED, "cancelled when it was stopped");
  if (error)
    ended (op, error);
  else
    vm_start_run (op, ended);
}

static void
run_restart (VmOp *op)
{
  vm_stop_run (op, restart_stopped);
}

static void
delete_killed (VmOp *op, GError *error)
{
  if (error)
    vm_op_end (op, error);
  else
    vm_delete_run (op, vm_op_end);
}

static void
run_delete (VmOp *op)
{
  if (op->vm->record.state == BANGER_VM_STOPPED || op->vm->record.state == BANGER_VM_DELETING)
    vm_delete_run (op, vm_op_end);
  else
    vm_kill_run (op, delete_killed);
}

static void
on_imported (GObject *source, GAsyncResult *result, gpointer user_data)
{
  VmOp *op = user_data;
  GError *error = NULL;
  gssize files = banger_workspace_send_finish (result, &error);
  g_clear_pointer ((BangerJobProgress **)&op->part, banger_job_progress_free);
  if (error && op->vm->died) {
    g_clear_error (&error);
    error = g_error_new (BANGER_ERROR, BANGER_ERROR_GUEST_FAILED, "the VM ended meanwhile");
  }
  if (!error)
    vm_log (op->vm, op, LOG_INFO, "workspace %s imported, %" G_GSSIZE_FORMAT " files", op->path, files);
  vm_op_end (op, error);
}

static void
run_import (VmOp *op)
{
  BangerVm *vm = op->vm;
  banger_job_set_stage (op->job, "copying workspace");
  op->part = banger_job_progress_new (op->job);
  g_autoptr (GPtrArray) argv = banger_ssh_argv (vm->vms->ssh, vm->alias, vm->record.address);
  g_ptr_array_add (argv, NULL);
  banger_workspace_send_async (op->path, (const char *const *)argv->pdata, banger_job_progress_report, op->part,
                               op->cancellable, on_imported, op);
}

/* The table. */

void
banger_vm_source_clear (BangerVmSource *source)
{
  g_clear_pointer (&source->id, g_free);
  g_clear_pointer (&source->name, g_free);
  banger_clear_fd (&source->dir_fd);
}

static void
table_free_vm (gpointer data)
{
  banger_vm_unref (data);
}

int
vm_runtime_fd (BangerVms *vms, GError **error)
{
  if (vms->runtime_fd < 0)
    vms->runtime_fd = open (vms->runtime_path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (vms->runtime_fd < 0)
    banger_set_error_errno (error, BANGER_ERROR_HELPER_UNAVAILABLE, errno,
                            "cannot open %s, which the root helper makes when it starts", vms->runtime_path);
  return vms->runtime_fd;
}

static gboolean
open_dirs (BangerVms *vms, GError **error)
{
  vms->vms_fd = open (vms->vms_path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (vms->vms_fd < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot open %s", vms->vms_path);
  return TRUE;
}

/* Only what is wrong with the record itself sets it aside: a lack of descriptors, say, passes. */
static gboolean
is_unreadable (const GError *why)
{
  return g_error_matches (why, BANGER_ERROR, BANGER_ERROR_STATE_CORRUPT)
         || g_error_matches (why, BANGER_ERROR, BANGER_ERROR_INVALID_NAME)
         || g_error_matches (why, BANGER_ERROR, BANGER_ERROR_UNSAFE_FILE);
}

static void
load_failed (BangerVms *vms, const char *id, gboolean missing, const GError *why)
{
  g_autoptr (GError) error = NULL;
  if (missing) { /* a deletion or an addition that did not get far: see banger_record_remove() */
    if (!banger_record_remove (vms->vms_fd, id, &error))
      banger_log (LOG_ERR, BANGER_FIELDS (BANGER_FIELD_VM, id), "cannot remove the rest of a VM: %s", error->message);
    return;
  }
  if (!is_unreadable (why)) {
    banger_log (LOG_ERR, BANGER_FIELDS (BANGER_FIELD_VM, id), "a VM is left out until the next start: %s",
                why->message);
    return;
  }
  g_autofree char *aside = banger_record_set_aside (vms->vms_fd, id, &error);
  if (aside)
    vms->observer->set_aside (aside, why, vms->user_data);
  else
    banger_log (LOG_ERR, BANGER_FIELDS (BANGER_FIELD_VM, id), "cannot set a VM aside: %s", error->message);
}

static void
load_one (BangerVms *vms, const char *id)
{
  g_autoptr (BangerVm) vm = vm_new (vms, id);
  g_autoptr (GError) error = NULL;
  gboolean missing = FALSE;
  vm->dir_fd = banger_record_open_dir (vms->vms_fd, id, &error);
  if (vm->dir_fd < 0 || !banger_record_load (vm->dir_fd, "vm", record_fields, &vm->record, &missing, &error)
      || !banger_name_check (vm->record.name, "VM name", &error))
  {
    load_failed (vms, id, missing, error);
    return;
  }
  vm->found = TRUE;
  record_fill (&vm->record);
  record_copy (&vm->announced, &vm->record);
  g_hash_table_insert (vms->table, vm->record.id, banger_vm_ref (vm));
}

BangerVms *
banger_vms_new (const BangerInstall *install, BangerHelper *helper, const BangerVmSources *sources,
                const BangerVmObserver *observer, gpointer user_data, GError **error)
{
  g_autoptr (BangerVms) vms = g_new0 (BangerVms, 1);
  vms->install = install;
  vms->helper = helper;
  vms->sources = sources;
  vms->observer = observer;
  vms->user_data = user_data;
  vms->vms_fd = vms->runtime_fd = -1;
  g_autofree char *uid = g_strdup_printf ("%u", install->owner_uid);
  vms->vms_path = g_build_filename (install->state_dir, uid, "vms", NULL);
  vms->runtime_path = g_build_filename (install->runtime_dir, uid, NULL);
  vms->ssh = banger_ssh_paths_new (g_get_user_config_dir ());
  vms->table = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, table_free_vm);
  g_queue_init (&vms->held);
  if (!banger_subnet_parse (install->bridge_address, &vms->subnet, error) || !open_dirs (vms, error))
    return NULL;
  g_auto (GStrv) ids = banger_record_list (vms->vms_fd, error);
  if (!ids)
    return NULL;
  for (char **id = ids; *id; id++)
    load_one (vms, *id);
  return g_steal_pointer (&vms);
}

void
banger_vms_free (BangerVms *vms)
{
  if (!vms)
    return;
  if (vms->helper_notify)
    banger_helper_remove_notify (vms->helper, vms->helper_notify);
  g_queue_clear_full (&vms->held, (GDestroyNotify)op_free);
  /* Whoever still holds a VM has an empty shell: no watch, no agent. */
  GHashTableIter iter;
  BangerVm *vm;
  g_hash_table_iter_init (&iter, vms->table);
  while (g_hash_table_iter_next (&iter, NULL, (gpointer *)&vm)) {
    vm_drop_agent (vm);
    vm_unwatch (vm);
  }
  g_hash_table_unref (vms->table);
  banger_ssh_paths_free (vms->ssh);
  banger_clear_fd (&vms->vms_fd);
  banger_clear_fd (&vms->runtime_fd);
  g_free (vms->vms_path);
  g_free (vms->runtime_path);
  g_free (vms);
}

BangerVm *
banger_vms_find_id (BangerVms *vms, const char *id)
{
  return g_hash_table_lookup (vms->table, id);
}

static BangerVm *
find_by_name (BangerVms *vms, const char *name)
{
  GHashTableIter iter;
  BangerVm *vm;
  g_hash_table_iter_init (&iter, vms->table);
  while (g_hash_table_iter_next (&iter, NULL, (gpointer *)&vm))
    if (g_str_equal (vm->record.name, name))
      return vm;
  return NULL;
}

BangerVm *
banger_vms_find (BangerVms *vms, const char *name, GError **error)
{
  BangerVm *vm = find_by_name (vms, name);
  if (!vm)
    vm = banger_vms_find_id (vms, name);
  if (vm)
    return vm;
  g_autofree char *shown = banger_log_escape (name, 64);
  banger_set_error (error, BANGER_ERROR_NO_SUCH_VM, "no VM is called '%s'", shown);
  return NULL;
}

static int
compare_age (gconstpointer a, gconstpointer b)
{
  const BangerVm *x = *(BangerVm *const *)a, *y = *(BangerVm *const *)b;
  if (x->record.created_at != y->record.created_at)
    return x->record.created_at < y->record.created_at ? -1 : 1;
  return strcmp (x->record.id, y->record.id);
}

GPtrArray *
banger_vms_list (BangerVms *vms)
{
  GPtrArray *list = g_ptr_array_new ();
  GHashTableIter iter;
  gpointer vm;
  g_hash_table_iter_init (&iter, vms->table);
  while (g_hash_table_iter_next (&iter, NULL, &vm))
    g_ptr_array_add (list, vm);
  g_ptr_array_sort (list, compare_age);
  return list;
}

/* Adding. */

static gboolean
check_number (const char *what, guint64 value, guint64 min, guint64 max, GError **error)
{
  if (value >= min && value <= max)
    return TRUE;
  return banger_set_error (error, BANGER_ERROR_INVALID_SIZE,
                           "%s is %" G_GUINT64_FORMAT ": it must be %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT, what,
                           value, min, max);
}

static gboolean
check_bytes (const char *what, guint64 value, guint64 min, guint64 max, GError **error)
{
  if (value >= min && value <= max)
    return TRUE;
  g_autofree char *shown = banger_size_format (value), *least = banger_size_format (min),
                  *most = banger_size_format (max);
  return banger_set_error (error, BANGER_ERROR_INVALID_SIZE, "%s is %" G_GUINT64_FORMAT " (%s): it must be %s to %s",
                           what, value, shown, least, most);
}

static gboolean
check_new_name (BangerVms *vms, const char *name, GError **error)
{
  if (!banger_name_check (name, "VM name", error))
    return FALSE;
  if (find_by_name (vms, name))
    return banger_set_error (error, BANGER_ERROR_VM_EXISTS, "a VM called '%s' exists: choose another name", name);
  if (g_hash_table_size (vms->table) >= vms->install->max_vms)
    return banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED,
                             "there are %u VMs, the limit is %" G_GUINT64_FORMAT ": delete one",
                             g_hash_table_size (vms->table), vms->install->max_vms);
  return TRUE;
}

static gboolean
give_address (BangerVms *vms, BangerVmRecord *record, GError **error)
{
  g_autoptr (GArray) taken = g_array_new (FALSE, FALSE, sizeof (guint32));
  GHashTableIter iter;
  BangerVm *vm;
  g_hash_table_iter_init (&iter, vms->table);
  while (g_hash_table_iter_next (&iter, NULL, (gpointer *)&vm)) {
    guint32 address = banger_address_parse (vm->record.address);
    g_array_append_val (taken, address);
  }
  guint32 address;
  if (!banger_subnet_allocate (&vms->subnet, (const guint32 *)(gpointer)taken->data, taken->len, &address, error))
    return FALSE;
  record->address = banger_address_format (address);
  return TRUE;
}

/* Two ids that would share a tap are never given. */
static char *
give_id (BangerVms *vms)
{
  for (;;) {
    g_autofree char *id = banger_id_new ();
    g_autofree char *tap = banger_tap_name (id);
    gboolean taken = FALSE;
    GHashTableIter iter;
    gpointer other;
    g_hash_table_iter_init (&iter, vms->table);
    while (!taken && g_hash_table_iter_next (&iter, &other, NULL)) {
      g_autofree char *other_tap = banger_tap_name (other);
      taken = g_str_equal (tap, other_tap);
    }
    if (!taken)
      return g_steal_pointer (&id);
  }
}

static gboolean
fill_spec (BangerVmRecord *record, const BangerVmSpec *spec, const BangerVmSource *image, GError **error)
{
  record->vcpus = spec->vcpus ? spec->vcpus : DEFAULT_VCPUS;
  record->memory_mib = spec->memory_mib ? spec->memory_mib : DEFAULT_MEMORY_MIB;
  guint64 bytes = spec->disk_bytes ? spec->disk_bytes : MAX (DEFAULT_DISK_BYTES, image->seed_bytes);
  record->nat = spec->nat;
  record->ephemeral = spec->ephemeral;
  if (!check_number ("vcpu", record->vcpus, 1, MAX_VCPUS, error)
      || !check_number ("memory-mib", record->memory_mib, MIN_MEMORY_MIB, MAX_MEMORY_MIB, error)
      || !check_bytes ("disk-bytes", bytes, MAX (MIN_DISK_BYTES, image->seed_bytes), MAX_DISK_BYTES, error))
    return FALSE;
  record->disk_bytes = (bytes + DISK_ALIGN - 1) / DISK_ALIGN * DISK_ALIGN;
  return TRUE;
}

static gboolean
fill_record (BangerVm *vm, const char *name, const BangerVmSpec *spec, GError **error)
{
  BangerVms *vms = vm->vms;
  BangerVmRecord *record = &vm->record;
  BangerVmSource image = { .dir_fd = -1 }, kernel = { .dir_fd = -1 };
  gboolean ok = vms->sources->find_image (spec->image, &image, vms->user_data, error)
                && vms->sources->find_kernel (spec->kernel, &kernel, vms->user_data, error)
                && fill_spec (record, spec, &image, error) && give_address (vms, record, error);
  record->name = g_strdup (name);
  record->state = BANGER_VM_CREATING;
  record->image = g_strdup (image.name);
  record->image_id = g_strdup (image.id);
  record->kernel = g_strdup (kernel.name);
  record->kernel_id = g_strdup (kernel.id);
  record->mac = banger_vm_mac (record->id);
  record->created_at = (guint64)g_get_real_time ();
  record_fill (record);
  banger_vm_source_clear (&image);
  banger_vm_source_clear (&kernel);
  return ok;
}

BangerVm *
banger_vms_add (BangerVms *vms, const char *name, const BangerVmSpec *spec, GError **error)
{
  if (!check_new_name (vms, name, error))
    return NULL;
  g_autofree char *id = give_id (vms);
  g_autoptr (BangerVm) vm = vm_new (vms, id);
  if (!fill_record (vm, name, spec, error))
    return NULL;
  vm->dir_fd = banger_record_make_dir (vms->vms_fd, id, error);
  if (vm->dir_fd < 0)
    return NULL;
  if (!banger_record_save (vm->dir_fd, "vm", record_fields, &vm->record, error)) {
    banger_record_remove (vms->vms_fd, id, NULL);
    return NULL;
  }
  record_copy (&vm->announced, &vm->record);
  g_hash_table_insert (vms->table, vm->record.id, banger_vm_ref (vm));
  vms->observer->added (id, vms->user_data);
  vm_log (vm, NULL, LOG_INFO, "added");
  return vm; /* the table's reference */
}

void
banger_vm_drop (BangerVm *vm)
{
  g_autoptr (GError) error = NULL;
  BangerVms *vms = vm->vms;
  g_autofree char *id = g_strdup (vm->record.id);
  banger_ssh_known_hosts_set (vms->ssh, vm->alias, NULL, NULL);
  if (!banger_record_remove (vms->vms_fd, id, &error))
    vm_log (vm, NULL, LOG_ERR, "cannot remove its folder: %s", error->message);
  vm_forget (vm);
}

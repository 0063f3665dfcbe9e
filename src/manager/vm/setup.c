/* What runs once in a new guest, because its owner said so: [[setup]] of config.toml, and the script that the VM was made
 * with.
 * Never runs anything on the host. What fails leaves a VM that runs, and is tried again by its next start. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/fd.h"
#include "common/guest-protocol.h"
#include "common/home-file.h"
#include "manager/core/later.h"
#include "manager/core/work.h"
#include "manager/vm/talk.h"

#define HOME_SECONDS 3 /* that the home folder may take to answer */
#define MAX_LEFT 4     /* workers that wait for a home folder which does not answer */
#define LOG_BYTES (1 << 20)
#define TAIL_BYTES 4096
#define LINE_BYTES 160
#define LINE_SECONDS 1 /* between two looks at it */
#define TAIL_LINES 12
#define DIGEST_DIGITS 16

/* One script: read by one thread, sent by another. */
typedef struct {
  char *label; /* as people know it */
  char *path;  /* below the home folder; NULL: its text is known */
  char *text;
  char *digest;
} Script;

/* All of them; a thread may have it longer than the start. */
typedef struct {
  const char *home;
  int dir_fd; /* of the VM */
  int log_fd;
  gsize logged;
  gint log_error; /* errno of the first write that failed, 0; atomic */
  GPtrArray *scripts;
  guint at;
  gboolean left;         /* nobody waits for its worker any more */
  GString *tail;         /* of what the one under way has said */
  GMutex lock;           /* of this: */
  char line[LINE_BYTES]; /* its last whole line, raw; "" */
} Scripts;

typedef struct {
  VmOp *op;
  Scripts *scripts;
  GCancellable *late;
  gulong cancel_id;
  gint64 begun_at;
  guint look_id; /* while one runs */
  GError *error;
} Setup;

static void
script_free (gpointer data)
{
  Script *script = data;
  g_free (script->label);
  g_free (script->path);
  g_free (script->text);
  g_free (script->digest);
  g_free (script);
}

static guint left; /* each has a thread of those that all workers share; in the main loop */

/* In the main loop, when the last thread that has it has ended. */
static void
scripts_clear (gpointer data)
{
  Scripts *scripts = data;
  left -= scripts->left;
  banger_clear_fd (&scripts->dir_fd);
  banger_clear_fd (&scripts->log_fd);
  g_ptr_array_unref (scripts->scripts);
  g_string_free (scripts->tail, TRUE);
  g_mutex_clear (&scripts->lock);
}

static void
scripts_unref (gpointer data)
{
  g_atomic_rc_box_release_full (data, scripts_clear);
}

/* @path, @text: (nullable): one of them. */
static void
add (GPtrArray *list, char *label, const char *path, const char *text)
{
  Script *script = g_new0 (Script, 1);
  script->label = label;
  script->path = g_strdup (path);
  script->text = g_strdup (text);
  g_ptr_array_add (list, script);
}

static GPtrArray *
scripts_of (const BangerVm *vm)
{
  const GPtrArray *entries = vm->vms->sources->config (vm->vms->user_data)->setup;
  GPtrArray *list = g_ptr_array_new_with_free_func (script_free);
  for (guint i = 0; i < entries->len; i++) {
    const BangerSetup *entry = entries->pdata[i];
    g_autofree char *shown = entry->script ? banger_log_escape (entry->script, PATH_MAX) : NULL;
    if (banger_config_fits (entry->images, vm->record.image))
      add (list,
           shown ? g_strdup_printf ("setup[%u], '~/%s'", entry->number, shown)
                 : g_strdup_printf ("setup[%u]", entry->number),
           entry->script, entry->run);
  }
  if (*vm->record.setup_script)
    add (list, g_strdup ("the setup of this VM"), NULL, vm->record.setup_script);
  return list;
}

static gboolean
is_due (const BangerVm *vm)
{
  return g_str_equal (vm->record.setup, BANGER_SETUP_PENDING) || g_str_equal (vm->record.setup, BANGER_SETUP_FAILED);
}

void
vm_setup_look (BangerVm *vm)
{
  if (!is_due (vm))
    return;
  g_autoptr (GPtrArray) list = vm->reserved ? NULL : scripts_of (vm);
  if (!list || list->len == 0)
    vm_set_string (&vm->record.setup, "");
}

gboolean
vm_setup_skip (VmOp *op)
{
  return op->went_on || !is_due (op->vm);
}

/* In threads. */

static gboolean
read_script (const Scripts *scripts, Script *script, GError **error)
{
  script->text = banger_home_read_text (scripts->home, script->path, BANGER_SETUP_MAX_BYTES, error);
  if (!script->text)
    g_prefix_error (error, "%s: ", script->label);
  return script->text != NULL;
}

static gboolean
read_scripts (gpointer data, GCancellable *cancellable, GError **error)
{
  Scripts *scripts = data;
  for (guint i = 0; i < scripts->scripts->len; i++) {
    Script *script = scripts->scripts->pdata[i];
    if (!script->text && !read_script (scripts, script, error))
      return FALSE;
    g_autofree char *digest = g_compute_checksum_for_string (G_CHECKSUM_SHA256, script->text, -1);
    script->digest = g_strndup (digest, DIGEST_DIGITS);
  }
  scripts->log_fd = openat (scripts->dir_fd, BANGER_FILE_VM_SETUP_LOG,
                            O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
  return scripts->log_fd >= 0
         || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make %s", BANGER_FILE_VM_SETUP_LOG);
}

/* The log is a convenience: what its disk does not take is not in it, and a warning. */
static void
write_log (Scripts *scripts, const char *bytes, gsize length)
{
  if (length > 0 && banger_write_all (scripts->log_fd, bytes, length) < 0)
    g_atomic_int_compare_and_exchange (&scripts->log_error, 0, errno);
}

/* The last one that is whole and has something in it. */
static void
keep_line (Scripts *scripts)
{
  const char *text = scripts->tail->str, *end = memrchr (text, '\n', scripts->tail->len), *begin = end;
  while (end && end > text && (begin = memrchr (text, '\n', (size_t)(end - text))) == end - 1)
    end = begin;
  begin = begin && begin < end ? begin + 1 : text;
  if (!end || end <= begin)
    return;
  g_mutex_lock (&scripts->lock);
  gsize length = MIN ((gsize)(end - begin), sizeof scripts->line - 1);
  memcpy (scripts->line, begin, length);
  scripts->line[length] = '\0';
  g_mutex_unlock (&scripts->lock);
}

static void
take_output (Scripts *scripts, const char *bytes, gsize length)
{
  static const char note[] = "\n[banger: what follows is cut away]\n";
  gsize room = LOG_BYTES - scripts->logged, part = MIN (room, length);
  write_log (scripts, bytes, part);
  if (part < length && room > 0)
    write_log (scripts, note, strlen (note));
  scripts->logged += part;
  g_string_append_len (scripts->tail, bytes, (gssize)length);
  if (scripts->tail->len > TAIL_BYTES)
    g_string_erase (scripts->tail, 0, (gssize)(scripts->tail->len - TAIL_BYTES));
}

static void
run_script (int in, int out, gint *moves, gpointer data)
{
  Scripts *scripts = data;
  const Script *script = scripts->scripts->pdata[scripts->at];
  g_autofree char *head = g_strdup_printf ("[banger: %s]\n", script->label);
  char buffer[16384];
  gsize length = strlen (script->text);
  take_output (scripts, head, strlen (head));
  g_string_truncate (scripts->tail, 0);
  for (gsize done = 0; done < length;) {
    ssize_t n = send (in, script->text + done, length - done, MSG_NOSIGNAL);
    if (n < 0 && errno != EINTR)
      break;
    done += n > 0 ? (gsize)n : 0;
  }
  shutdown (in, SHUT_WR);
  for (ssize_t n; (n = read (out, buffer, sizeof buffer)) > 0;) {
    take_output (scripts, buffer, (gsize)n);
    keep_line (scripts);
    g_atomic_int_inc (moves);
  }
}

/* In the main loop. */

/* What a guest wrote is shown as text, a line a second. */
static gboolean
on_look (gpointer data)
{
  const Setup *setup = data;
  Scripts *scripts = setup->scripts;
  const Script *script = scripts->scripts->pdata[scripts->at];
  g_mutex_lock (&scripts->lock);
  g_autofree char *line = banger_log_escape (g_strstrip (scripts->line), LINE_BYTES);
  g_mutex_unlock (&scripts->lock);
  g_autofree char *stage = g_strdup_printf ("running %s%s%s", script->label, *line ? ": " : "", line);
  banger_job_set_stage (&setup->op->job, stage);
  return G_SOURCE_CONTINUE;
}

static void
setup_free (Setup *setup)
{
  g_clear_handle_id (&setup->look_id, g_source_remove);
  if (setup->cancel_id)
    g_signal_handler_disconnect (setup->op->job.cancellable, setup->cancel_id);
  g_object_unref (setup->late);
  scripts_unref (setup->scripts);
  g_clear_error (&setup->error);
  g_free (setup);
}

static void
recorded (VmOp *op, GError *error)
{
  Setup *setup = op->data;
  GError *first = g_steal_pointer (&setup->error);
  op->data = NULL;
  setup_free (setup);
  if (first)
    g_clear_error (&error);
  vm_go_on (op, first ? first : error);
}

static void
record (Setup *setup, const char *word)
{
  VmOp *op = setup->op;
  BangerVmRecord *record = &op->vm->record;
  vm_set_string (&record->setup, word);
  if (!setup->error) {
    vm_set_string (&record->setup_script, "");
    g_clear_pointer (&record->setup_done, g_strfreev);
  }
  record->providing = FALSE;
  vm_set_state_then (op, (BangerVmState)record->state, "", recorded); /* nothing comes after it */
}

static void
warn_of_log (const Setup *setup)
{
  int number = g_atomic_int_get (&setup->scripts->log_error);
  g_autofree char *text = g_strdup_printf ("not all that the setup wrote is in its log: %s", g_strerror (number));
  if (number != 0)
    banger_job_warn (&setup->op->job, text);
}

/* @error: (transfer full) (nullable). */
static void
setup_end (Setup *setup, GError *error)
{
  VmOp *op = setup->op;
  setup->error = error;
  warn_of_log (setup);
  if (op->vm->died || g_cancellable_is_cancelled (op->job.cancellable)) {
    g_clear_error (&setup->error);
    setup->error = vm_why (op, banger_error_cancelled ());
    recorded (op, NULL);
  } else if (error) {
    g_autofree char *own = g_strdup (error->message);
    const char *name = op->vm->record.name;
    g_free (error->message);
    error->message = g_strdup_printf ("%s\nit goes on running; all of it: `banger vm logs --setup %s`%s", own, name,
                                      op->vm->record.ephemeral ? "" : "; its next start tries again");
    record (setup, BANGER_SETUP_FAILED);
  } else {
    record (setup, BANGER_SETUP_DONE);
  }
}

/* "\n  one\n  two" of what a guest has said. */
static char *
last_lines (const char *said)
{
  g_auto (GStrv) lines = g_strsplit_set (said, "\r\n", -1);
  g_autoptr (GString) text = g_string_new (NULL);
  guint taken = 0;
  for (guint i = g_strv_length (lines); i > 0 && taken < TAIL_LINES; i--) {
    g_autofree char *line = banger_log_escape (g_strchomp (lines[i - 1]), 200);
    if (!*line)
      continue;
    g_string_prepend (text, line);
    g_string_prepend (text, "\n  ");
    taken++;
  }
  return g_string_free (g_steal_pointer (&text), FALSE);
}

static void run_next (Setup *setup);

static void
remember (const Setup *setup, const Script *script)
{
  char ***done = &setup->op->vm->record.setup_done;
  g_autoptr (GStrvBuilder) builder = g_strv_builder_new ();
  if (*done)
    g_strv_builder_addv (builder, (const char **)*done);
  g_strv_builder_add (builder, script->digest);
  g_strfreev (*done);
  *done = g_strv_builder_end (builder);
}

static void
on_run (GObject *source, GAsyncResult *result, gpointer data)
{
  Setup *setup = data;
  VmOp *op = setup->op;
  Scripts *scripts = setup->scripts;
  const Script *script = scripts->scripts->pdata[scripts->at];
  GError *error = NULL;
  int status = vm_talk_finish (result, &error);
  g_clear_handle_id (&setup->look_id, g_source_remove);
  if (status == 0) {
    gint64 took = g_get_monotonic_time () - setup->begun_at;
    vm_log (op->vm, op, LOG_INFO, "%s: done in %.1f s", script->label, (double)took / G_USEC_PER_SEC);
    remember (setup, script);
    scripts->at++;
    run_next (setup);
    return;
  }
  if (status > 0) {
    g_autofree char *lines = last_lines (scripts->tail->str);
    banger_set_error (&error, BANGER_ERROR_GUEST_FAILED, "%s: it ended with status %d%s%s", script->label, status,
                      *lines ? ", its last lines:" : " and has said nothing", lines);
  } else {
    g_prefix_error (&error, "%s: ", script->label);
  }
  setup_end (setup, error);
}

/* A file of its own, as its first line may name a program; where it names none the shell does it. */
static void
run_one (Setup *setup, const Script *script)
{
  static const char text[] = "exec 2>&1; umask 077; f=/run/banger-setup.$$; " BANGER_GUEST_BINARY
                             " head \"$1\" >\"$f\" && chmod 700 \"$f\" || exit 126; umask 022; cd /root 2>/dev/null || "
                             "cd /; \"$f\" </dev/null; s=$?; rm -f \"$f\"; exit $s";
  static const VmTalk talk = { .talk = run_script };
  g_autofree char *length = g_strdup_printf ("%zu", strlen (script->text));
  const char *const words[] = { "sh", "-c", text, "sh", length, NULL };
  setup->begun_at = g_get_monotonic_time ();
  setup->scripts->line[0] = '\0'; /* no thread has it now */
  on_look (setup);
  setup->look_id = g_timeout_add_seconds (LINE_SECONDS, on_look, setup);
  vm_talk_async (setup->op->vm, &talk, words, g_atomic_rc_box_acquire (setup->scripts), scripts_unref,
                 setup->op->job.cancellable, on_run, setup);
}

static void
run_next (Setup *setup)
{
  Scripts *scripts = setup->scripts;
  char **done = setup->op->vm->record.setup_done;
  for (; scripts->at < scripts->scripts->len; scripts->at++) {
    const Script *script = scripts->scripts->pdata[scripts->at];
    if (!done || !g_strv_contains ((const char *const *)done, script->digest)) {
      run_one (setup, script);
      return;
    }
  }
  setup_end (setup, NULL);
}

static GError *
home_error (void)
{
  return g_error_new (BANGER_ERROR, BANGER_ERROR_TIMEOUT,
                      "the scripts of the setup cannot be read: the disk does not answer");
}

static void
on_read (GObject *source, GAsyncResult *result, gpointer data)
{
  Setup *setup = data;
  GError *error = NULL;
  setup->scripts->left = banger_work_is_left (result);
  left += setup->scripts->left;
  if (banger_work_finish (result, &error)) {
    run_next (setup);
    return;
  }
  if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
    g_clear_error (&error);
    error = home_error ();
  }
  setup_end (setup, error);
}

void
vm_setup (VmOp *op)
{
  static const BangerWork work = { .name = "setup", .run = read_scripts, .free = scripts_unref };
  Setup *setup = op->data = g_new0 (Setup, 1);
  Scripts *scripts = setup->scripts = g_atomic_rc_box_new0 (Scripts);
  setup->op = op;
  scripts->home = g_get_home_dir ();
  scripts->scripts = scripts_of (op->vm);
  scripts->dir_fd = fcntl (op->vm->dir_fd, F_DUPFD_CLOEXEC, 3);
  scripts->log_fd = -1;
  scripts->tail = g_string_new (NULL);
  g_mutex_init (&scripts->lock);
  setup->late = g_cancellable_new ();
  banger_job_set_stage (&op->job, "running the setup");
  banger_job_set_cancelable (&op->job, TRUE);
  setup->cancel_id = g_signal_connect_swapped (op->job.cancellable, "cancelled", G_CALLBACK (g_cancellable_cancel),
                                               setup->late);
  if (left >= MAX_LEFT) {
    setup_end (setup, home_error ());
    return;
  }
  banger_cancel_later (setup->late, HOME_SECONDS);
  banger_work_async (&work, g_atomic_rc_box_acquire (scripts), setup->late, on_read, setup);
}

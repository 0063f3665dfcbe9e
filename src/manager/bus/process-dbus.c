/* Exec: the call's arguments into a command, its streams into the reply; the Process objects; whose they are.
 * Never reads a byte of a stream but for Capture. */
#include "manager/bus/process-dbus.h"

#include <fcntl.h>
#include <glib-unix.h>
#include <stdlib.h>

#include "common/error.h"
#include "common/exec-words.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/names.h"
#include "common/options.h"
#include "manager/bus/property.h"
#include "manager/vm/vm.h"

#define BUS_NAME "org.freedesktop.DBus"

typedef struct {
  char **arguments; /* not an option */
  char **environment;
  char *cwd, *user;
  gboolean coded, terminal, input, image;
  guint32 rows, columns;
} ExecOptions;

static const BangerOption exec_options[] = {
  { "environment", BANGER_OPTION_STRV, G_STRUCT_OFFSET (ExecOptions, environment) },
  { "cwd", BANGER_OPTION_PATH, G_STRUCT_OFFSET (ExecOptions, cwd) },
  { "user", BANGER_OPTION_STRING, G_STRUCT_OFFSET (ExecOptions, user) },
  { "coded", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (ExecOptions, coded) },
  { "image-settings", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (ExecOptions, image) },
  { "terminal", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (ExecOptions, terminal) },
  { "rows", BANGER_OPTION_UINT32, G_STRUCT_OFFSET (ExecOptions, rows) },
  { "columns", BANGER_OPTION_UINT32, G_STRUCT_OFFSET (ExecOptions, columns) },
  { "stdin", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (ExecOptions, input) },
  { NULL },
};
static const BangerOption capture_options[] = {
  { "environment", BANGER_OPTION_STRV, G_STRUCT_OFFSET (ExecOptions, environment) },
  { "cwd", BANGER_OPTION_PATH, G_STRUCT_OFFSET (ExecOptions, cwd) },
  { "user", BANGER_OPTION_STRING, G_STRUCT_OFFSET (ExecOptions, user) },
  { "coded", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (ExecOptions, coded) },
  { "image-settings", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (ExecOptions, image) },
  { NULL },
};

static gboolean
read_words (BangerRequest *request, char ***ret, GError **error)
{
  char **words = NULL;
  int r = sd_bus_message_read_strv (request->message, &words);
  if (r < 0)
    return banger_set_error_errno (error, BANGER_ERROR_INVALID_ARGS, -r, "%s: the arguments cannot be read",
                                   request->method);
  *ret = g_strdupv (words ? words : (char *[]){ NULL });
  for (char **word = words; word && *word; word++)
    free (*word); /* sd-bus allocates with malloc(3) */
  free (words);
  return TRUE;
}

/* A string of the bus is UTF-8, a word of a command need not be. */
static gboolean
decode (char **words, GError **error)
{
  for (; words && *words; words++)
    if (banger_exec_word_decode (*words) < 0) {
      g_autofree char *shown = banger_log_escape (*words, 40);
      return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "'%s' is not a coded word", shown);
    }
  return TRUE;
}

static void
options_clear (ExecOptions *values)
{
  banger_options_clear (exec_options, values);
  g_strfreev (values->arguments);
}

static BangerVm *
find_vm (BangerRequest *request, gboolean by_name, GError **error)
{
  const char *name = NULL;
  if (!by_name)
    return banger_request_object (request, BANGER_OBJECT_VM);
  if (!banger_request_read (request, error, "s", &name))
    return NULL;
  return banger_vms_find (banger_objects_manager (request->objects)->vms, name, error);
}

static void
default_text (char **text, const char *of_image)
{
  if (!*text && *of_image != '\0')
    *text = g_strdup (of_image);
}

static void
replace_words (char ***words, char **with)
{
  g_strfreev (*words);
  *words = with;
}

/* What the caller says goes above it. */
static void
take_image_settings (const BangerImage *image, ExecOptions *values)
{
  g_autoptr (GStrvBuilder) pairs = g_strv_builder_new ();
  g_auto (GStrv) environment = banger_image_environment (image);
  g_strv_builder_addv (pairs, (const char **)environment);
  if (values->environment)
    g_strv_builder_addv (pairs, (const char **)values->environment);
  replace_words (&values->environment, g_strv_builder_end (pairs));
  default_text (&values->cwd, image->working_dir);
  default_text (&values->user, image->user);
  if (!*values->arguments)
    replace_words (&values->arguments, banger_image_command (image));
}

/* @request: kept if this returns %TRUE; @callback gets it. */
static gboolean
begin (BangerRequest *request, gboolean by_name, const BangerOption *options,
       void (*run) (BangerProcesses *, BangerVm *, const char *, const BangerExecSpec *, GAsyncReadyCallback, gpointer),
       GAsyncReadyCallback callback, GError **error)
{
  ExecOptions values = { .input = TRUE };
  BangerVm *vm = find_vm (request, by_name, error);
  gboolean ok = vm && read_words (request, &values.arguments, error)
                && banger_options_read (request->message, options, &values, error)
                && (!values.coded || (decode (values.arguments, error) && decode (values.environment, error)));
  const BangerImage *image = ok && values.image
                                 ? banger_manager_image_of (banger_objects_manager (request->objects), vm)
                                 : NULL;
  if (image)
    take_image_settings (image, &values);
  if (ok) {
    const BangerExecSpec spec = {
      .arguments = (const char *const *)values.arguments,
      .environment = (const char *const *)values.environment,
      .cwd = values.cwd,
      .user = values.user,
      .terminal = values.terminal,
      .rows = values.rows,
      .columns = values.columns,
      .no_stdin = !values.input,
    };
    run (banger_objects_manager (request->objects)->processes, vm, sd_bus_message_get_sender (request->message), &spec,
         callback, request);
  }
  options_clear (&values);
  return ok;
}

static void
on_started (GObject *source, GAsyncResult *result, gpointer data)
{
  BangerRequest *request = data;
  g_autoptr (GError) error = NULL;
  int fds[BANGER_EXEC_STREAMS] = { -1, -1, -1 };
  BangerProcess *process = banger_processes_start_finish (result, fds, &error);
  /* A reply has a descriptor for each. */
  for (int i = 0; i < BANGER_EXEC_STREAMS && process; i++)
    if (fds[i] < 0)
      fds[i] = open ("/dev/null", O_RDWR | O_CLOEXEC);
    else
      g_unix_set_fd_nonblocking (fds[i], FALSE, NULL);
  if (!process) {
    banger_request_fail (request, error);
  } else {
    g_autofree char *path = banger_objects_path (request->objects, BANGER_OBJECT_PROCESS, process->id);
    banger_request_reply (request, "hhho", fds[BANGER_EXEC_STDIN], fds[BANGER_EXEC_STDOUT], fds[BANGER_EXEC_STDERR],
                          path);
  }
  for (int i = 0; i < BANGER_EXEC_STREAMS; i++)
    banger_clear_fd (&fds[i]);
}

gboolean
banger_process_handle_exec (BangerRequest *request, gconstpointer by_name, GError **error)
{
  return begin (request, by_name != NULL, exec_options, banger_processes_start_async, on_started, error);
}

static void
on_captured (GObject *source, GAsyncResult *result, gpointer data)
{
  BangerRequest *request = data;
  g_autoptr (GError) error = NULL;
  g_autoptr (sd_bus_message) reply = NULL;
  const BangerCaptured *captured = banger_capture_finish (result, &error);
  int r = !captured ? -1 : sd_bus_message_new_method_return (request->message, &reply);
  if (r >= 0)
    r = sd_bus_message_append_array (reply, 'y', captured->out->data, captured->out->len);
  if (r >= 0)
    r = sd_bus_message_append_array (reply, 'y', captured->err->data, captured->err->len);
  if (r >= 0)
    r = sd_bus_message_append (reply, "i", captured->status);
  if (r < 0 && !error)
    banger_set_error_errno (&error, BANGER_ERROR_FAILED, -r, "cannot write the answer");
  if (error)
    banger_request_fail (request, error);
  else
    banger_request_reply_message (request, reply);
}

gboolean
banger_process_handle_capture (BangerRequest *request, gconstpointer by_name, GError **error)
{
  return begin (request, by_name != NULL, capture_options, banger_capture_async, on_captured, error);
}

static BangerExec *
find_running (BangerRequest *request, GError **error)
{
  BangerProcess *process = banger_request_object (request, BANGER_OBJECT_PROCESS);
  BangerExec *exec = process ? process->exec : NULL;
  if (!exec)
    banger_set_error (error, BANGER_ERROR_WRONG_STATE, "the command has ended");
  return exec;
}

static gboolean
handle_signal (BangerRequest *request, gconstpointer data, GError **error)
{
  guint32 number = 0;
  if (!banger_request_read (request, error, "u", &number) || !banger_request_no_options (request, error))
    return FALSE;
  BangerExec *exec = find_running (request, error);
  if (!exec || !banger_exec_signal (exec, number, error))
    return FALSE;
  banger_request_reply (request, "");
  return TRUE;
}

static gboolean
handle_resize (BangerRequest *request, gconstpointer data, GError **error)
{
  guint32 rows = 0, columns = 0;
  if (!banger_request_read (request, error, "uu", &rows, &columns) || !banger_request_no_options (request, error))
    return FALSE;
  BangerExec *exec = find_running (request, error);
  if (!exec || !banger_exec_resize (exec, rows, columns, error))
    return FALSE;
  banger_request_reply (request, "");
  return TRUE;
}

static int
append_vm (sd_bus_message *reply, BangerObjects *objects, gpointer data)
{
  const BangerProcess *process = data;
  g_autofree char *path = banger_objects_path (objects, BANGER_OBJECT_VM, process->vm);
  return sd_bus_message_append (reply, "o", path);
}

#define APPEND(function, append) BANGER_APPEND (function, const BangerProcess, process, append)
#define APPEND_TEXT(function, text) BANGER_APPEND_TEXT (function, const BangerProcess, process, text)
APPEND_TEXT (append_id, process->id)
APPEND_TEXT (append_client, process->client)
APPEND_TEXT (append_state, banger_process_state (process))
APPEND (append_exit_status, sd_bus_message_append (reply, "i", process->status))
APPEND (append_exit_signal, sd_bus_message_append (reply, "u", process->number))
APPEND_TEXT (append_error, process->error)

const BangerProperty banger_process_properties[] = {
  { "Id", "s", FALSE, append_id },
  { "VM", "o", FALSE, append_vm },
  { "Client", "s", FALSE, append_client },
  { "State", "s", TRUE, append_state },
  { "ExitStatus", "i", TRUE, append_exit_status },
  { "ExitSignal", "u", TRUE, append_exit_signal },
  { "Error", "s", TRUE, append_error },
  { NULL },
};

const BangerMember banger_process_members[] = {
  { "Signal", "ua{sv}", "", "number\0options\0", handle_signal, NULL },
  { "Resize", "uua{sv}", "", "rows\0columns\0options\0", handle_resize, NULL },
  { "Exited", "ius", "", "status\0signal\0error\0", NULL, NULL },
  { NULL },
};

void
banger_process_emit_exited (BangerObjects *objects, BangerProcess *process)
{
  g_autofree char *path = banger_objects_path (objects, BANGER_OBJECT_PROCESS, process->id);
  int r = sd_bus_emit_signal (banger_objects_bus (objects), path, BANGER_PROCESS_INTERFACE, "Exited", "ius",
                              process->status, process->number, process->error);
  if (r < 0)
    banger_log (LOG_WARNING, BANGER_FIELDS (BANGER_FIELD_OBJECT, path), "cannot send Exited of %s: %s", path,
                g_strerror (-r));
}

static int
on_client_gone (sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
  const char *name, *before, *after;
  if (banger_bus_is_from (message, BUS_NAME) && sd_bus_message_read (message, "sss", &name, &before, &after) >= 0
      && after[0] == '\0')
    banger_processes_client_gone (userdata, name);
  return 0;
}

/* Subscribed before any call is read: who leaves after its call is seen to leave. */
int
banger_process_follow_clients (BangerProcesses *processes, sd_bus *bus, sd_bus_slot **ret_slot)
{
  return sd_bus_add_match_async (
      bus, ret_slot, "type='signal',sender='" BUS_NAME "',interface='" BUS_NAME "',member='NameOwnerChanged',arg2=''",
      on_client_gone, NULL, processes);
}

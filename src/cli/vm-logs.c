/* vm logs: the console log or that of the setup, and what is added to it.
 * Called through the command table.
 * Never polls: inotify(7) tells of the file, the bus of the VM's state. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/objects.h"
#include "cli/terminal.h"
#include "common/bytes.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/names.h"

typedef struct {
  int fd;
  off_t at;
  gboolean stopped; /* the VM has ended or is gone */
  GString *rest;    /* for a terminal: not shown yet, the first bytes of a character; NULL for all else */
} Log;

/* A guest's words, to a terminal with no power over it, to all else as they are. */
static gboolean
show (Log *log, const char *data, size_t length, gboolean last)
{
  gsize used;
  if (!log->rest)
    return banger_write_all (STDOUT_FILENO, data, length) == 0;
  g_string_append_len (log->rest, data, (gssize)length);
  g_autofree char *shown = banger_terminal_escape (log->rest->str, log->rest->len, last ? NULL : &used);
  g_string_erase (log->rest, 0, last ? -1 : (gssize)used);
  return banger_write_all (STDOUT_FILENO, shown, strlen (shown)) == 0;
}

/* Prints from log->at to the end; from the beginning again if a new start has emptied the file. */
static gboolean
print_rest (Log *log, GError **error)
{
  char buffer[65536];
  struct stat info;
  if (fstat (log->fd, &info) == 0 && info.st_size < log->at)
    log->at = 0;
  for (;;) {
    ssize_t length = banger_read_at (log->fd, buffer, sizeof buffer, log->at);
    if (length < 0)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot read the console log"));
    if (length == 0)
      return TRUE;
    if (!show (log, buffer, (size_t)length, FALSE))
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot write to stdout"));
    log->at += length;
  }
}

static int
on_vm_changed (sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
  Log *log = userdata;
  if (sd_bus_message_skip (message, "s") < 0)
    return 0;
  g_autoptr (JsonObject) changed = banger_properties_read (message);
  if (changed && strcmp (banger_property_string (changed, "State"), "stopped") == 0)
    log->stopped = TRUE;
  return 0;
}

static int
on_objects_removed (sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
  ((Log *)userdata)->stopped = TRUE;
  return 0;
}

static gboolean
watch_vm (BangerClient *client, const char *path, Log *log, GError **error)
{
  g_autofree char *changed = g_strdup_printf ("type='signal',sender='%s',path='%s',member='PropertiesChanged',"
                                              "arg0='%s'",
                                              BANGER_MANAGER_BUS_NAME, path, BANGER_VM_INTERFACE);
  g_autofree char *removed = g_strdup_printf ("type='signal',sender='%s',path='%s',member='InterfacesRemoved',"
                                              "arg0path='%s'",
                                              BANGER_MANAGER_BUS_NAME, BANGER_MANAGER_PATH, path);
  int r = sd_bus_add_match (banger_client_bus (client), NULL, changed, on_vm_changed, log);
  if (r >= 0)
    r = sd_bus_add_match (banger_client_bus (client), NULL, removed, on_objects_removed, log);
  return r >= 0
         || banger_set_error_errno (error, BANGER_ERROR_FAILED, -r, _ ("cannot subscribe to the manager's signals"));
}

static gboolean
follow (BangerClient *client, const char *file, Log *log, GError **error)
{
  banger_autofd int inotify = inotify_init1 (IN_CLOEXEC | IN_NONBLOCK);
  if (inotify < 0 || inotify_add_watch (inotify, file, IN_MODIFY) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot watch %s"), file);
  for (;;) {
    gboolean last = log->stopped;
    if (!print_rest (log, error))
      return FALSE;
    if (last)
      return TRUE;
    BangerWoke woke = banger_client_wait (client, inotify, -1);
    char events[4096];
    while (read (inotify, events, sizeof events) > 0)
      continue;
    if (woke & BANGER_WOKE_CLOSED)
      return banger_set_error (error, BANGER_ERROR_FAILED, _ ("the session bus went away"));
  }
}

int
banger_vm_logs (const BangerInvocation *invocation, GError **error)
{
  const char *name = banger_invocation_argument (invocation, 0), *file;
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_PLAIN, error);
  g_autofree char *path = NULL;
  Log log = { .fd = -1 };
  if (!client)
    return -1;
  g_autoptr (JsonObject) vm = banger_objects_get (client, &banger_kind_vm, name, &path, error);
  if (!vm || !watch_vm (client, path, &log, error))
    return -1;
  g_autoptr (sd_bus_message) call = banger_client_message (client, path, BANGER_VM_INTERFACE, "OpenConsole");
  if (banger_invocation_flag (invocation, "setup"))
    sd_bus_message_append (call, "a{sv}", 1, "setup", "b", TRUE);
  else
    sd_bus_message_append (call, "a{sv}", 0);
  g_autoptr (sd_bus_message) reply = banger_client_call (client, call, 0, error);
  if (!reply)
    return -1;
  int fd;
  if (sd_bus_message_read (reply, "hs", &fd, &file) < 0)
    return banger_set_error (error, BANGER_ERROR_FAILED, _ ("the manager sent no console log")) - 1;

  banger_autofd int own = fcntl (fd, F_DUPFD_CLOEXEC, 3);
  log.fd = own;
  log.rest = isatty (STDOUT_FILENO) ? g_string_new (NULL) : NULL;
  log.stopped = log.stopped || strcmp (banger_property_string (vm, "State"), "stopped") == 0;
  gboolean fine = banger_invocation_flag (invocation, "follow") ? follow (client, file, &log, error)
                                                                : print_rest (&log, error);
  fine = fine && (!log.rest || show (&log, "", 0, TRUE));
  if (log.rest)
    g_string_free (log.rest, TRUE);
  return fine ? 0 : -1;
}

/* bangerd: the owner's daemon on the session bus.
 * Started by the bus (dbus/org.banger.Manager.service), by systemd --user, or by hand.
 * Never runs as root, never stops a VM when it ends. */
#include <errno.h>
#include <glib-unix.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>

#include "common/bus-source.h"
#include "common/error.h"
#include "common/log.h"
#include "common/names.h"
#include "common/std-fds.h"
#include "manager/bus/leave.h"
#include "manager/bus/manager-dbus.h"
#include "manager/image/mmdebstrap.h"
#include "manager/vm/vm.h"

#define JOBS_GRACE_MSEC 8000 /* below TimeoutStopSec of the unit; what is not undone by then the next start undoes */
#define JOBS_LOOK_MSEC 50
#define LOOK_MSEC 5000 /* that the name waits for what VMs do; who asks for it waits at the bus */

typedef struct {
  GMainLoop *loop;
  BangerManager *manager;
  sd_bus *bus;
  guint look_timeout;
  guint waited_msec;
  gboolean ending;
  int status;
} Daemon;

static gboolean
look_at_jobs (gpointer data)
{
  Daemon *daemon = data;
  guint running = banger_manager_end_jobs (daemon->manager);
  daemon->waited_msec += JOBS_LOOK_MSEC;
  if (running > 0 && daemon->waited_msec < JOBS_GRACE_MSEC)
    return G_SOURCE_CONTINUE;
  if (running > 0)
    banger_log (LOG_WARNING, NULL, "%u jobs did not end in time; the next start carries on or undoes them", running);
  g_main_loop_quit (daemon->loop);
  return G_SOURCE_REMOVE;
}

static void
end (Daemon *daemon, int status)
{
  if (daemon->ending)
    return;
  daemon->ending = TRUE;
  daemon->status = status;
  sd_notify (0, "STOPPING=1");
  if (banger_manager_end_jobs (daemon->manager) == 0)
    g_main_loop_quit (daemon->loop);
  else
    g_timeout_add (JOBS_LOOK_MSEC, look_at_jobs, daemon);
}

static gboolean
on_signal (gpointer data)
{
  banger_log (LOG_INFO, NULL, "asked to end; jobs under way are undone, running VMs stay");
  end (data, EXIT_SUCCESS);
  return G_SOURCE_CONTINUE;
}

static void
on_bus_closed (sd_bus *bus, int r, gpointer data)
{
  banger_log (LOG_NOTICE, NULL, "the session bus is gone (%s); running VMs stay", g_strerror (-r));
  end (data, EXIT_FAILURE); /* nobody asked for it: the unit starts us again, on the next bus */
}

static int
on_name (sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
  Daemon *daemon = userdata;
  guint32 answer = 0;
  const sd_bus_error *error = sd_bus_message_get_error (message);
  int r = error ? -sd_bus_message_get_errno (message) : sd_bus_message_read (message, "u", &answer);
  /* 1 is primary owner, 4 already owner: D-Bus specification, RequestName. */
  if (r < 0 || (answer != 1 && answer != 4)) {
    banger_log (LOG_ERR, NULL, "cannot own %s on the session bus: %s", BANGER_MANAGER_BUS_NAME,
                r < 0 ? g_strerror (-r) : "another bangerd has it");
    end (daemon, EXIT_FAILURE);
    return 0;
  }
  banger_log (LOG_INFO, NULL, "bangerd %s owns %s", BANGER_VERSION, BANGER_MANAGER_BUS_NAME);
  sd_notify (0, "READY=1");
  return 0;
}

/* Objects before the name, so that nobody meets a service without; and what they show held against the world before it,
 * so that nobody is told of yesterday's. */
static gboolean
ask_for_name (gpointer data)
{
  Daemon *daemon = data;
  daemon->look_timeout = 0;
  int r = sd_bus_request_name_async (daemon->bus, NULL, BANGER_MANAGER_BUS_NAME, 0, on_name, daemon);
  if (r < 0) {
    banger_log (LOG_ERR, NULL, "cannot ask for %s: %s", BANGER_MANAGER_BUS_NAME, g_strerror (-r));
    end (daemon, EXIT_FAILURE);
  }
  return G_SOURCE_REMOVE;
}

static gboolean
on_looked (gpointer data)
{
  Daemon *daemon = data;
  if (daemon->look_timeout == 0)
    return G_SOURCE_REMOVE;
  g_source_remove (daemon->look_timeout);
  return ask_for_name (daemon);
}

/* Returns the exit status; the unit starts nothing again after %EX_CONFIG and %EX_NOPERM. */
static int
run (Daemon *daemon, GError **error)
{
  g_autoptr (sd_bus) bus = NULL;
  g_autoptr (BangerInstall) install = banger_install_load (NULL, error);
  if (!install)
    return EX_CONFIG;
  g_autoptr (BangerManager) manager = banger_manager_new (g_steal_pointer (&install), error);
  if (!manager || !banger_manager_load (manager, error))
    return g_error_matches (*error, BANGER_ERROR, BANGER_ERROR_NOT_AUTHORIZED) ? EX_NOPERM : EXIT_FAILURE;
  daemon->manager = manager;
  GThread *sweeper = banger_mmdebstrap_sweep (); /* before anybody can ask for a new image */
  g_clear_pointer (&sweeper, g_thread_unref);
  int r = sd_bus_open_user_with_description (&bus, "session");
  if (r < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, -r, "cannot reach the session bus ($DBUS_SESSION_BUS_ADDRESS)");
    return EXIT_FAILURE;
  }
  g_autoptr (BangerManagerBus) served = banger_manager_bus_new (manager, bus, error);
  if (!served)
    return EXIT_FAILURE;
  GSource *source = banger_bus_source_attach (bus, on_bus_closed, daemon);
  daemon->bus = bus;
  daemon->look_timeout = g_timeout_add (LOOK_MSEC, ask_for_name, daemon);
  banger_manager_reconcile (manager, on_looked, daemon);
  g_main_loop_run (daemon->loop);
  banger_bus_source_detach (source);
  g_clear_pointer (&served, banger_manager_bus_free);
  g_clear_pointer (&manager, banger_manager_free); /* its records are written, and its lock is free for the next one */
  banger_leave_bus (bus);
  return daemon->status;
}

static gboolean
print_version (const char *option, const char *value, gpointer data, GError **error)
{
  printf ("bangerd %s\n", BANGER_VERSION);
  exit (EXIT_SUCCESS);
}

static gboolean
print_stages (const char *option, const char *value, gpointer data, GError **error)
{
  for (const char *const *stage = banger_vm_fault_stages (); *stage; stage++)
    printf ("%s\n", *stage);
  exit (EXIT_SUCCESS);
}

static gboolean
parse_arguments (int argc, char **argv, GError **error)
{
  static const GOptionEntry entries[] = {
    { "version", 0, G_OPTION_FLAG_NO_ARG, G_OPTION_ARG_CALLBACK, (gpointer)print_version, "Print the version", NULL },
    { "list-fault-stages", 0, G_OPTION_FLAG_NO_ARG | G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_CALLBACK,
      (gpointer)print_stages, "Print the stages at which $BANGER_FAULT can end a start", NULL },
    { NULL },
  };
  g_autoptr (GOptionContext) context = g_option_context_new (NULL);
  g_option_context_set_summary (context, "The owner's daemon of banger, org.banger.Manager on the session bus.");
  g_option_context_add_main_entries (context, entries, NULL);
  if (!g_option_context_parse (context, &argc, &argv, error))
    return FALSE;
  if (argc > 1)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "bangerd takes no argument \"%s\"", argv[1]);
  return TRUE;
}

int
main (int argc, char **argv)
{
  g_autoptr (GError) error = NULL;
  Daemon daemon = { .status = EXIT_SUCCESS };
  banger_std_fds_fill ();
  signal (SIGPIPE, SIG_IGN); /* whoever read our log may go */
  umask (0077);
  banger_std_fds_raise ();
  banger_log_init ("bangerd");
  if (!parse_arguments (argc, argv, &error)) {
    fprintf (stderr, "bangerd: %s\n", error->message);
    return 2;
  }
  daemon.loop = g_main_loop_new (NULL, FALSE);
  static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
  for (guint i = 0; i < G_N_ELEMENTS (signals); i++)
    g_unix_signal_add (signals[i], on_signal, &daemon);
  int status = run (&daemon, &error);
  if (error)
    banger_log (LOG_ERR, NULL, "%s", error->message);
  g_main_loop_unref (daemon.loop);
  return status;
}

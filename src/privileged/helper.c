/* The helper as a program: connection, dispatch, name, main loop.
 * Never answers before its folders and leases are in order. */
#include "privileged/helper.h"

#include <errno.h>
#include <glib-unix.h>
#include <signal.h>
#include <systemd/sd-daemon.h>

#include "common/bus-source.h"
#include "common/log.h"
#include "common/names.h"
#include "privileged/bridge.h"
#include "privileged/cow.h"
#include "privileged/dispatch.h"
#include "privileged/filter-watch.h"
#include "privileged/filter.h"
#include "privileged/forward.h"
#include "privileged/jail.h"
#include "privileged/resolver.h"
#include "privileged/snapshot.h"
#include "privileged/vmm.h"
#include "privileged/worker.h"

typedef struct {
  GMainLoop *loop;
  int status;
} Helper;

static void
on_closed (sd_bus *bus, int r, gpointer data)
{
  Helper *self = data;
  banger_log (LOG_ERR, NULL, "the system bus is gone: %s; running VMs stay", g_strerror (-r));
  self->status = 1;
  g_main_loop_quit (self->loop);
}

/* As without the bus: whoever starts the helper again makes both connections anew. */
static void
on_polkit_lost (gpointer data)
{
  Helper *self = data;
  banger_log (LOG_ERR, NULL, "the system bus closed polkit's connection; running VMs stay");
  self->status = 1;
  g_main_loop_quit (self->loop);
}

static gboolean
on_signal (gpointer data)
{
  Helper *self = data;
  g_main_loop_quit (self->loop);
  return G_SOURCE_CONTINUE;
}

/* A trusted bus would skip sd-bus's own privilege checks. sd_bus_open_system() makes an untrusted one, and
 * sd_bus_set_trusted(3) is refused once it is open: so it is checked. */
static int
connect_bus (sd_bus **ret_bus)
{
  g_autoptr (sd_bus) bus = NULL;
  int r = sd_bus_open_system (&bus);
  if (r >= 0 && sd_bus_is_trusted (bus) != 0)
    r = -EPERM;
  if (r >= 0)
    *ret_bus = g_steal_pointer (&bus);
  return r;
}

static gboolean
request_name (sd_bus *bus, GError **error)
{
  int r = sd_bus_request_name (bus, BANGER_PRIVILEGED_BUS_NAME, 0);
  if (r == -EEXIST)
    return banger_set_error (error, BANGER_ERROR_IN_USE, "another bangerd-root holds %s", BANGER_PRIVILEGED_BUS_NAME);
  return r >= 0
         || banger_set_error_errno (error, BANGER_ERROR_FAILED, -r,
                                    "cannot own %s; is the bus policy dbus/org.banger.Privileged.conf installed?",
                                    BANGER_PRIVILEGED_BUS_NAME);
}

static gboolean
serve (sd_bus *bus, const BangerRoot *root, Helper *self, GError **error)
{
  g_autoptr (BangerDispatch) dispatch = banger_dispatch_new (bus, root, on_polkit_lost, self, error);
  if (!dispatch)
    return FALSE;
  int r = banger_log_add_control (bus);
  if (r < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, -r, "cannot register LogControl1");
  if (!request_name (bus, error))
    return FALSE;
  banger_resolver_forget (bus);
  GSource *source = banger_bus_source_attach (bus, on_closed, self);
  sd_notify (0, "READY=1\nSTATUS=serving");
  banger_log (LOG_INFO, NULL, "serving %s for uid %u", BANGER_PRIVILEGED_BUS_NAME, root->install->owner_uid);
  g_main_loop_run (self->loop);
  sd_notify (0, "STOPPING=1");
  banger_worker_stop ();
  banger_resolver_drop ();
  banger_dispatch_drain (dispatch);
  banger_bus_source_detach (source);
  return TRUE;
}

int
banger_helper_run (const BangerRoot *root)
{
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  g_autoptr (GError) error = NULL;
  g_autoptr (sd_bus) bus = NULL;
  Helper self = { loop, 0 };
  guint term = g_unix_signal_add (SIGTERM, on_signal, &self), intr = g_unix_signal_add (SIGINT, on_signal, &self);
  int r = connect_bus (&bus);
  if (r < 0)
    banger_set_error_errno (&error, BANGER_ERROR_FAILED, -r, "cannot reach the system bus");
  else if (banger_vmm_recover (root, &error)) {
    banger_jail_sweep (root);
    banger_snapshot_thaw_all (root);
    banger_cow_sweep (root);
    banger_bridge_reap (root->install->bridge);
    /* What is lent is known before the tables are written. */
    if (banger_filter_watch_start (root, &error) && banger_forward_watch_start (root, &error)
        && banger_filter_start (&error))
    {
      banger_filter_restore (root);
      serve (bus, root, &self, &error);
    }
    banger_forward_watch_stop ();
    banger_filter_watch_stop ();
  }
  g_source_remove (term);
  g_source_remove (intr);
  if (!error)
    return self.status;
  banger_log (LOG_ERR, NULL, "%s", error->message);
  return 1;
}

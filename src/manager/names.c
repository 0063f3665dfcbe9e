/* Names of running VMs: who has one, the server that says so, and the host's resolver that is sent there.
 * Never lets the port go while questions are routed to it, if that can be helped. */
#include "manager/names.h"

#include <net/if.h>

#include "common/error.h"
#include "common/log.h"
#include "manager/net/dns.h"
#include "manager/peer/helper-answers.h"

#define LISTEN_FIRST_SECONDS 1 /* between attempts to get the port, and to have names routed */
#define LAST_SECONDS 60
#define END_USEC (2 * G_USEC_PER_SEC)

struct BangerNames {
  char *bridge;
  BangerHelper *helper;
  BangerZone *zone;
  BangerDns *dns; /* NULL: nobody listens */
  guint16 port;
  GError *unserved;
  guint listen_id, listen_seconds;

  /* Of the host's resolver. One call at a time. */
  GCancellable *cancellable;
  gboolean asking, clearing, again;
  gboolean routed; /* to @port, by the bridge that had @index */
  gboolean stale;  /* it may not be any more */
  guint index;
  GError *unrouted;
  guint route_id, route_seconds;
  gint64 ending_since; /* 0: it does not end */
};

static void route (BangerNames *names);

static void
wait_longer (guint *seconds)
{
  *seconds = CLAMP (*seconds * 2, LISTEN_FIRST_SECONDS, LAST_SECONDS);
}

static void serve (BangerNames *names);

static gboolean
on_listen_again (gpointer data)
{
  BangerNames *names = data;
  names->listen_id = 0;
  serve (names);
  return G_SOURCE_REMOVE;
}

static void
serve (BangerNames *names)
{
  g_autoptr (GError) error = NULL;
  g_clear_handle_id (&names->listen_id, g_source_remove);
  if (names->port == 0)
    return;
  names->dns = banger_dns_new (names->zone, names->port, &error);
  if (!names->dns) {
    wait_longer (&names->listen_seconds);
    names->listen_id = g_timeout_add_seconds (names->listen_seconds, on_listen_again, names);
    if (!names->unserved || !g_str_equal (names->unserved->message, error->message))
      banger_log (LOG_WARNING, NULL, "names of VMs are not served: %s", error->message);
  } else if (names->unserved)
    banger_log (LOG_NOTICE, NULL, "names of VMs are served on port %u", names->port);
  g_clear_error (&names->unserved);
  names->unserved = g_steal_pointer (&error);
  route (names);
}

static gboolean
on_route_again (gpointer data)
{
  BangerNames *names = data;
  names->route_id = 0;
  route (names);
  return G_SOURCE_REMOVE;
}

/* What systemd-resolved that does not run refuses is asked again when it does. */
static void
route_later (BangerNames *names, const GError *error)
{
  if (g_error_matches (error, BANGER_ERROR, BANGER_ERROR_NOT_SUPPORTED) || names->ending_since != 0)
    return;
  wait_longer (&names->route_seconds);
  names->route_id = g_timeout_add_seconds (names->route_seconds, on_route_again, names);
}

static void
on_routed (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GError) error = NULL;
  gboolean ok = banger_helper_finish (result, &error);
  if (g_cancellable_is_cancelled (g_task_get_cancellable (G_TASK (result)))) /* @data is gone */
    return;
  BangerNames *names = data;
  /* With either of these nothing is routed any more: a helper that starts sees to it. */
  gboolean gone = g_error_matches (error, BANGER_ERROR, BANGER_ERROR_NOT_SUPPORTED)
                  || g_error_matches (error, BANGER_ERROR, BANGER_ERROR_HELPER_UNAVAILABLE);
  names->asking = FALSE;
  names->routed = names->clearing ? !ok && !gone : ok;
  if (!ok && (!names->unrouted || !g_str_equal (names->unrouted->message, error->message)))
    banger_log (LOG_WARNING, NULL, "%s", error->message);
  else if (names->routed)
    banger_log (LOG_INFO, NULL, "names below " BANGER_ZONE_DOMAIN " are routed to port %u", names->port);
  g_clear_error (&names->unrouted);
  names->unrouted = g_steal_pointer (&error);
  if (ok)
    names->route_seconds = 0;
  if (names->again || ok)
    route (names);
  else
    route_later (names, names->unrouted);
}

static void
ask (BangerNames *names, gboolean clear)
{
  g_autofree char *server = g_strdup_printf ("127.0.0.1:%u", names->port);
  names->asking = TRUE;
  names->clearing = clear;
  if (clear)
    banger_helper_call (names->helper, NULL, "ClearResolver", names->cancellable, on_routed, names, names->bridge);
  else
    banger_helper_call (names->helper, NULL, "SyncResolver", names->cancellable, on_routed, names, names->bridge,
                        server);
}

/* Compares what is with what should be, and takes a step. */
static void
route (BangerNames *names)
{
  g_clear_handle_id (&names->route_id, g_source_remove);
  names->again = names->asking;
  if (names->asking)
    return;
  gboolean wanted = names->dns && banger_zone_size (names->zone) > 0 && names->ending_since == 0;
  guint index = wanted ? if_nametoindex (names->bridge) : 0;
  if (wanted && (!names->routed || names->stale || index != names->index)) {
    names->stale = FALSE;
    names->index = index;
    ask (names, FALSE);
  } else if (!wanted && names->routed)
    ask (names, TRUE);
}

BangerNames *
banger_names_new (const char *bridge, const BangerSubnet *subnet, BangerHelper *helper, guint16 port)
{
  BangerNames *names = g_new0 (BangerNames, 1);
  names->bridge = g_strdup (bridge);
  names->helper = helper;
  names->zone = banger_zone_new (subnet);
  names->port = port;
  names->cancellable = g_cancellable_new ();
  serve (names);
  return names;
}

void
banger_names_free (BangerNames *names)
{
  if (!names)
    return;
  g_cancellable_cancel (names->cancellable);
  g_object_unref (names->cancellable);
  g_clear_handle_id (&names->listen_id, g_source_remove);
  g_clear_handle_id (&names->route_id, g_source_remove);
  g_clear_pointer (&names->dns, banger_dns_free);
  banger_zone_free (names->zone);
  g_clear_error (&names->unserved);
  g_clear_error (&names->unrouted);
  g_free (names->bridge);
  g_free (names);
}

void
banger_names_put (BangerNames *names, const char *id, const char *name, const char *address)
{
  banger_zone_put (names->zone, id, name, banger_address_parse (address));
  route (names);
}

void
banger_names_drop (BangerNames *names, const char *id)
{
  banger_zone_drop (names->zone, id);
  route (names);
}

void
banger_names_set_port (BangerNames *names, guint16 port)
{
  if (names->port == port)
    return;
  g_clear_pointer (&names->dns, banger_dns_free);
  g_clear_error (&names->unserved);
  names->port = port;
  names->listen_seconds = 0;
  names->stale = TRUE;
  serve (names);
  route (names);
}

void
banger_names_route_again (BangerNames *names)
{
  names->stale = TRUE;
  names->route_seconds = 0;
  route (names);
}

gboolean
banger_names_end (BangerNames *names)
{
  if (names->ending_since == 0) {
    names->ending_since = g_get_monotonic_time ();
    route (names);
  }
  return names->asking && g_get_monotonic_time () - names->ending_since < END_USEC;
}

void
banger_names_status (BangerNames *names, BangerNamesStatus *ret)
{
  *ret = (BangerNamesStatus){ .port = names->port,
                              .unserved = names->unserved ? g_strdup (names->unserved->message) : NULL,
                              .taken = g_error_matches (names->unserved, BANGER_ERROR, BANGER_ERROR_IN_USE),
                              .routed = names->routed,
                              .unrouted = names->unrouted ? g_strdup (names->unrouted->message) : NULL,
                              .named = banger_zone_size (names->zone) };
}

void
banger_names_status_clear (BangerNamesStatus *status)
{
  g_clear_pointer (&status->unserved, g_free);
  g_clear_pointer (&status->unrouted, g_free);
}

/* The host resolver's way to the names of the guests.
 * Rows of the method table (methods.c) call these in order.
 * Never routes more than names below "vm", and never to another host. */
#include "privileged/resolver.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>

#include "common/folder.h"
#include "common/log.h"
#include "common/names.h"
#include "privileged/bridge.h"
#include "privileged/gate.h"
#include "privileged/netlink.h"

#define RESOLVED_NAME BANGER_RESOLVED_BUS_NAME
#define RESOLVED_PATH "/org/freedesktop/resolve1"
#define RESOLVED_INTERFACE "org.freedesktop.resolve1.Manager"
#define DOMAIN "vm"
#define CALL_USEC (5 * G_USEC_PER_SEC)

/* Until the caller clears it or leaves. */
typedef struct {
  int index;
  char *sender;
  sd_bus_slot *match, *asked;
} Watch;

static GHashTable *watches; /* index -> Watch; main loop only */

static void
watch_free (gpointer data)
{
  Watch *watch = data;
  sd_bus_slot_unref (watch->match);
  sd_bus_slot_unref (watch->asked);
  g_free (watch->sender);
  g_free (watch);
}

static void
unwatch (int index)
{
  if (watches)
    g_hash_table_remove (watches, GINT_TO_POINTER (index));
}

/* From prepare to finish. */
typedef struct {
  int index; /* of the bridge; 0: it is gone */
  BangerResolverAddress server;
  guint step;
  sd_bus_slot *slot;
  GError *failed; /* while what was set is reverted */
} Resolver;

static void
resolver_free (gpointer data)
{
  Resolver *self = data;
  sd_bus_slot_unref (self->slot);
  g_clear_error (&self->failed);
  g_free (self);
}

/* Whose sockets would hear what is sent there, proc_net(5): "sl local:port remote st queues timer retransmits uid". */
static gboolean
check_table (const char *path, const BangerResolverAddress *server, uid_t owner, gboolean *ret_heard, GError **error)
{
  static const char any6[] = "00000000000000000000000000000000";
  g_autofree char *text = NULL, *v4 = g_strdup_printf ("%08X", htonl (server->address));
  g_autofree char *mapped = g_strdup_printf ("0000000000000000FFFF0000%s", v4);
  const char *const names[] = { v4, "00000000", mapped, any6, NULL };
  g_autoptr (GError) why = NULL;
  if (!g_file_get_contents (path, &text, NULL, &why))
    return g_error_matches (why, G_FILE_ERROR, G_FILE_ERROR_NOENT) /* no IPv6 */
           || banger_set_error (error, BANGER_ERROR_FAILED, "%s", why->message);
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  for (char **line = lines; *line; line++) {
    char local[40];
    guint port, uid;
    if (sscanf (*line, " %*u: %39[0-9A-F]:%x %*[0-9A-F]:%*x %*x %*x:%*x %*x:%*x %*x %u", local, &port, &uid) != 3
        || port != server->port || !g_strv_contains (names, local))
      continue;
    *ret_heard = TRUE;
    if (uid != owner)
      return banger_set_error (error, BANGER_ERROR_ACCESS_DENIED,
                               "uid %u listens at the resolver's address, not uid %u, the owner", uid, owner);
  }
  return TRUE;
}

/* A local address is anyone's to take: the names of all users' questions go only to a socket of the owner's. */
static gboolean
check_listener (const BangerResolverAddress *server, uid_t owner, GError **error)
{
  gboolean heard = FALSE;
  return check_table ("/proc/net/udp", server, owner, &heard, error)
         && check_table ("/proc/net/udp6", server, owner, &heard, error)
         && (heard
             || banger_set_error (error, BANGER_ERROR_WRONG_STATE,
                                  "nothing listens at the resolver's address; start it first"));
}

static gboolean
find_bridge (const char *name, int *ret_index, struct in_addr *ret_address, GError **error)
{
  G_LOCK (banger_network);
  gboolean ok = banger_bridge_find (name, ret_index, ret_address, error);
  G_UNLOCK (banger_network);
  return ok;
}

gboolean
banger_resolver_prepare (BangerCall *call, GError **error)
{
  const char *bridge = call->strings[BANGER_ARG_BRIDGE], *text = call->strings[BANGER_ARG_RESOLVER];
  Resolver *self = g_new0 (Resolver, 1);
  struct in_addr address;
  call->stage = self;
  call->stage_free = resolver_free;
  if (!find_bridge (bridge, &self->index, &address, error))
    return FALSE;
  if (!text)
    return TRUE;
  if (self->index == 0)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "there is no bridge '%s'; make it first", bridge);
  return banger_gate_resolver (text, &address, &self->server, error)
         && check_listener (&self->server, call->owner, error);
}

gboolean
banger_resolver_finish (BangerCall *call, GError **error)
{
  const Resolver *self = call->stage;
  const char *bridge = call->strings[BANGER_ARG_BRIDGE];
  struct in_addr address;
  int now = 0;
  if (self->index == 0)
    return TRUE;
  return find_bridge (bridge, &now, &address, error)
         && (now == self->index
             || banger_set_error (error, BANGER_ERROR_WRONG_STATE, "bridge '%s' went away meanwhile", bridge));
}

static const struct {
  const char *name;
  BangerError code;
  const char *text;
} known_errors[] = {
  { SD_BUS_ERROR_SERVICE_UNKNOWN, BANGER_ERROR_NOT_SUPPORTED, "systemd-resolved does not run" },
  { SD_BUS_ERROR_NAME_HAS_NO_OWNER, BANGER_ERROR_NOT_SUPPORTED, "systemd-resolved does not run" },
  { SD_BUS_ERROR_UNKNOWN_METHOD, BANGER_ERROR_NOT_SUPPORTED, "this systemd-resolved is too old, or no such service" },
  { SD_BUS_ERROR_NO_REPLY, BANGER_ERROR_TIMEOUT, "systemd-resolved does not answer" },
  { SD_BUS_ERROR_TIMEOUT, BANGER_ERROR_TIMEOUT, "systemd-resolved does not answer" },
  { RESOLVED_NAME ".LinkBusy", BANGER_ERROR_IN_USE, "systemd-networkd manages the bridge; exempt it there" },
};

static GError *
explain (const sd_bus_error *remote)
{
  GError *error = NULL;
  for (size_t i = 0; i < G_N_ELEMENTS (known_errors); i++)
    if (sd_bus_error_has_name (remote, known_errors[i].name)) {
      banger_set_error (&error, known_errors[i].code, "names of VMs cannot be routed: %s", known_errors[i].text);
      return error;
    }
  g_autofree char *shown = banger_log_escape (remote->message ? remote->message : remote->name, 200);
  banger_set_error (&error, BANGER_ERROR_FAILED, "systemd-resolved refuses: %s", shown);
  return error;
}

static int
append_servers (sd_bus_message *m, const Resolver *self)
{
  const guint32 address = htonl (self->server.address);
  int r = sd_bus_message_open_container (m, 'a', "(iayqs)");
  if (r >= 0)
    r = sd_bus_message_open_container (m, 'r', "iayqs");
  if (r >= 0)
    r = sd_bus_message_append (m, "i", AF_INET);
  if (r >= 0)
    r = sd_bus_message_append_array (m, 'y', &address, sizeof address);
  if (r >= 0)
    r = sd_bus_message_append (m, "qs", self->server.port, "");
  if (r >= 0)
    r = sd_bus_message_close_container (m);
  return r < 0 ? r : sd_bus_message_close_container (m);
}

static int
append_domains (sd_bus_message *m, const Resolver *self)
{
  return sd_bus_message_append (m, "a(sb)", 1, DOMAIN, TRUE); /* routing only: "~vm" */
}

static int
append_default_route (sd_bus_message *m, const Resolver *self)
{
  return sd_bus_message_append (m, "b", FALSE);
}

static const struct {
  const char *method;
  int (*append) (sd_bus_message *m, const Resolver *self);
} steps[] = {
  { "SetLinkDNSEx", append_servers },
  { "SetLinkDomains", append_domains },
  { "SetLinkDefaultRoute", append_default_route },
};

/* A resolved that the administrator stopped is not started. */
static int
ask (BangerCall *call, const char *method, int (*append) (sd_bus_message *m, const Resolver *self),
     sd_bus_message_handler_t on_reply)
{
  Resolver *self = call->stage;
  g_autoptr (sd_bus_message) m = NULL;
  sd_bus *bus = banger_call_bus (call);
  self->slot = sd_bus_slot_unref (self->slot);
  int r = sd_bus_message_new_method_call (bus, &m, RESOLVED_NAME, RESOLVED_PATH, RESOLVED_INTERFACE, method);
  if (r >= 0)
    r = sd_bus_message_set_auto_start (m, FALSE);
  if (r >= 0)
    r = sd_bus_message_append (m, "i", self->index);
  if (r >= 0 && append)
    r = append (m, self);
  return r < 0 ? r : sd_bus_call_async (bus, &self->slot, m, on_reply, call, CALL_USEC);
}

static GError *
unsendable (int r)
{
  GError *error = NULL;
  banger_set_error_errno (&error, BANGER_ERROR_FAILED, -r, "systemd-resolved cannot be asked");
  return error;
}

static int
on_reverted (sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
  BangerCall *call = userdata;
  Resolver *self = call->stage;
  banger_call_resume (call, g_steal_pointer (&self->failed));
  return 0;
}

static void
revert (sd_bus *bus, int index)
{
  g_autoptr (sd_bus_message) m = NULL;
  int r = sd_bus_message_new_method_call (bus, &m, RESOLVED_NAME, RESOLVED_PATH, RESOLVED_INTERFACE, "RevertLink");
  if (r >= 0)
    r = sd_bus_message_set_auto_start (m, FALSE);
  if (r >= 0)
    r = sd_bus_message_append (m, "i", index);
  if (r >= 0)
    (void)sd_bus_send (bus, m, NULL);
}

static void
caller_left (sd_bus *bus, const Watch *watch)
{
  banger_log (LOG_NOTICE, NULL, "who had names of VMs routed has left the bus; they are not routed any more");
  revert (bus, watch->index);
  unwatch (watch->index);
}

static int
on_name_changed (sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
  const Watch *watch = userdata;
  const char *name = NULL, *owner = NULL;
  if (banger_bus_is_from (m, BANGER_BUS_DRIVER) && sd_bus_message_read (m, "sss", &name, NULL, &owner) >= 0
      && g_str_equal (name, watch->sender) && !*owner)
    caller_left (sd_bus_message_get_bus (m), watch);
  return 0;
}

/* It may have left before the match was there. */
static int
on_has_owner (sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
  int there = 0;
  if (sd_bus_message_is_method_error (reply, NULL) || sd_bus_message_read (reply, "b", &there) < 0 || !there)
    caller_left (sd_bus_message_get_bus (reply), userdata);
  return 0;
}

/* Once its socket is gone the address is anyone's: the routing goes with who asked for it. */
static int
watch_caller (BangerCall *call)
{
  const Resolver *self = call->stage;
  sd_bus *bus = banger_call_bus (call);
  Watch *watch = g_new0 (Watch, 1);
  watch->index = self->index;
  watch->sender = g_strdup (call->sender);
  if (!watches)
    watches = g_hash_table_new_full (NULL, NULL, NULL, watch_free);
  g_hash_table_insert (watches, GINT_TO_POINTER (self->index), watch);
  g_autofree char *rule = g_strdup_printf ("type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                                           "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='%s'",
                                           watch->sender);
  int r = sd_bus_add_match_async (bus, &watch->match, rule, on_name_changed, NULL, watch);
  if (r >= 0)
    r = sd_bus_call_method_async (bus, &watch->asked, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                  "org.freedesktop.DBus", "NameHasOwner", on_has_owner, watch, "s", watch->sender);
  return r;
}

void
banger_resolver_forget (sd_bus *bus)
{
  banger_autofolder DIR *dir = banger_folder_open (AT_FDCWD, "/sys/class/net");
  for (const struct dirent *entry; (entry = banger_folder_next (dir));) {
    const char *name = entry->d_name;
    g_autofree char *path = g_strdup_printf ("/sys/class/net/%s/ifalias", name), *alias = NULL;
    if (g_str_has_prefix (name, "br-fc") && g_file_get_contents (path, &alias, NULL, NULL)
        && g_str_equal (g_strstrip (alias), "banger"))
      revert (bus, (int)if_nametoindex (name));
  }
  if (errno != 0)
    banger_log (LOG_WARNING, NULL, "cannot list the links whose names are resolved: %s", g_strerror (errno));
}

void
banger_resolver_drop (void)
{
  g_clear_pointer (&watches, g_hash_table_unref);
}

static void next_step (BangerCall *call);

static int
on_step (sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
  BangerCall *call = userdata;
  Resolver *self = call->stage;
  const sd_bus_error *remote = sd_bus_message_get_error (reply);
  if (!remote) {
    self->step++;
    next_step (call);
    return 0;
  }
  self->failed = explain (remote);
  unwatch (self->index);
  if (self->step == 0 || ask (call, "RevertLink", NULL, on_reverted) < 0)
    banger_call_resume (call, g_steal_pointer (&self->failed));
  return 0;
}

static void
next_step (BangerCall *call)
{
  Resolver *self = call->stage;
  if (self->step == G_N_ELEMENTS (steps)) {
    banger_call_resume (call, NULL);
    return;
  }
  int r = ask (call, steps[self->step].method, steps[self->step].append, on_step);
  if (r < 0)
    banger_call_resume (call, unsendable (r));
}

void
banger_resolver_sync (BangerCall *call)
{
  int r = watch_caller (call);
  if (r < 0)
    banger_call_resume (call, unsendable (r));
  else
    next_step (call);
}

static int
on_cleared (sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
  const sd_bus_error *remote = sd_bus_message_get_error (reply);
  banger_call_resume (userdata, remote ? explain (remote) : NULL);
  return 0;
}

void
banger_resolver_clear (BangerCall *call)
{
  const Resolver *self = call->stage;
  unwatch (self->index);
  int r = self->index == 0 ? 0 : ask (call, "RevertLink", NULL, on_cleared);
  if (r < 0 || self->index == 0)
    banger_call_resume (call, r < 0 ? unsendable (r) : NULL);
}

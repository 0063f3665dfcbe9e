/* The host resolver's way to the names of the guests.
 * Rows of the method table (methods.c) call these in order.
 * Never routes more than names below "vm", and never to another host. */
#include "privileged/resolver.h"

#include <arpa/inet.h>
#include <errno.h>

#include "common/log.h"
#include "privileged/bridge.h"
#include "privileged/gate.h"
#include "privileged/netlink.h"

#define RESOLVED_NAME "org.freedesktop.resolve1"
#define RESOLVED_PATH "/org/freedesktop/resolve1"
#define RESOLVED_INTERFACE "org.freedesktop.resolve1.Manager"
#define DOMAIN "vm"
#define CALL_USEC (5 * G_USEC_PER_SEC)

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
  return banger_gate_resolver (text, &address, &self->server, error);
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
  int r = self->index == 0 ? 0 : ask (call, "RevertLink", NULL, on_cleared);
  if (r < 0 || self->index == 0)
    banger_call_resume (call, r < 0 ? unsendable (r) : NULL);
}

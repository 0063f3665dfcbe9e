/* Links between guests, and ports of the host that are open to one: what is asked for, into the lease.
 * Runs in worker threads.
 * Never names one that has no lease of the same owner. */
#include "privileged/set-reach.h"

#include <net/if.h>
#include <string.h>

#include "privileged/filter.h"
#include "privileged/forward.h"
#include "privileged/gate.h"
#include "privileged/netlink.h"

/* On another bridge the host would answer no question for it. */
static gboolean
check_peer (const BangerRoot *root, const BangerLease *lease, const char *link, GError **error)
{
  if (!banger_gate_link (lease->vm, link, error))
    return FALSE;
  g_autoptr (BangerLease) peer = banger_lease_get (root, link, lease->uid, error);
  return peer
         && ((peer->guest_address && if_nametoindex (peer->tap) > 0 && g_str_equal (peer->bridge, lease->bridge))
             || banger_set_error (error, BANGER_ERROR_WRONG_STATE, "VM %s has no tap on %s; start it first", link,
                                  lease->bridge));
}

/* NULL: nothing. What is named twice is there once. */
static char *
join_links (const GPtrArray *links)
{
  g_autoptr (GPtrArray) once = g_ptr_array_new ();
  for (guint i = 0; i < links->len; i++)
    if (!g_ptr_array_find_with_equal_func (once, links->pdata[i], g_str_equal, NULL))
      g_ptr_array_add (once, links->pdata[i]);
  g_ptr_array_add (once, NULL);
  return once->len > 1 ? g_strjoinv (",", (char **)once->pdata) : NULL;
}

static char *
join_ports (const GArray *ports)
{
  GString *text = g_string_new (NULL);
  for (guint i = 0; i < ports->len; i++)
    g_string_append_printf (text, "%s%u", i > 0 ? "," : "", g_array_index (ports, guint16, i));
  return g_string_free (text, text->len == 0);
}

static gboolean
apply_locked (const BangerRoot *root, BangerLease *lease, GError **error)
{
  return banger_lease_save (root, lease, error) && banger_filter_add_locked (root, lease, error)
         && banger_forward_apply_locked (root, NULL, error);
}

gboolean
banger_reach_set (const BangerRoot *root, BangerLease *lease, const GPtrArray *links, const GArray *ports,
                  GError **error)
{
  if (!lease->guest_address || if_nametoindex (lease->tap) == 0)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "VM %s has no tap yet; create it first", lease->vm);
  for (guint i = 0; i < links->len; i++)
    if (!check_peer (root, lease, links->pdata[i], error))
      return FALSE;
  g_autofree char *new_links = join_links (links), *new_ports = join_ports (ports);
  if (g_strcmp0 (new_links, lease->links) == 0 && g_strcmp0 (new_ports, lease->ports) == 0)
    return TRUE;
  g_autofree char *old_links = lease->links, *old_ports = lease->ports;
  lease->links = g_steal_pointer (&new_links);
  lease->ports = g_steal_pointer (&new_ports);
  G_LOCK (banger_network);
  gboolean ok = apply_locked (root, lease, error);
  if (!ok) { /* then as it was, as far as that can be had: the tables are what the leases say */
    g_free (lease->links);
    g_free (lease->ports);
    lease->links = g_steal_pointer (&old_links);
    lease->ports = g_steal_pointer (&old_ports);
    (void)apply_locked (root, lease, NULL);
  }
  G_UNLOCK (banger_network);
  return ok;
}

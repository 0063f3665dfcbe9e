/* What guests may send, and their way out.
 * Called by methods.c, release.c and tap.c, in worker threads.
 * Never touches a rule of another table. */
#include "privileged/nat.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netlink/route/neighbour.h>
#include <nftables/libnftables.h>
#include <string.h>

#include "common/ids.h"
#include "common/log.h"
#include "common/state-file.h"
#include "privileged/gate.h"
#include "privileged/netlink.h"

#define FORWARD_FILE "/proc/sys/net/ipv4/ip_forward"
#define FORWARD_STATE "forwarding.json"

typedef struct nft_ctx Nft;
typedef struct nl_addr NetAddress;
typedef struct rtnl_neigh Neighbour;
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Nft, nft_ctx_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (NetAddress, nl_addr_put)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Neighbour, rtnl_neigh_put)

/* "br-fc", "br-fc-x": each bridge of @leases once. */
static char *
bridge_set (GPtrArray *leases)
{
  g_autoptr (GPtrArray) names = g_ptr_array_new ();
  for (guint i = 0; i < leases->len; i++) {
    const BangerLease *lease = leases->pdata[i];
    if (!g_ptr_array_find_with_equal_func (names, lease->bridge, g_str_equal, NULL))
      g_ptr_array_add (names, lease->bridge);
  }
  g_ptr_array_add (names, NULL);
  g_autofree char *joined = g_strjoinv ("\", \"", (char **)names->pdata);
  return g_strdup_printf ("{ \"%s\" }", joined);
}

static gboolean
has_nat (GPtrArray *leases)
{
  for (guint i = 0; i < leases->len; i++)
    if (((const BangerLease *)leases->pdata[i])->guest_address)
      return TRUE;
  return FALSE;
}

/* Every name below passed its gate; nothing of a caller's is pasted in as it came.
 * Family netdev, because inet lets pass unseen whatever is not IP yet: IP in two VLAN tags of id 0, which the bridge
 * takes off behind the filter. Without NAT, answers to the host are all that is let through. */
static void
append_ingress (GString *script, GPtrArray *leases)
{
  for (guint i = 0; i < leases->len; i++) {
    const BangerLease *lease = leases->pdata[i];
    g_string_append_printf (script,
                            "  chain guest_%.8s {\n"
                            "    type filter hook ingress device \"%s\" priority filter; policy drop;\n"
                            "    meta protocol arp accept\n",
                            lease->vm, lease->tap);
    if (lease->guest_address)
      g_string_append_printf (script, "    ip saddr %s accept\n", lease->guest_address);
    else
      g_string_append_printf (script, "    ip saddr %s ip daddr %.*s accept\n", lease->bridge_address,
                              (int)strcspn (lease->bridge_address, "/"), lease->bridge_address);
    g_string_append (script, "  }\n");
  }
}

static void
append_forward (GString *script, GPtrArray *leases, const char *bridges)
{
  g_string_append_printf (script,
                          "  chain forward {\n    type filter hook forward priority filter; policy accept;\n"
                          "    iifname %s oifname %s drop\n",
                          bridges, bridges);
  for (guint i = 0; i < leases->len; i++) {
    const BangerLease *lease = leases->pdata[i];
    if (!lease->guest_address)
      continue;
    g_string_append_printf (script,
                            "    iifname \"%s\" ip saddr %s accept comment \"%s\"\n"
                            "    oifname \"%s\" ip daddr %s ct state established,related accept comment \"%s\"\n",
                            lease->bridge, lease->guest_address, lease->tap, lease->bridge, lease->guest_address,
                            lease->tap);
  }
  g_string_append_printf (script, "    iifname %s drop\n    oifname %s drop\n  }\n", bridges, bridges);
}

static void
append_masquerade (GString *script, GPtrArray *leases, const char *bridges)
{
  g_string_append (script, "  chain postrouting {\n    type nat hook postrouting priority srcnat; policy accept;\n");
  for (guint i = 0; i < leases->len; i++) {
    const BangerLease *lease = leases->pdata[i];
    if (lease->guest_address)
      g_string_append_printf (script, "    ip saddr %s oifname != %s masquerade comment \"%s\"\n", lease->guest_address,
                              bridges, lease->tap);
  }
  g_string_append (script, "  }\n");
}

/* One transaction, nft(8): add so that delete cannot fail, delete, write anew. */
char *
banger_nat_script (GPtrArray *leases)
{
  GString *script = g_string_new ("add table netdev banger\ndelete table netdev banger\n"
                                  "add table inet banger\ndelete table inet banger\n");
  if (leases->len > 0) {
    g_autofree char *bridges = bridge_set (leases);
    g_string_append (script, "table netdev banger {\n");
    append_ingress (script, leases);
    g_string_append (script, "}\ntable inet banger {\n");
    append_forward (script, leases, bridges);
    if (has_nat (leases))
      append_masquerade (script, leases, bridges);
    g_string_append (script, "}\n");
  }
  return g_string_free (script, FALSE);
}

static gboolean
run (const char *script, GError **error)
{
  g_autoptr (Nft) nft = nft_ctx_new (NFT_CTX_DEFAULT);
  if (!nft)
    return banger_set_error (error, BANGER_ERROR_FAILED, "cannot start libnftables");
  nft_ctx_buffer_output (nft);
  nft_ctx_buffer_error (nft);
  if (nft_run_cmd_from_buffer (nft, script) == 0)
    return TRUE;
  g_autofree char *why = g_strdup (nft_ctx_get_error_buffer (nft));
  char *end = why ? strchr (why, '\n') : NULL;
  if (end)
    *end = '\0';
  return banger_set_error (error, BANGER_ERROR_FAILED, "cannot write the tables 'banger': %s", why ? why : "?");
}

/* Leases whose tap is there: a base chain needs its device. */
static GPtrArray *
tap_leases (const BangerRoot *root, GError **error)
{
  g_autoptr (GPtrArray) all = banger_lease_list (root, NULL, error);
  if (!all)
    return NULL;
  GPtrArray *chosen = g_ptr_array_new_with_free_func ((GDestroyNotify)banger_lease_free);
  for (guint i = 0; i < all->len; i++) {
    BangerLease *lease = all->pdata[i];
    if (lease->tap && if_nametoindex (lease->tap) > 0)
      g_ptr_array_add (chosen, g_ptr_array_steal_index_fast (all, i--));
  }
  return chosen;
}

static gboolean
write_forward (const char *value, GError **error)
{
  banger_autofd int fd = open (FORWARD_FILE, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write (fd, value, 1) != 1)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot write %s", FORWARD_FILE);
  return TRUE;
}

/* The state file stands for "banger turned it on": written before, removed after. */
static gboolean
enable_forward (const BangerRoot *root, GError **error)
{
  g_autofree char *now = NULL;
  if (!g_file_get_contents (FORWARD_FILE, &now, NULL, error))
    return FALSE;
  if (now[0] != '0')
    return TRUE;
  g_autoptr (JsonObject) object = json_object_new ();
  json_object_set_int_member (object, "previous", 0);
  return banger_state_write_json (root->runtime_fd, FORWARD_STATE, object, 0600, error) && write_forward ("1", error);
}

static gboolean
restore_forward (const BangerRoot *root, GError **error)
{
  gboolean missing = FALSE;
  g_autoptr (GError) why = NULL;
  g_autoptr (JsonObject) object = banger_state_read_json (root->runtime_fd, FORWARD_STATE, &missing, &why);
  if (missing)
    return TRUE;
  return write_forward ("0", error) && banger_state_remove (root->runtime_fd, FORWARD_STATE, error);
}

gboolean
banger_nat_apply_locked (const BangerRoot *root, GError **error)
{
  g_autoptr (GPtrArray) leases = tap_leases (root, error);
  if (!leases)
    return FALSE;
  g_autofree char *script = banger_nat_script (leases);
  if (has_nat (leases))
    return enable_forward (root, error) && run (script, error);
  return run (script, error) && restore_forward (root, error);
}

/* A permanent neighbour entry: no guest can answer for another's address. */
static gboolean
set_neighbour (const BangerLease *lease, gboolean add, GError **error)
{
  g_autofree char *mac = banger_vm_mac (lease->vm);
  g_autoptr (BangerNlSock) sock = banger_netlink_open (error);
  g_autoptr (Neighbour) entry = rtnl_neigh_alloc ();
  g_autoptr (NetAddress) link = NULL, address = NULL;
  int index = (int)if_nametoindex (lease->bridge);
  if (!sock)
    return FALSE;
  if (index == 0)
    return !add || banger_set_error (error, BANGER_ERROR_FAILED, "bridge '%s' is gone", lease->bridge);
  int r = nl_addr_parse (mac, AF_LLC, &link);
  if (r >= 0)
    r = nl_addr_parse (lease->guest_address, AF_INET, &address);
  if (r < 0)
    return banger_netlink_fail (r, error, "cannot enter the neighbour %s", lease->guest_address);
  rtnl_neigh_set_ifindex (entry, index);
  rtnl_neigh_set_dst (entry, address);
  rtnl_neigh_set_lladdr (entry, link);
  rtnl_neigh_set_state (entry, NUD_PERMANENT);
  r = add ? rtnl_neigh_add (sock, entry, NLM_F_CREATE | NLM_F_REPLACE) : rtnl_neigh_delete (sock, entry, 0);
  if (!add && r == -NLE_OBJ_NOTFOUND)
    r = 0;
  return r >= 0 || banger_netlink_fail (r, error, "neighbour %s on '%s'", lease->guest_address, lease->bridge);
}

static gboolean
check_free (const BangerRoot *root, const char *vm, const char *address, GError **error)
{
  g_autoptr (GPtrArray) leases = banger_lease_list (root, NULL, error);
  if (!leases)
    return FALSE;
  for (guint i = 0; i < leases->len; i++) {
    const BangerLease *lease = leases->pdata[i];
    if (!g_str_equal (lease->vm, vm) && g_strcmp0 (lease->guest_address, address) == 0)
      return banger_set_error (error, BANGER_ERROR_IN_USE, "address %s is VM %s's", address, lease->vm);
  }
  return TRUE;
}

static gboolean
ensure_locked (const BangerRoot *root, BangerLease *lease, const char *address, GError **error)
{
  if (!check_free (root, lease->vm, address, error))
    return FALSE;
  if (!lease->guest_address) {
    lease->guest_address = g_strdup (address);
    if (!banger_lease_save (root, lease, error))
      return FALSE;
  }
  return set_neighbour (lease, TRUE, error) && banger_nat_apply_locked (root, error);
}

gboolean
banger_nat_ensure (const BangerRoot *root, BangerLease *lease, const char *address, GError **error)
{
  if (!lease->tap || if_nametoindex (lease->tap) == 0)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "VM %s has no tap yet; create it first", lease->vm);
  if (!banger_gate_guest_address (address, lease->bridge_address, error))
    return FALSE;
  if (lease->guest_address && !g_str_equal (lease->guest_address, address))
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "VM %s has NAT for %s already; remove it first",
                             lease->vm, lease->guest_address);
  G_LOCK (banger_network);
  gboolean ok = ensure_locked (root, lease, address, error);
  G_UNLOCK (banger_network);
  return ok;
}

/* The lease forgets the address first, because the tables are what the leases say. A crash in between leaves a
 * rule too many until the next change; the release of the VM makes one, even if its lease names no address. */
static gboolean
remove_locked (const BangerRoot *root, BangerLease *lease, GError **error)
{
  g_autofree char *address = NULL;
  if (lease->guest_address && !set_neighbour (lease, FALSE, error))
    return FALSE;
  address = g_steal_pointer (&lease->guest_address);
  if (address && !banger_lease_save (root, lease, error)) {
    lease->guest_address = g_steal_pointer (&address);
    return FALSE;
  }
  if (banger_nat_apply_locked (root, error))
    return TRUE;
  if (address) {
    lease->guest_address = g_steal_pointer (&address);
    (void)banger_lease_save (root, lease, NULL);
  }
  return FALSE;
}

gboolean
banger_nat_remove (const BangerRoot *root, BangerLease *lease, GError **error)
{
  if (!lease->tap)
    return TRUE;
  G_LOCK (banger_network);
  gboolean ok = remove_locked (root, lease, error);
  G_UNLOCK (banger_network);
  return ok;
}

void
banger_nat_restore (const BangerRoot *root)
{
  g_autoptr (GError) error = NULL;
  G_LOCK (banger_network);
  g_autoptr (GPtrArray) leases = tap_leases (root, &error);
  if (leases && leases->len > 0)
    (void)banger_nat_apply_locked (root, &error);
  G_UNLOCK (banger_network);
  if (error)
    banger_log (LOG_ERR, NULL, "taps have no filter until the next change: %s", error->message);
}

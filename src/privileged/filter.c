/* The tables of banger in nftables.
 * Never touches a table of another name. */
#include "privileged/filter.h"

#include <net/if.h>
#include <nftables/libnftables.h>
#include <string.h>

#include "common/ids.h"
#include "common/log.h"
#include "privileged/bridge.h"
#include "privileged/netlink.h"
#include "privileged/reach.h"

/* Each table is there twice. The plain one outlives the helper. The other, NAME.held, is owned by the helper's netlink
 * socket: until the helper ends, nobody can change it, and `flush ruleset` passes it over. So no guest is without a
 * filter between the loss of the plain one and its return.
 *
 * Written once, with what belongs to one VM in sets. Of the bridge itself nothing is expected: its ports neither learn
 * nor flood, and no address is entered, so that it forwards nothing by itself. What the host sends to a guest is put
 * into its tap by the chain on the bridge's own egress; without the tables guests hear nothing. That a VMM gives its
 * tap another address, which the bridge then enters, is of no effect for others.
 *
 * Family bridge, because inet lets pass unseen whatever is not IP yet: IP in two VLAN tags of id 0, which the host
 * takes off. `ether type` is what stands in the frame, with its tags. */
static const char tables[]
    = "table netdev $TABLE {\n"
      "  $FLAGS\n"
      "  map ports { type ether_addr : iface_index; }\n"
      "  map addresses { type ipv4_addr : iface_index; }\n"
      "}\n"
      "table bridge $TABLE {\n"
      "  $FLAGS\n"
      "  set taps { type ifname; }\n"
      "  set guests { type ifname . ether_addr . ipv4_addr; }\n"
      "  set gateways { type ifname . ether_addr . ipv4_addr . ipv4_addr; }\n"
      "  chain prerouting {\n"
      "    type filter hook prerouting priority -350; policy accept;\n"
      "    iifname @taps goto guest\n"
      "  }\n"
      "  chain guest {\n"
      "    ether type ip meta pkttype host iifname . ether saddr . ip saddr @guests accept\n"
      "    ether type arp meta pkttype { host, broadcast } arp htype 1 arp ptype ip arp hlen 6 arp plen 4"
      " arp operation { request, reply } iifname . arp saddr ether . arp saddr ip @guests"
      " iifname . ether saddr . arp saddr ip . arp daddr ip @gateways accept\n"
      "    drop\n"
      "  }\n"
      /* Frames for 01:80:c2:00:00:0x, which the kernel hands to the host around prerouting. */
      "  chain input {\n"
      "    type filter hook input priority -350; policy accept;\n"
      "    iifname @taps ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 drop\n"
      "  }\n"
      "  chain forward {\n"
      "    type filter hook forward priority -350; policy accept;\n"
      "    iifname @taps drop\n"
      "    oifname @taps drop\n"
      "  }\n"
      "}\n"
      /* What reaches the host from the tap itself, not from the bridge. */
      "table arp $TABLE {\n"
      "  $FLAGS\n"
      "  set taps { type ifname; }\n"
      "  chain input {\n"
      "    type filter hook input priority -350; policy accept;\n"
      "    iifname @taps drop\n"
      "  }\n"
      "}\n"
      "table inet $TABLE {\n"
      "  $FLAGS\n"
      "  set taps { type ifname; }\n"
      "  set bridges { type ifname; }\n"
      "  set nat { type ifname . ipv4_addr; }\n"
      "  set own { type ipv4_addr . ipv4_addr . ifname; }\n"
      "  set lent { type iface_index; }\n"
      "  set links { type ifname . ipv4_addr . ipv4_addr; }\n"
      "  set hosts { type ifname . ipv4_addr . ipv4_addr . inet_service; }\n"
      "  set connections { type ipv4_addr; size 65535; flags dynamic; }\n"
      "  chain raw {\n"
      "    type filter hook prerouting priority -350; policy accept;\n"
      "    iifname @taps drop\n"
      "    iifname @bridges meta nfproto != ipv4 drop\n"
      "    iifname @bridges ip daddr { 127.0.0.0/8, 169.254.0.0/16 } drop\n"
      "  }\n"
      "  chain count {\n"
      "    type filter hook prerouting priority mangle; policy accept;\n"
      "    iifname @bridges ct state invalid drop\n"
      "    iifname @bridges ct state new add @connections { ip saddr ct count over $LIMIT } drop\n"
      "  }\n"
      "  chain input {\n"
      "    type filter hook input priority filter; policy accept;\n"
      "    iifname @bridges goto host\n"
      "  }\n"
      "  chain host {\n"
      /* An ICMP error is related to the conversation that it names, whoever sends it: it must be the guest's own. */
      "    ip saddr . ct reply ip saddr . iifname @own ct direction reply ct state { established, related } accept\n"
      "    icmp type echo-request accept\n"
      "    iifname . ip saddr . ip daddr . tcp dport @hosts accept\n"
      "    drop\n"
      "  }\n"
      "  chain forward {\n"
      "    type filter hook forward priority filter; policy accept;\n"
      "    iifname @bridges goto out\n"
      "    oifname @bridges goto in\n"
      "    iif @lent drop\n"
      "  }\n"
      "  chain out {\n"
      "    oifname @bridges goto between\n"
      "    iifname . ip saddr @nat accept\n"
      "    drop\n"
      "  }\n"
      /* Who began it must be linked to the other; who answers must be the one that was spoken to, also by an ICMP error. */
      "  chain between {\n"
      "    oifname . ip saddr . ip daddr @links ct direction original accept\n"
      "    ip saddr . ct reply ip saddr . iifname @own oifname . ct reply ip daddr . ct reply ip saddr @links"
      " ct direction reply ct state { established, related } accept\n"
      "    drop\n"
      "  }\n"
      "  chain in {\n"
      "    oifname . ip daddr @nat ct direction reply ct state { established, related } accept\n"
      "    drop\n"
      "  }\n"
      "  chain postrouting {\n"
      "    type nat hook postrouting priority srcnat; policy accept;\n"
      "    oifname @bridges accept\n"
      "    iifname . ip saddr @nat masquerade\n"
      "  }\n"
      "}\n";

/* What the host sends into a bridge: to a guest by its MAC, questions for the MAC to whose address it is. No redirect:
 * what goes from one guest to another goes by the host, whatever shorter way it sees. */
static const char bridge_chain[] = "table netdev $TABLE {\n"
                                   "  $FLAGS\n"
                                   "  chain $BRIDGE {\n"
                                   "    type filter hook egress device \"$BRIDGE\" priority filter; policy drop;\n"
                                   "    icmp type redirect drop\n"
                                   "    ether type arp arp operation request fwd to arp daddr ip map @addresses\n"
                                   "    fwd to ether daddr map @ports\n"
                                   "  }\n"
                                   "}\n"
                                   "add element inet $TABLE bridges { \"$BRIDGE\" }\n";

static const char *const families[] = { "netdev", "bridge", "arp", "inet" };

/* One element of a VM. @nat: only of one with NAT. */
static const struct {
  const char *family, *set;
  gboolean nat;
  const char *value;
} elements[] = {
  { "bridge", "taps", FALSE, "\"$TAP\"" },
  { "arp", "taps", FALSE, "\"$TAP\"" },
  { "inet", "taps", FALSE, "\"$TAP\"" },
  { "bridge", "guests", FALSE, "\"$TAP\" . $MAC . $GUEST" },
  { "bridge", "gateways", FALSE, "\"$TAP\" . $MAC . $GUEST . $GATEWAY" },
  { "netdev", "ports", FALSE, "$MAC : $INDEX" },
  { "netdev", "addresses", FALSE, "$GUEST : $INDEX" },
  { "inet", "own", FALSE, "$GUEST . $GUEST . \"$BRIDGE\"" },
  { "inet", "nat", TRUE, "\"$BRIDGE\" . $GUEST" },
};

#define N_ELEMENTS G_N_ELEMENTS (elements)

/* What the tables hold. All under the network lock. */
typedef struct {
  char *values[N_ELEMENTS]; /* NULL: not in the set */
  BangerReachGuest reach;
} Guest;

static struct nft_ctx *nft; /* one for the life of the process: its socket owns the tables NAME.held */
static GHashTable *guests;  /* VM -> Guest; NULL: there are no tables, or it is not known what they hold */
static GHashTable *reach;   /* set of elements, by reach.c: what depends on two guests, or on a list */
static gboolean unknown;
static GArray *lent;        /* of guint; NULL none */
static GHashTable *bridges; /* name -> ifindex */

char *
banger_filter_name (const BangerInstall *install)
{
  return g_strconcat ("banger", install->bridge ? install->bridge + strlen ("br-fc") : "", NULL);
}

gboolean
banger_filter_start (GError **error)
{
  if (!nft && (nft = nft_ctx_new (NFT_CTX_DEFAULT))) {
    nft_ctx_buffer_output (nft);
    nft_ctx_buffer_error (nft);
  }
  return nft ? TRUE : banger_set_error (error, BANGER_ERROR_FAILED, "cannot start libnftables");
}

static gboolean
run (const char *script, GError **error)
{
  if (!banger_filter_start (error))
    return FALSE;
  int r = nft_run_cmd_from_buffer (nft, script);
  g_autofree char *why = g_strdup (nft_ctx_get_error_buffer (nft)); /* reading it empties it */
  (void)nft_ctx_get_output_buffer (nft);
  if (r == 0)
    return TRUE;
  char *end = why ? strchr (why, '\n') : NULL;
  if (end)
    *end = '\0';
  return banger_set_error (error, BANGER_ERROR_FAILED, "cannot write the tables of banger in nftables: %s",
                           why ? why : "?");
}

typedef struct {
  const char *word, *value;
} Word;

/* Appends @text with each $WORD replaced. Every value passed its gate; nothing of a caller's is pasted in as it came.
 */
static void
append (GString *script, const char *text, const Word *words, size_t n)
{
  g_autoptr (GString) filled = g_string_new (text);
  for (size_t i = 0; i < n; i++)
    g_string_replace (filled, words[i].word, words[i].value, 0);
  g_string_append_len (script, filled->str, (gssize)filled->len);
}

static void
guest_free (gpointer data)
{
  Guest *guest = data;
  for (size_t i = 0; i < N_ELEMENTS; i++)
    g_free (guest->values[i]);
  banger_reach_guest_clear (&guest->reach);
  g_free (guest);
}

static Guest *
guest_new (const BangerLease *lease)
{
  Guest *guest = g_new0 (Guest, 1);
  g_autofree char *mac = banger_vm_mac (lease->vm);
  g_autofree char *gateway = g_strndup (lease->bridge_address, strcspn (lease->bridge_address, "/"));
  g_autofree char *index = g_strdup_printf ("%u", if_nametoindex (lease->tap));
  const Word words[] = { { "$TAP", lease->tap },  { "$MAC", mac },     { "$GUEST", lease->guest_address },
                         { "$GATEWAY", gateway }, { "$INDEX", index }, { "$BRIDGE", lease->bridge } };
  for (size_t i = 0; i < N_ELEMENTS; i++) {
    gboolean tap_alone = g_str_equal (elements[i].set, "taps");
    if ((!tap_alone && !lease->guest_address) || (elements[i].nat && !lease->nat))
      continue;
    g_autoptr (GString) value = g_string_new (NULL);
    append (value, elements[i].value, words, tap_alone ? 1 : G_N_ELEMENTS (words));
    guest->values[i] = g_string_free (g_steal_pointer (&value), FALSE);
  }
  banger_reach_guest_init (&guest->reach, lease, mac, gateway);
  return guest;
}

static const char *const suffixes[] = { "", ".held" };

static void
append_elements (GString *script, const BangerRoot *root, const char *verb, const Guest *guest, const Guest *except)
{
  g_autofree char *name = banger_filter_name (root->install);
  for (size_t twin = 0; twin < G_N_ELEMENTS (suffixes); twin++)
    for (size_t i = 0; guest && i < N_ELEMENTS; i++)
      if (guest->values[i] && (!except || g_strcmp0 (guest->values[i], except->values[i]) != 0))
        g_string_append_printf (script, "%s element %s %s%s %s { %s }\n", verb, elements[i].family, name,
                                suffixes[twin], elements[i].set, guest->values[i]);
}

/* Of the guests that there are. */
static GHashTable *
reach_now (void)
{
  g_autoptr (GHashTable) all = g_hash_table_new (g_str_hash, g_str_equal);
  GHashTableIter iter;
  gpointer vm, guest;
  g_hash_table_iter_init (&iter, guests);
  while (g_hash_table_iter_next (&iter, &vm, &guest))
    g_hash_table_insert (all, vm, &((Guest *)guest)->reach);
  return banger_reach_elements (all);
}

/* Every element of @of that is not in @but, "FAMILY SET { VALUE }" with $TABLE for the table. */
static void
append_reach (GString *script, const BangerRoot *root, const char *verb, GHashTable *of, GHashTable *but)
{
  g_autofree char *name = banger_filter_name (root->install);
  GHashTableIter iter;
  gpointer element;
  for (size_t twin = 0; of && twin < G_N_ELEMENTS (suffixes); twin++) {
    g_autofree char *table = g_strconcat (name, suffixes[twin], NULL);
    const Word words[] = { { "$TABLE", table } };
    g_hash_table_iter_init (&iter, of);
    while (g_hash_table_iter_next (&iter, &element, NULL)) {
      if (but && g_hash_table_contains (but, element))
        continue;
      g_string_append_printf (script, "%s element ", verb);
      append (script, element, words, G_N_ELEMENTS (words));
      g_string_append_c (script, '\n');
    }
  }
}

static void
append_tables (GString *script, const BangerRoot *root, gboolean make)
{
  g_autofree char *name = banger_filter_name (root->install);
  g_autofree char *limit = g_strdup_printf ("%" G_GUINT64_FORMAT, root->install->max_connections);
  for (size_t twin = 0; twin < G_N_ELEMENTS (suffixes); twin++) {
    const char *flags = twin == 0 ? "" : "flags owner;";
    g_autofree char *table = g_strconcat (name, suffixes[twin], NULL);
    for (size_t i = 0; i < G_N_ELEMENTS (families); i++) /* added so that the deletion cannot fail */
      g_string_append_printf (script, "table %s %s { %s }\ndelete table %s %s\n", families[i], table, flags,
                              families[i], table);
    if (!make)
      continue;
    const Word words[] = { { "$TABLE", table }, { "$FLAGS", flags }, { "$LIMIT", limit } };
    append (script, tables, words, G_N_ELEMENTS (words));
    GHashTableIter iter;
    gpointer bridge;
    g_hash_table_iter_init (&iter, bridges);
    while (g_hash_table_iter_next (&iter, &bridge, NULL)) {
      const Word own[] = { { "$TABLE", table }, { "$FLAGS", flags }, { "$BRIDGE", bridge } };
      append (script, bridge_chain, own, G_N_ELEMENTS (own));
    }
  }
}

static void
forget (void)
{
  g_clear_pointer (&guests, g_hash_table_unref);
  g_clear_pointer (&bridges, g_hash_table_unref);
  g_clear_pointer (&reach, g_hash_table_unref);
}

static void
append_lent (GString *script, const BangerRoot *root)
{
  g_autofree char *name = banger_filter_name (root->install);
  for (size_t twin = 0; twin < G_N_ELEMENTS (suffixes); twin++)
    for (guint i = 0; lent && i < lent->len; i++)
      g_string_append_printf (script, "add element inet %s%s lent { %u }\n", name, suffixes[twin],
                              g_array_index (lent, guint, i));
}

/* What the guest of a lease that cannot be read may send is not known any more: nothing. */
static void
shut (const char *vm)
{
  g_autofree char *tap = banger_tap_name (vm);
  const BangerLease lost = { .vm = (char *)vm, .tap = tap, .bridge = (char *)"", .bridge_address = (char *)"" };
  if (if_nametoindex (tap) > 0)
    g_hash_table_insert (guests, g_strdup (vm), guest_new (&lost));
}

/* Leases whose tap is there. */
static gboolean
collect (const BangerRoot *root, GError **error)
{
  g_autoptr (GPtrArray) broken = NULL;
  g_autoptr (GPtrArray) leases = banger_lease_list (root, &broken, error);
  if (!leases)
    return FALSE;
  forget ();
  guests = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, guest_free);
  bridges = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  for (guint i = 0; i < leases->len; i++) {
    const BangerLease *lease = leases->pdata[i];
    guint bridge = lease->tap ? if_nametoindex (lease->bridge) : 0;
    if (bridge == 0 || if_nametoindex (lease->tap) == 0) {
      unknown |= lease->tap != NULL; /* a helper that died between the two has left the elements */
      continue;
    }
    g_hash_table_insert (guests, g_strdup (lease->vm), guest_new (lease));
    g_hash_table_insert (bridges, g_strdup (lease->bridge), GUINT_TO_POINTER (bridge));
  }
  for (guint i = 0; i < broken->len; i++)
    shut (broken->pdata[i]);
  return TRUE;
}

gboolean
banger_filter_restore_locked (const BangerRoot *root, GError **error)
{
  g_autoptr (GString) script = g_string_new (NULL);
  if (!collect (root, error))
    return FALSE;
  gboolean any = g_hash_table_size (guests) > 0;
  append_tables (script, root, any);
  GHashTableIter iter;
  gpointer guest;
  g_hash_table_iter_init (&iter, guests);
  while (g_hash_table_iter_next (&iter, NULL, &guest))
    append_elements (script, root, "add", guest, NULL);
  reach = reach_now ();
  append_reach (script, root, "add", reach, NULL);
  if (any)
    append_lent (script, root);
  unknown = !run (script->str, error);
  if (unknown || !any)
    forget ();
  return !unknown;
}

/* @script, and what follows from the guests as they are now. If somebody changed the tables, they are written anew. */
static gboolean
change (GString *script, const BangerRoot *root, GError **error)
{
  GHashTable *now = reach_now ();
  append_reach (script, root, "delete", reach, now);
  append_reach (script, root, "add", now, reach);
  g_hash_table_unref (reach);
  reach = now;
  return script->len == 0 || run (script->str, NULL) || banger_filter_restore_locked (root, error);
}

gboolean
banger_filter_add_locked (const BangerRoot *root, const BangerLease *lease, GError **error)
{
  guint bridge = if_nametoindex (lease->bridge);
  if (!guests || GPOINTER_TO_UINT (g_hash_table_lookup (bridges, lease->bridge)) != bridge)
    return banger_filter_restore_locked (root, error);
  Guest *guest = guest_new (lease);
  const Guest *before = g_hash_table_lookup (guests, lease->vm);
  g_autoptr (GString) script = g_string_new (NULL);
  append_elements (script, root, "delete", before, guest);
  append_elements (script, root, "add", guest, before);
  g_hash_table_insert (guests, g_strdup (lease->vm), guest);
  return change (script, root, error);
}

gboolean
banger_filter_remove_locked (const BangerRoot *root, const char *vm, GError **error)
{
  const Guest *guest = guests ? g_hash_table_lookup (guests, vm) : NULL;
  g_autoptr (GString) script = g_string_new (NULL);
  if (!guest)
    return !unknown || banger_filter_restore_locked (root, error);
  if (g_hash_table_size (guests) == 1) {
    append_tables (script, root, FALSE);
    if (!run (script->str, error))
      return FALSE;
    forget ();
    return TRUE;
  }
  append_elements (script, root, "delete", guest, NULL);
  g_hash_table_remove (guests, vm);
  return change (script, root, error); /* the tap is gone */
}

gboolean
banger_filter_lend_locked (const BangerRoot *root, const GArray *links, GError **error)
{
  g_autofree char *name = banger_filter_name (root->install);
  g_autoptr (GString) script = g_string_new (NULL);
  if (guests && !unknown && lent && lent->len == links->len
      && (lent->len == 0 || memcmp (lent->data, links->data, lent->len * sizeof (guint)) == 0))
    return TRUE; /* every VM with NAT asks */
  g_clear_pointer (&lent, g_array_unref);
  lent = g_array_new (FALSE, FALSE, sizeof (guint));
  g_array_append_vals (lent, links->data, links->len);
  if (!guests)
    return !unknown || banger_filter_restore_locked (root, error);
  for (size_t twin = 0; twin < G_N_ELEMENTS (suffixes); twin++)
    g_string_append_printf (script, "flush set inet %s%s lent\n", name, suffixes[twin]);
  append_lent (script, root);
  return run (script->str, NULL) || banger_filter_restore_locked (root, error);
}

void
banger_filter_restore (const BangerRoot *root)
{
  g_autoptr (GError) error = NULL;
  G_LOCK (banger_network);
  if (collect (root, &error) && g_hash_table_size (guests) > 0)
    (void)banger_filter_restore_locked (root, &error);
  else
    forget ();
  G_UNLOCK (banger_network);
  if (error)
    banger_log (LOG_ERR, NULL, "taps have no filter until the next change: %s", error->message);
}

BangerFilterMend
banger_filter_mend (const BangerRoot *root, GError **error)
{
  BangerFilterMend done = BANGER_FILTER_NOT_USED;
  G_LOCK (banger_network);
  if (guests || unknown)
    done = banger_filter_restore_locked (root, error) ? BANGER_FILTER_MENDED : BANGER_FILTER_BROKEN;
  G_UNLOCK (banger_network);
  return done;
}

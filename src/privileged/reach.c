/* What guests may reach beside the outside, as elements of the filter's sets.
 * Never lets a guest reach what its lease does not name, or one of another owner. */
#include "privileged/reach.h"

void
banger_reach_guest_init (BangerReachGuest *guest, const BangerLease *lease, const char *mac, const char *gateway)
{
  if (!lease->guest_address)
    return;
  *guest = (BangerReachGuest){ .uid = lease->uid,
                               .bridge = g_strdup (lease->bridge),
                               .tap = g_strdup (lease->tap),
                               .mac = g_strdup (mac),
                               .address = g_strdup (lease->guest_address),
                               .gateway = g_strdup (gateway),
                               .links = lease->links ? g_strsplit (lease->links, ",", -1) : NULL,
                               .ports = lease->ports ? g_strsplit (lease->ports, ",", -1) : NULL };
}

void
banger_reach_guest_clear (BangerReachGuest *guest)
{
  char *strings[] = { guest->bridge, guest->tap, guest->mac, guest->address, guest->gateway };
  for (size_t i = 0; i < G_N_ELEMENTS (strings); i++)
    g_free (strings[i]);
  g_strfreev (guest->links);
  g_strfreev (guest->ports);
}

/* Both ask for each other's MAC, and the host answers. */
static void
add_question (GHashTable *elements, const BangerReachGuest *from, const BangerReachGuest *to)
{
  g_hash_table_add (elements, g_strdup_printf ("bridge $TABLE gateways { \"%s\" . %s . %s . %s }", from->tap, from->mac,
                                               from->address, to->address));
}

static void
add_link (GHashTable *elements, const BangerReachGuest *from, const BangerReachGuest *to)
{
  if (!to || !to->address || to->uid != from->uid || !g_str_equal (to->bridge, from->bridge))
    return;
  add_question (elements, from, to);
  add_question (elements, to, from);
  g_hash_table_add (
      elements, g_strdup_printf ("inet $TABLE links { \"%s\" . %s . %s }", from->bridge, from->address, to->address));
}

GHashTable *
banger_reach_elements (GHashTable *guests)
{
  GHashTable *elements = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init (&iter, guests);
  while (g_hash_table_iter_next (&iter, NULL, &value)) {
    const BangerReachGuest *guest = value;
    for (char **link = guest->links; link && *link; link++)
      add_link (elements, guest, g_hash_table_lookup (guests, *link));
    for (char **port = guest->ports; port && *port; port++)
      g_hash_table_add (elements, g_strdup_printf ("inet $TABLE hosts { \"%s\" . %s . %s . %s }", guest->bridge,
                                                   guest->address, guest->gateway, *port));
  }
  return elements;
}

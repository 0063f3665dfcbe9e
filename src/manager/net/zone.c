/* What is answered to questions for names of VMs.
 * Never answers for anything but the domain "vm" and the bridge's own addresses. */
#include "manager/net/zone.h"

#include <ldns/ldns.h>
#include <string.h>

#define HEADER 12
#define TTL "1" /* seconds: a VM may be gone, or there, at any time */
#define REVERSE "in-addr.arpa"
/* Primary, mailbox, serial, refresh, retry, expire, and how long "there is none" is true. */
#define SOA TTL " IN SOA localhost. nobody.invalid. 1 3600 600 86400 " TTL

typedef struct {
  char *name;
  guint32 address;
} Entry;

struct BangerZone {
  BangerSubnet subnet;
  ldns_rdf *domain;
  GHashTable *entries; /* id -> Entry */
};

static void
entry_free (gpointer data)
{
  Entry *entry = data;
  g_free (entry->name);
  g_free (entry);
}

BangerZone *
banger_zone_new (const BangerSubnet *subnet)
{
  BangerZone *zone = g_new0 (BangerZone, 1);
  zone->subnet = *subnet;
  zone->domain = ldns_dname_new_frm_str (BANGER_ZONE_DOMAIN ".");
  zone->entries = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, entry_free);
  return zone;
}

void
banger_zone_free (BangerZone *zone)
{
  if (!zone)
    return;
  ldns_rdf_deep_free (zone->domain);
  g_hash_table_unref (zone->entries);
  g_free (zone);
}

void
banger_zone_put (BangerZone *zone, const char *id, const char *name, guint32 address)
{
  Entry *entry = g_new0 (Entry, 1);
  entry->name = g_strdup (name);
  entry->address = address;
  g_hash_table_replace (zone->entries, g_strdup (id), entry);
}

void
banger_zone_drop (BangerZone *zone, const char *id)
{
  g_hash_table_remove (zone->entries, id);
}

guint
banger_zone_size (BangerZone *zone)
{
  return g_hash_table_size (zone->entries);
}

/* By name, or where that is %NULL by address. There are at most a few hundred. */
static const Entry *
find (const BangerZone *zone, const char *name, guint32 address)
{
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init (&iter, zone->entries);
  while (g_hash_table_iter_next (&iter, NULL, &value)) {
    const Entry *entry = value;
    if (name ? g_str_equal (entry->name, name) : entry->address == address)
      return entry;
  }
  return NULL;
}

/* What is known of a question. */
typedef struct {
  gboolean ours;    /* in one of the zones */
  char *apex;       /* of that zone; above or equal to the name */
  gboolean exists;  /* the name; it may have no record of that type */
  const char *type; /* of its only record, "A", "PTR"; NULL: it has none */
  char *data;
} Found;

static void
found_clear (Found *found)
{
  g_free (found->apex);
  g_free (found->data);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Found, found_clear)

/* @name: "web.vm." in lower case. */
static void
look_forward (const BangerZone *zone, const char *name, Found *found)
{
  static const char suffix[] = "." BANGER_ZONE_DOMAIN ".";
  gsize length = strlen (name);
  found->ours = TRUE;
  found->apex = g_strdup (BANGER_ZONE_DOMAIN ".");
  found->exists = length < strlen (suffix); /* the zone itself */
  if (found->exists)
    return;
  g_autofree char *label = g_strndup (name, length - strlen (suffix));
  const Entry *entry = find (zone, label, 0);
  if (entry) {
    found->exists = TRUE;
    found->type = "A";
    found->data = banger_address_format (entry->address);
  }
}

/* "7.0.213.10" of a name below in-addr.arpa., or a part of it behind. Returns: how many bits it has, -1 if it is none. */
static int
parse_reverse (const char *name, guint32 *ret_address)
{
  static const char suffix[] = "." REVERSE ".";
  if (!g_str_has_suffix (name, suffix))
    return -1;
  g_autofree char *numbers = g_strndup (name, strlen (name) - strlen (suffix));
  g_auto (GStrv) labels = g_strsplit (numbers, ".", -1);
  guint n = g_strv_length (labels);
  *ret_address = 0;
  for (guint i = 0; i < n; i++) {
    guint64 number;
    if (n > 4 || (labels[i][0] == '0' && labels[i][1])
        || !g_ascii_string_to_unsigned (labels[i], 10, 0, 255, &number, NULL))
      return -1;
    *ret_address |= (guint32)number << (24 - 8 * (n - 1 - i));
  }
  return (int)n * 8;
}

static void
look_reverse (const BangerZone *zone, const char *name, Found *found)
{
  const guint prefix = zone->subnet.prefix, apex_labels = (prefix + 7) / 8;
  guint32 address = 0, mask = prefix == 0 ? 0 : ~(guint32)0 << (32 - prefix);
  int bits = parse_reverse (name, &address);
  if (bits < (int)prefix || ((address ^ zone->subnet.gateway) & mask) != 0)
    return;
  g_autoptr (GString) apex = g_string_new (REVERSE ".");
  for (guint i = 0; i < apex_labels; i++) {
    g_autofree char *label = g_strdup_printf ("%u.", address >> (24 - 8 * i) & 255);
    g_string_prepend (apex, label);
  }
  found->ours = TRUE;
  found->apex = g_string_free (g_steal_pointer (&apex), FALSE);
  const Entry *entry = bits == 32 ? find (zone, NULL, address) : NULL;
  found->exists = entry || bits < 32;
  if (entry) {
    found->type = "PTR";
    found->data = g_strconcat (entry->name, "." BANGER_ZONE_DOMAIN ".", NULL);
  }
}

static void
look_up (const BangerZone *zone, const ldns_rdf *name, Found *found)
{
  ldns_rdf *lower = ldns_rdf_clone (name);
  ldns_dname2canonical (lower);
  char *text = ldns_rdf2str (lower); /* a dot within a label is "\.", and so no name of ours */
  if (ldns_dname_compare (lower, zone->domain) == 0 || ldns_dname_is_subdomain (lower, zone->domain))
    look_forward (zone, text, found);
  else
    look_reverse (zone, text, found);
  LDNS_FREE (text);
  ldns_rdf_deep_free (lower);
}

/* @text: a record without its owner. */
static void
push (ldns_pkt *reply, ldns_pkt_section section, const char *owner, const char *text)
{
  g_autofree char *line = g_strconcat (owner, " ", text, NULL);
  ldns_rr *rr = NULL;
  if (ldns_rr_new_frm_str (&rr, line, 0, NULL, NULL) == LDNS_STATUS_OK)
    ldns_pkt_push_rr (reply, section, rr);
}

static ldns_pkt_rcode
fill (const BangerZone *zone, const ldns_rr *question, ldns_pkt *reply)
{
  g_auto (Found) found = { 0 };
  const ldns_rdf *name = ldns_rr_owner (question);
  ldns_rr_type type = ldns_rr_get_type (question);
  if (ldns_rr_get_class (question) == LDNS_RR_CLASS_IN && type != LDNS_RR_TYPE_AXFR && type != LDNS_RR_TYPE_IXFR)
    look_up (zone, name, &found);
  if (!found.ours)
    return LDNS_RCODE_REFUSED;
  ldns_pkt_set_aa (reply, true);
  if (found.type && (type == LDNS_RR_TYPE_ANY || type == ldns_get_rr_type_by_name (found.type))) {
    char *owner = ldns_rdf2str (name);
    g_autofree char *text = g_strdup_printf (TTL " IN %s %s", found.type, found.data);
    push (reply, LDNS_SECTION_ANSWER, owner, text);
    LDNS_FREE (owner);
  } else
    push (reply, LDNS_SECTION_AUTHORITY, found.apex, SOA);
  return found.exists ? LDNS_RCODE_NOERROR : LDNS_RCODE_NXDOMAIN;
}

static guint
number_at (const guint8 *query, gsize at)
{
  return (guint)query[at] << 8 | query[at + 1];
}

/* One question whose name is whole, and at most an OPT record (RFC 6891): nothing else goes to libldns. */
static gboolean
is_plain (const guint8 *query, gsize length)
{
  enum { QUESTIONS = 4, ANSWERS = 6, AUTHORITIES = 8, ADDITIONAL = 10 };
  guint additional = number_at (query, ADDITIONAL);
  gsize at = HEADER;
  if (length > BANGER_ZONE_MAX_QUERY || number_at (query, QUESTIONS) != 1 || number_at (query, ANSWERS) != 0
      || number_at (query, AUTHORITIES) != 0 || additional > 1)
    return FALSE;
  while (at < length && query[at] != 0) {
    if (query[at] > 63) /* a pointer: there is nothing before it that it could mean */
      return FALSE;
    at += query[at] + 1u;
  }
  at += 5;         /* the root, type, class */
  if (at > length) /* that it is not too long sees libldns */
    return FALSE;
  return additional == 0 ? at == length
                         : length - at >= 11 && query[at] == 0 && number_at (query, at + 1) == LDNS_RR_TYPE_OPT
                               && number_at (query, at + 9) == length - at - 11;
}

/* Also what an error is without a question of its own: the header alone. */
static guint8 *
header_only (const guint8 *query, ldns_pkt_rcode rcode, gsize *ret_length)
{
  guint8 *reply = g_malloc0 (HEADER);
  reply[0] = query[0];
  reply[1] = query[1];
  reply[2] = (guint8)(0x80 | (query[2] & 0x79)); /* a reply, with opcode and RD as asked */
  reply[3] = (guint8)rcode;
  *ret_length = HEADER;
  return reply;
}

static guint8 *
to_wire (const ldns_pkt *reply, gsize *ret_length)
{
  guint8 *wire = NULL, *copy = NULL;
  size_t length = 0;
  if (ldns_pkt2wire (&wire, reply, &length) == LDNS_STATUS_OK && length <= BANGER_ZONE_MAX_REPLY) {
    copy = g_memdup2 (wire, length);
    *ret_length = length;
  }
  LDNS_FREE (wire);
  return copy;
}

guint8 *
banger_zone_answer (BangerZone *zone, const guint8 *query, gsize length, gsize *ret_length)
{
  ldns_pkt *asked = NULL;
  if (length < HEADER || (query[2] & 0x80) != 0)
    return NULL;
  if ((query[2] & 0x78) != 0)
    return header_only (query, LDNS_RCODE_NOTIMPL, ret_length);
  if (!is_plain (query, length) || ldns_wire2pkt (&asked, query, length) != LDNS_STATUS_OK)
    return header_only (query, LDNS_RCODE_FORMERR, ret_length);
  const ldns_rr *question = ldns_rr_list_rr (ldns_pkt_question (asked), 0);
  ldns_pkt *reply = ldns_pkt_new ();
  ldns_pkt_set_id (reply, ldns_pkt_id (asked));
  ldns_pkt_set_qr (reply, true);
  ldns_pkt_set_rd (reply, ldns_pkt_rd (asked));
  ldns_pkt_push_rr (reply, LDNS_SECTION_QUESTION, ldns_rr_clone (question));
  if (ldns_pkt_edns (asked))
    ldns_pkt_set_edns_udp_size (reply, BANGER_ZONE_MAX_QUERY);
  if (ldns_pkt_edns (asked) && ldns_pkt_edns_version (asked) != 0)
    ldns_pkt_set_edns_extended_rcode (reply, 1); /* BADVERS, 16 */
  else
    ldns_pkt_set_rcode (reply, (guint8)fill (zone, question, reply));
  guint8 *wire = to_wire (reply, ret_length);
  ldns_pkt_free (reply);
  ldns_pkt_free (asked);
  return wire;
}

/* Questions for names of VMs, and what nobody should send: by table.
 * Run by meson test.
 * Never opens a socket. */
#include <glib.h>
#include <ldns/ldns.h>
#include <string.h>

#include "manager/net/zone.h"

#define NET 0x0ad50000u /* 10.213.0.0 */

static BangerZone *
zone_up (guint prefix)
{
  BangerSubnet subnet = { .gateway = NET + 1, .prefix = prefix };
  BangerZone *zone = banger_zone_new (&subnet);
  banger_zone_put (zone, "1", "web", NET + 7);
  banger_zone_put (zone, "2", "d63456789012345678901234567890123456789012345678901234567890abc", NET + 8);
  return zone;
}

static gsize
put_name (guint8 *to, const char *name)
{
  gsize at = 0;
  g_auto (GStrv) labels = g_strsplit (name, ".", -1);
  for (char **label = labels; *label && **label; label++) {
    to[at++] = (guint8)strlen (*label);
    memcpy (to + at, *label, strlen (*label));
    at += strlen (*label);
  }
  to[at++] = 0;
  return at;
}

/* A plain question, with RD; @edns: with an OPT record that says 4096 bytes. */
static gsize
question (guint8 *to, const char *name, guint type, guint class, gboolean edns)
{
  static const guint8 header[] = { 0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0 },
                      opt[] = { 0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0 };
  memcpy (to, header, sizeof header);
  gsize at = sizeof header + put_name (to + sizeof header, name);
  const guint8 tail[] = { (guint8)(type >> 8), (guint8)type, (guint8)(class >> 8), (guint8) class };
  memcpy (to + at, tail, sizeof tail);
  at += sizeof tail;
  if (edns) {
    to[11] = 1;
    memcpy (to + at, opt, sizeof opt);
    at += sizeof opt;
  }
  return at;
}

/* "RCODE section: record; ..." as text, after the checks that hold for every answer. */
static char *
ask (BangerZone *zone, const guint8 *query, gsize length)
{
  gsize n = 0;
  g_autofree guint8 *exact = g_memdup2 (query, length); /* a sanitizer sees what is read behind it */
  g_autofree guint8 *wire = banger_zone_answer (zone, exact, length, &n);
  if (!wire)
    return g_strdup ("none");
  g_assert_cmpuint (n, <=, BANGER_ZONE_MAX_REPLY);
  g_assert_cmpmem (wire, 2, query, 2);
  g_assert_cmpuint (wire[2] & 0xfa, ==, 0x80 | (query[2] & 0x78) | (wire[2] & 2)); /* QR, opcode */
  g_assert_cmpuint (wire[2] & 3, ==, query[2] & 1);                                /* RD as asked, never cut */
  g_assert_cmpuint (wire[3] & 0xf0, ==, 0);                                        /* no recursion here */
  ldns_pkt *reply = NULL;
  GString *text = g_string_new (NULL);
  g_assert_cmpint (ldns_wire2pkt (&reply, wire, n), ==, LDNS_STATUS_OK);
  g_string_append_printf (text, "%u%s", (guint)ldns_pkt_get_rcode (reply), ldns_pkt_aa (reply) ? " aa" : "");
  if (ldns_pkt_edns (reply))
    g_string_append_printf (text, " edns(%u,%u)", ldns_pkt_edns_udp_size (reply), ldns_pkt_edns_extended_rcode (reply));
  const struct {
    char letter;
    ldns_rr_list *list;
  } sections[] = { { 'q', ldns_pkt_question (reply) },
                   { 'a', ldns_pkt_answer (reply) },
                   { 's', ldns_pkt_authority (reply) },
                   { 'x', ldns_pkt_additional (reply) } };
  for (guint s = 1; s < G_N_ELEMENTS (sections); s++)
    for (size_t i = 0; i < ldns_rr_list_rr_count (sections[s].list); i++) {
      char *line = ldns_rr2str (ldns_rr_list_rr (sections[s].list, i));
      g_string_append_printf (text, " %c:%s", sections[s].letter, g_strdelimit (g_strchomp (line), "\t", ' '));
      LDNS_FREE (line);
    }
  ldns_pkt_free (reply);
  return g_string_free (text, FALSE);
}

#define SOA(zone) " s:" zone " 1 IN SOA localhost. nobody.invalid. 1 3600 600 86400 1"
#define A 1
#define PTR 12
#define LONG "d63456789012345678901234567890123456789012345678901234567890abc"

static void
test_questions (void)
{
  static const struct {
    const char *name;
    guint type, class;
    const char *answer;
  } rows[] = {
    { "web.vm", A, 1, "0 aa a:web.vm. 1 IN A 10.213.0.7" },
    { "WeB.Vm", A, 1, "0 aa a:WeB.Vm. 1 IN A 10.213.0.7" }, /* as it was asked */
    { LONG ".vm", A, 1, "0 aa a:" LONG ".vm. 1 IN A 10.213.0.8" },
    { "web.vm", 255, 1, "0 aa a:web.vm. 1 IN A 10.213.0.7" },
    { "web.vm", 28, 1, "0 aa" SOA ("vm.") }, /* AAAA, MX, TXT, one that is not known: none such */
    { "web.vm", 15, 1, "0 aa" SOA ("vm.") },
    { "web.vm", 16, 1, "0 aa" SOA ("vm.") },
    { "web.vm", 65280, 1, "0 aa" SOA ("vm.") },
    { "web.vm", 252, 1, "5" }, /* no transfers */
    { "web.vm", 251, 1, "5" },
    { "web.vm", A, 3, "5" },
    { "web.vm", A, 255, "5" },
    { "vm", A, 1, "0 aa" SOA ("vm.") },
    { "vm", 6, 1, "0 aa" SOA ("vm.") },
    { "db.vm", A, 1, "3 aa" SOA ("vm.") },
    { "db.vm", 28, 1, "3 aa" SOA ("vm.") },
    { "a.web.vm", A, 1, "3 aa" SOA ("vm.") },
    { "web.vm.vm", A, 1, "3 aa" SOA ("vm.") },
    { "", A, 1, "5" },
    { "web", A, 1, "5" },
    { "web.vmx", A, 1, "5" },
    { "web.xvm", A, 1, "5" },
    { "example.org", A, 1, "5" },
    { "web.vm.example.org", A, 1, "5" },
    { "7.0.213.10.in-addr.arpa", PTR, 1, "0 aa a:7.0.213.10.in-addr.arpa. 1 IN PTR web.vm." },
    { "7.0.213.10.IN-ADDR.ARPA", PTR, 1, "0 aa a:7.0.213.10.IN-ADDR.ARPA. 1 IN PTR web.vm." },
    { "7.0.213.10.in-addr.arpa", A, 1, "0 aa" SOA ("0.213.10.in-addr.arpa.") },
    { "9.0.213.10.in-addr.arpa", PTR, 1, "3 aa" SOA ("0.213.10.in-addr.arpa.") },
    { "0.213.10.in-addr.arpa", PTR, 1, "0 aa" SOA ("0.213.10.in-addr.arpa.") },
    { "213.10.in-addr.arpa", PTR, 1, "5" },
    { "in-addr.arpa", PTR, 1, "5" },
    { "7.1.213.10.in-addr.arpa", PTR, 1, "5" },
    { "007.0.213.10.in-addr.arpa", PTR, 1, "5" },
    { "256.0.213.10.in-addr.arpa", PTR, 1, "5" },
    { "7.7.0.213.10.in-addr.arpa", PTR, 1, "5" },
    { "x.0.213.10.in-addr.arpa", PTR, 1, "5" },
    { "8.8.8.8.in-addr.arpa", PTR, 1, "5" },
  };
  g_autoptr (BangerZone) zone = zone_up (24);
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++)
    for (guint edns = 0; edns < 2; edns++) {
      guint8 query[600];
      gsize n = question (query, rows[i].name, rows[i].type, rows[i].class, edns != 0);
      g_autofree char *said = ask (zone, query, n);
      g_autoptr (GString) wanted = g_string_new (rows[i].answer);
      if (edns)
        g_string_insert (wanted, g_str_has_prefix (rows[i].answer + 1, " aa") ? 4 : 1, " edns(1232,0)");
      if (!g_str_equal (said, wanted->str))
        g_error ("%s %u: %s, not %s", rows[i].name, rows[i].type, said, wanted->str);
    }
}

/* Bridges whose net does not end at a dot. */
static void
test_reverse_zones (void)
{
  static const struct {
    guint prefix;
    const char *name, *answer;
  } rows[] = {
    { 16, "7.0.213.10.in-addr.arpa", "0 aa a:7.0.213.10.in-addr.arpa. 1 IN PTR web.vm." },
    { 16, "7.9.213.10.in-addr.arpa", "3 aa" SOA ("213.10.in-addr.arpa.") },
    { 16, "9.213.10.in-addr.arpa", "0 aa" SOA ("213.10.in-addr.arpa.") },
    { 16, "7.0.214.10.in-addr.arpa", "5" },
    { 20, "7.15.213.10.in-addr.arpa", "3 aa" SOA ("15.213.10.in-addr.arpa.") },
    { 20, "7.16.213.10.in-addr.arpa", "5" },
    { 28, "15.0.213.10.in-addr.arpa", "3 aa" SOA ("15.0.213.10.in-addr.arpa.") },
    { 28, "16.0.213.10.in-addr.arpa", "5" },
    { 28, "0.213.10.in-addr.arpa", "5" },
  };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (BangerZone) zone = zone_up (rows[i].prefix);
    guint8 query[600];
    g_autofree char *said = ask (zone, query, question (query, rows[i].name, PTR, 1, FALSE));
    g_assert_cmpstr (said, ==, rows[i].answer);
  }
}

static void
test_who_comes_and_goes (void)
{
  guint8 query[600];
  g_autoptr (BangerZone) zone = zone_up (24);
  gsize n = question (query, "web.vm", A, 1, FALSE);
  banger_zone_put (zone, "1", "web", NET + 9);
  g_autofree char *moved = ask (zone, query, n);
  g_assert_cmpstr (moved, ==, "0 aa a:web.vm. 1 IN A 10.213.0.9");
  g_assert_cmpuint (banger_zone_size (zone), ==, 2);
  banger_zone_drop (zone, "1");
  banger_zone_drop (zone, "1");
  g_autofree char *gone = ask (zone, query, n);
  g_assert_true (g_str_has_prefix (gone, "3 aa"));
  g_assert_cmpuint (banger_zone_size (zone), ==, 1);
}

/* The question for web.vm with a change, and what becomes of it. */
static void
test_malformed (void)
{
  static const struct {
    const char *what;
    gsize at;
    int byte;     /* written there, -1: none */
    gsize length; /* of the packet, 0: as it is */
    gboolean edns;
    const char *answer;
  } rows[] = {
    { "a whole header is needed", 0, -1, 11, FALSE, "none" },
    { "a reply is none of our business", 2, 0x81, 0, FALSE, "none" },
    { "nothing behind the header", 0, -1, 12, FALSE, "1" },
    { "no type", 0, -1, 20, FALSE, "1" },
    { "half a class", 0, -1, 23, FALSE, "1" },
    { "something behind the question", 0, -1, 25, FALSE, "1" },
    { "IQUERY", 2, 0x09, 0, FALSE, "4" },
    { "UPDATE", 2, 0x29, 0, FALSE, "4" },
    { "no question", 5, 0, 0, FALSE, "1" },
    { "two questions", 5, 2, 0, FALSE, "1" },
    { "256 questions", 4, 1, 0, FALSE, "1" },
    { "an answer in a question", 7, 1, 0, FALSE, "1" },
    { "an authority in a question", 9, 1, 0, FALSE, "1" },
    { "an additional record that is not there", 11, 1, 0, FALSE, "1" },
    { "two additional records", 11, 2, 0, TRUE, "1" },
    { "another one than OPT", 26, 16, 0, TRUE, "1" },
    { "an OPT record with a name", 24, 1, 0, TRUE, "1" },
    { "an OPT record that is longer than the packet", 34, 1, 0, TRUE, "1" },
    { "an OPT record that is cut off", 0, -1, 34, TRUE, "1" },
    { "something behind an OPT record", 0, -1, 36, TRUE, "1" },
    { "EDNS 1", 30, 1, 0, TRUE, "0 edns(1232,1)" },
    { "a pointer to itself", 12, 0xc0, 0, FALSE, "1" },
    { "a label of 64", 12, 64, 0, FALSE, "1" },
    { "a reserved kind of label", 12, 0x80, 0, FALSE, "1" },
    { "a label that goes beyond the packet", 12, 63, 0, FALSE, "1" },
    { "TC, AD, CD and Z are passed over", 3, 0x70, 0, FALSE, "0 aa a:web.vm. 1 IN A 10.213.0.7" },
  };
  g_autoptr (BangerZone) zone = zone_up (24);
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    guint8 query[600] = { 0 };
    gsize n = question (query, "web.vm", A, 1, rows[i].edns);
    if (rows[i].byte >= 0)
      query[rows[i].at] = (guint8)rows[i].byte;
    g_autofree char *said = ask (zone, query, rows[i].length ? rows[i].length : n);
    if (!g_str_equal (said, rows[i].answer))
      g_error ("%s: %s, not %s", rows[i].what, said, rows[i].answer);
  }
}

static gsize
long_question (guint8 *query, guint labels, guint last)
{
  g_autoptr (GString) name = g_string_new (NULL);
  for (guint i = 0; i < labels; i++)
    g_string_append (name, LONG ".");
  for (guint i = 0; i < last; i++)
    g_string_append_c (name, 'x');
  g_string_append (name, ".vm");
  return question (query, name->str, A, 1, TRUE);
}

/* Boundaries: the longest name, one more, the largest packet, one more; a dot within a label. */
static void
test_sizes (void)
{
  static guint8 query[70000];
  g_autoptr (BangerZone) zone = zone_up (24);
  gsize n = long_question (query, 3, 58);
  g_assert_cmpuint (n, ==, 12 + 255 + 4 + 11);
  g_autofree char *longest = ask (zone, query, n);
  g_assert_cmpstr (longest, ==, "3 aa edns(1232,0)" SOA ("vm."));
  n = long_question (query, 3, 59);
  g_autofree char *longer = ask (zone, query, n);
  g_assert_cmpstr (longer, ==, "1");

  n = question (query, "web.vm", A, 1, TRUE);
  guint pad = BANGER_ZONE_MAX_QUERY - (guint)n;
  query[n - 2] = (guint8)(pad >> 8);
  query[n - 1] = (guint8)pad;
  query[n + 2] = (guint8)((pad - 4) >> 8); /* an option of its own */
  query[n + 3] = (guint8)(pad - 4);
  g_autofree char *full = ask (zone, query, BANGER_ZONE_MAX_QUERY);
  g_assert_cmpstr (full, ==, "0 aa edns(1232,0) a:web.vm. 1 IN A 10.213.0.7");
  query[n - 1]++;
  g_autofree char *over = ask (zone, query, BANGER_ZONE_MAX_QUERY + 1);
  g_assert_cmpstr (over, ==, "1");
  g_autofree char *most = ask (zone, query, 65535);
  g_assert_cmpstr (most, ==, "1");

  /* A pointer that a reader would follow, and whose byte as a length leads to what looks like an end. */
  static const guint8 pointer[] = { 0xc0, 100, 0, A, 0, 1 }, end[] = { 0, 0, A, 0, 1 };
  n = question (query, "", A, 1, FALSE);
  memset (query + n, 0, 300);
  memcpy (query + 12, pointer, sizeof pointer);
  put_name (query + 100, "web.vm");
  memcpy (query + 12 + 0xc1, end, sizeof end);
  g_autofree char *followed = ask (zone, query, 12 + 0xc1 + sizeof end);
  g_assert_cmpstr (followed, ==, "1");

  static const guint8 dotted[] = "\6web.vm\0\0\1\0\1";
  n = question (query, "", A, 1, FALSE);
  memcpy (query + 12, dotted, sizeof dotted - 1);
  g_autofree char *one_label = ask (zone, query, 12 + sizeof dotted - 1);
  g_assert_cmpstr (one_label, ==, "5");
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/zone/questions", test_questions);
  g_test_add_func ("/zone/reverse-zones", test_reverse_zones);
  g_test_add_func ("/zone/who-comes-and-goes", test_who_comes_and_goes);
  g_test_add_func ("/zone/malformed", test_malformed);
  g_test_add_func ("/zone/sizes", test_sizes);
  return g_test_run ();
}

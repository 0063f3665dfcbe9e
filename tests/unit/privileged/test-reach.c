/* Links between two guests and ports of the host: who reaches whom, and who does not.
 * Run by meson test as root. */
#include "net-guests.h"

#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>

#include "privileged/filter.h"
#include "privileged/gate.h"
#include "privileged/netlink.h"
#include "privileged/set-reach.h"

#define A "10.213.0.5"
#define B "10.213.0.6"
#define HOST_ADDRESS "10.213.0.1"
#define STRANGER "cccccccccccc"

static gboolean
set_links (Guests *guests, int guest, const char *link, GError **error)
{
  g_autoptr (GPtrArray) links = g_ptr_array_new ();
  g_autoptr (GArray) ports = g_array_new (FALSE, FALSE, sizeof (guint16));
  if (link)
    g_ptr_array_add (links, (gpointer)link);
  return banger_reach_set (&root, guests->leases[guest], links, ports, error);
}

/* UDP from port PORT to port PORT: the other's frame is the answer. */
static void
expect (const Guests *guests, int guest, int what, int reaches)
{
  const char *own = guest == 0 ? A : B, *other = guest == 0 ? B : A;
  const Frame frame = { BARE, guest, reaches, OWN, what == ASK ? ALL : GATEWAY, what, own, other, 0, PORT };
  try_frame (guests, &frame);
}

static void
expect_nothing (const Guests *guests)
{
  for (int guest = 0; guest < 2; guest++) {
    expect (guests, guest, UDP, NOWHERE);
    expect (guests, guest, ASK, NOWHERE);
  }
}

static gboolean
switch_is_on (const char *name)
{
  g_autofree char *path = g_strdup_printf ("/proc/sys/net/ipv4/conf/br-fc-one/%s", name), *text = NULL;
  return g_file_get_contents (path, &text, NULL, NULL) && text[0] == '1';
}

/* Nobody but the two, each as itself. */
static void
try_lies (const Guests *guests)
{
  static const Frame lies[] = {
    { BARE, 1, NOWHERE, OWN, GATEWAY, UDP, A, B, 0, PORT }, /* as the one that is linked */
    { BARE, 1, NOWHERE, ITS, GATEWAY, UDP, A, B, 0, PORT }, /* with its MAC, too */
    { BARE, 1, NOWHERE, ITS, GATEWAY, UDP, A, B, 1, PORT }, /* in a tag */
    { BARE, 0, NOWHERE, OWN, GATEWAY, UDP, B, A, 0, PORT }, /* as the other */
    { BARE, 0, NOWHERE, OWN, PEER, UDP, A, B, 0, PORT },    /* not by the host */
    { BARE, 0, NOWHERE, OWN, ALL, UDP, A, B, 0, PORT },
    { BARE, 0, NOWHERE, OWN, GATEWAY, UDP, A, B, 2, PORT },
    { BARE, 0, NOWHERE, OWN, GATEWAY, UDP, A, "10.213.0.7", 0, PORT },
    { BARE, 0, NOWHERE, OWN, ALL, ASK, A, "10.213.0.7", 0, 0 }, /* of nobody else's address */
    { BARE, 0, NOWHERE, OWN, ALL, LIE, A, B, 0, 0 },
    { BARE, 0, NOWHERE, OWN, ALL, ASK, B, A, 0, 0 },
    { BARE, 1, NOWHERE, OWN, ALL, ASK, B, B, 0, 0 }, /* its own is not asked for */
    { BARE, 0, NOWHERE, OWN, GATEWAY, UDP, A, HOST_ADDRESS, 0, PORT },
  };
  for (size_t i = 0; i < G_N_ELEMENTS (lies); i++)
    try_frame (guests, &lies[i]);
}

/* A guest that took the host's word for a shorter way would ask for the other's MAC in vain. */
static gboolean
is_redirected (const Guests *guests)
{
  const Frame frame = { BARE, 0, OTHER, OWN, GATEWAY, UDP, A, B, 0, PORT };
  guint8 data[2048];
  ssize_t n;
  for (int i = 0; i < 3; i++)
    write_frame (guests->taps[0], &frame, 1);
  for (gint64 end = g_get_monotonic_time () + 150000; g_get_monotonic_time () < end; g_usleep (2000))
    while ((n = recv (guests->links, data, sizeof data, 0)) > 0)
      if (n > 34 && data[23] == IPPROTO_ICMP && data[34] == ICMP_REDIRECT)
        return TRUE;
  return FALSE;
}

static void
test_links (void)
{
  Guests guests;
  g_autoptr (GError) error = NULL;
  open_guests (&guests);
  expect_nothing (&guests);
  g_assert_true (set_links (&guests, 0, vms[1], &error));
  g_assert_true (switch_is_on ("proxy_arp_pvlan"));
  expect (&guests, 0, ASK, SELF); /* the host says its own MAC */
  expect (&guests, 1, ASK, SELF);
  expect (&guests, 1, UDP, NOWHERE); /* not the other way round, */
  expect (&guests, 0, UDP, OTHER);
  expect (&guests, 1, UDP, OTHER); /* but as an answer */
  g_assert_false (is_redirected (&guests));
  const Frame begins = { BARE, 1, NOWHERE, OWN, GATEWAY, UDP, B, A, 0, PORT + 1 };
  try_frame (&guests, &begins);
  try_lies (&guests);
  g_assert_true (set_links (&guests, 0, NULL, &error));
  expect_nothing (&guests); /* what was begun ends, too */
  g_assert_false (switch_is_on ("proxy_arp_pvlan"));

  /* Both ways, and one of them taken back. */
  g_assert_true (set_links (&guests, 0, vms[1], &error) && set_links (&guests, 1, vms[0], &error));
  expect (&guests, 1, UDP, OTHER);
  g_assert_true (set_links (&guests, 1, NULL, &error));
  try_frame (&guests, &begins);
  expect (&guests, 0, ASK, SELF);
  close_guests (&guests);
  g_autofree char *left = run ("nft list ruleset");
  g_assert_cmpstr (left, ==, "");
}

/* The elements follow the taps and the leases, whoever takes the tables away. */
static void
test_comes_and_goes (void)
{
  Guests guests;
  g_autoptr (GError) error = NULL;
  open_guests (&guests);
  g_free (run ("sh -c 'echo 0 > /proc/sys/net/ipv4/ip_forward'"));
  g_assert_true (set_links (&guests, 0, vms[1], &error));
  g_assert_true (switch_is_on ("forwarding"));
  expect (&guests, 0, UDP, OTHER);
  g_assert_true (banger_nat_remove (&root, guests.leases[0], &error)); /* that of the outside is another matter */
  g_assert_true (switch_is_on ("forwarding") && switch_is_on ("proxy_arp_pvlan"));
  expect (&guests, 0, UDP, OTHER);
  g_free (run ("nft flush ruleset"));
  g_assert_cmpint (banger_filter_mend (&root, &error), ==, BANGER_FILTER_MENDED);
  expect (&guests, 0, UDP, OTHER);
  banger_filter_restore (&root); /* a helper that starts */
  expect (&guests, 0, UDP, OTHER);
  g_autofree char *before = run ("nft list set inet banger links");
  g_assert_nonnull (strstr (before, "\"br-fc-one\" . " A " . " B));

  /* The other's tap goes: what names it goes with it, and comes back with the next. */
  close (guests.taps[1]);
  g_assert_true (banger_tap_delete (&root, guests.leases[1], &error)
                 && banger_lease_save (&root, guests.leases[1], NULL));
  g_autofree char *gone = run ("nft list ruleset");
  g_assert_null (strstr (gone, B));
  g_free (banger_tap_create (&root, guests.leases[1], &places[1], &error));
  g_assert_no_error (error);
  g_autofree char *again = run ("nft list set inet banger links"), *held = run ("nft list set inet banger.held links");
  g_assert_nonnull (strstr (again, "\"br-fc-one\" . " A " . " B));
  g_assert_nonnull (strstr (held, "\"br-fc-one\" . " A " . " B));

  /* And with the one that has it. */
  g_assert_true (banger_nat_release (&root, guests.leases[0], &error));
  g_assert_false (switch_is_on ("forwarding") || switch_is_on ("proxy_arp_pvlan"));
  close (guests.taps[0]);
  g_assert_true (banger_tap_delete (&root, guests.leases[0], &error)
                 && banger_lease_save (&root, guests.leases[0], NULL));
  g_assert_null (guests.leases[0]->links);
  g_free (banger_tap_create (&root, guests.leases[0], &places[0], &error));
  g_autofree char *none = run ("nft list set inet banger links");
  g_assert_null (strstr (none, "elements"));
  guests.taps[0] = guests.taps[1] = -1;
  close_guests (&guests);
}

static void
test_refused (void)
{
  Guests guests;
  install.max_taps = 3;
  open_guests (&guests);
  g_autoptr (BangerLease) stranger = banger_lease_ensure (&root, STRANGER, 54322, NULL, NULL);
  const BangerTapPlace place = { "br-fc-one", CIDR, "10.213.0.7" };
  g_free (banger_tap_create (&root, stranger, &place, NULL));
  const struct {
    const char *link;
    gint code;
  } rows[] = { { STRANGER, BANGER_ERROR_ACCESS_DENIED },
               { "dddddddddddd", BANGER_ERROR_NO_SUCH_LEASE },
               { vms[0], BANGER_ERROR_INVALID_ARGS },
               { "../x", BANGER_ERROR_INVALID_ID },
               { "", BANGER_ERROR_INVALID_ID } };
  for (size_t i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GError) error = NULL;
    g_assert_false (set_links (&guests, 0, rows[i].link, &error));
    g_assert_error (error, BANGER_ERROR, rows[i].code);
    g_assert_null (guests.leases[0]->links);
  }
  /* One whose owner changed behind the lease's back, as by hand: no element. */
  g_autoptr (GError) error = NULL;
  guests.leases[0]->links = g_strdup (STRANGER);
  g_assert_true (banger_lease_save (&root, guests.leases[0], NULL));
  G_LOCK (banger_network);
  g_assert_true (banger_filter_restore_locked (&root, &error));
  G_UNLOCK (banger_network);
  g_autofree char *none = run ("nft list set inet banger links");
  g_assert_null (strstr (none, "elements"));
  g_assert_true (banger_tap_delete (&root, stranger, NULL) && banger_lease_remove (&root, STRANGER, NULL));

  /* One without a tap. */
  close (guests.taps[1]);
  guests.taps[1] = -1;
  g_assert_true (banger_tap_delete (&root, guests.leases[1], NULL)
                 && banger_lease_save (&root, guests.leases[1], NULL));
  g_assert_false (set_links (&guests, 0, vms[1], &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_WRONG_STATE);
  close_guests (&guests);
  install.max_taps = 2;
}

/* Guest @guest begins a TCP connection with @to: whether anything comes back to it. */
static gboolean
is_answered (const Guests *guests, int guest, const char *to, guint16 port)
{
  static const guint8 vnet[10], ip[] = { 8, 0 };
  struct {
    struct iphdr ip;
    struct tcphdr tcp;
  } packet = { .ip = { .ihl = 5, .version = 4, .ttl = 64, .protocol = IPPROTO_TCP, .tot_len = htons (sizeof packet) },
               .tcp = { .source = htons ((guint16)g_random_int_range (20000, 60000)),
                        .dest = htons (port),
                        .doff = 5,
                        .syn = 1,
                        .window = htons (1000) } };
  struct {
    guint32 from, to;
    guint8 zero, protocol;
    guint16 length;
    struct tcphdr tcp;
  } sum = { .protocol = IPPROTO_TCP, .length = htons (sizeof packet.tcp) };
  guint8 mac[ETH_ALEN], data[2048];
  g_autoptr (GByteArray) bytes = g_byte_array_new ();
  inet_pton (AF_INET, guest == 0 ? A : B, &sum.from);
  inet_pton (AF_INET, to, &sum.to);
  sum.tcp = packet.tcp;
  packet.tcp.check = header_sum (&sum, sizeof sum);
  packet.ip.saddr = sum.from;
  packet.ip.daddr = sum.to;
  packet.ip.check = header_sum (&packet.ip, sizeof packet.ip);
  g_byte_array_append (bytes, vnet, sizeof vnet);
  link_address ("br-fc-one", mac);
  g_byte_array_append (bytes, mac, sizeof mac);
  source_mac (guest, OWN, mac);
  g_byte_array_append (bytes, mac, sizeof mac);
  g_byte_array_append (bytes, ip, sizeof ip);
  g_byte_array_append (bytes, (guint8 *)&packet, sizeof packet);
  while (recv (guests->links, data, sizeof data, 0) > 0)
    ;
  g_assert_cmpint (write (guests->taps[guest], bytes->data, bytes->len), ==, bytes->len);
  for (gint64 end = g_get_monotonic_time () + 150000; g_get_monotonic_time () < end; g_usleep (2000)) {
    ssize_t n;
    while ((n = recv (guests->links, data, sizeof data, 0)) > 0)
      if ((size_t)n >= 14 + sizeof packet && data[23] == IPPROTO_TCP
          && memcmp (data + 14 + 20 + 2, &packet.tcp.source, 2) == 0 && memcmp (data + 14 + 16, &sum.from, 4) == 0)
        return TRUE;
  }
  return FALSE;
}

/* Who answers is the kernel, that nobody listens there. */
static void
test_ports (void)
{
  Guests guests;
  g_autoptr (GError) error = NULL;
  g_autoptr (GPtrArray) links = g_ptr_array_new ();
  g_autoptr (GArray) ports = g_array_new (FALSE, FALSE, sizeof (guint16));
  open_guests (&guests);
  expect (&guests, 0, UDP, NOWHERE); /* warms the port */
  const Frame ping = { BARE, 0, SELF, OWN, GATEWAY, ECHO, A, HOST_ADDRESS, 0, 0 };
  try_frame (&guests, &ping);
  g_assert_false (is_answered (&guests, 0, HOST_ADDRESS, 1));
  for (guint16 port = 1; ports->len < BANGER_REACH_MAX_PORTS - 1; port++)
    g_array_append_val (ports, port);
  g_array_append_val (ports, ((guint16){ 65535 }));
  g_assert_true (banger_reach_set (&root, guests.leases[0], links, ports, &error));
  g_assert_true (is_answered (&guests, 0, HOST_ADDRESS, 1));
  g_assert_true (is_answered (&guests, 0, HOST_ADDRESS, 65535));
  g_assert_false (is_answered (&guests, 0, HOST_ADDRESS, BANGER_REACH_MAX_PORTS));
  g_assert_false (is_answered (&guests, 0, "198.51.100.1", 1)); /* the host by another of its addresses */
  g_assert_false (is_answered (&guests, 1, HOST_ADDRESS, 1));
  const Frame udp = { BARE, 0, NOWHERE, OWN, GATEWAY, UDP, A, HOST_ADDRESS, 0, PORT };
  try_frame (&guests, &udp);
  g_assert_cmpint (banger_filter_mend (&root, &error), ==, BANGER_FILTER_MENDED);
  g_assert_true (is_answered (&guests, 0, HOST_ADDRESS, 65535));
  g_array_set_size (ports, 0);
  g_assert_true (banger_reach_set (&root, guests.leases[0], links, ports, &error));
  g_assert_false (is_answered (&guests, 0, HOST_ADDRESS, 1));
  close_guests (&guests);
}

static void
test_lease (void)
{
  static const struct {
    const char *links, *ports;
    gboolean good;
  } rows[] = {
    { NULL, NULL, TRUE },
    { "aaaaaaaaaaaa,bbbbbbbbbbbb", "1,65535", TRUE },
    { "", NULL, FALSE },
    { NULL, "", FALSE },
    { VM, NULL, FALSE },
    { "aaaaaaaaaaaa,", NULL, FALSE },
    { "aaaa aaaa", NULL, FALSE },
    { NULL, "0", FALSE },
    { NULL, "65536", FALSE },
    { NULL, "80 }; drop", FALSE },
    { NULL, "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16", TRUE },
    { NULL, "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", FALSE },
  };
  for (size_t i = 0; i < G_N_ELEMENTS (rows); i++)
    g_assert_cmpint (banger_gate_reach (VM, rows[i].links, rows[i].ports, NULL), ==, rows[i].good);
}

static void
add (void)
{
  g_test_add_func ("/links", test_links);
  g_test_add_func ("/comes-and-goes", test_comes_and_goes);
  g_test_add_func ("/refused", test_refused);
  g_test_add_func ("/ports", test_ports);
  g_test_add_func ("/lease", test_lease);
}

int
main (int argc, char **argv)
{
  return network_main (argc, argv, add);
}

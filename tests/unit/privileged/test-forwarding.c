/* Who gets a router, and that the tables come back, whoever takes them away.
 * Run by meson test as root. */
#include "net-guests.h"

#include <linux/if_packet.h>
#include <netinet/ip.h>
#include <netinet/udp.h>

#include "common/state-file.h"
#include "privileged/filter-watch.h"
#include "privileged/filter.h"
#include "privileged/forward.h"
#include "privileged/netlink.h"

/* `flush ruleset` ends no filter while the helper runs; and of what is left of a bridge alone, nobody hears anything.
 */
static void
test_flush (void)
{
  Guests guests;
  open_guests (&guests);
  const Frame echo = { BARE, 0, SELF, OWN, GATEWAY, ECHO, "10.213.0.5", "10.213.0.1" },
              forged = { BARE, 1, NOWHERE, ITS, GATEWAY, ECHO, "10.213.0.5", "10.213.0.1" },
              service = { BARE, 1, NOWHERE, OWN, GATEWAY, UDP, "10.213.0.6", "10.213.0.1" };
  try_frame (&guests, &echo);
  g_free (run ("nft flush ruleset"));
  try_frame (&guests, &echo);
  try_frame (&guests, &forged);
  try_frame (&guests, &service);
  g_autoptr (GError) error = NULL;
  g_assert_true (banger_nat_ensure (&root, guests.leases[0], places[0].guest_address, &error));
  g_autofree char *back = run ("nft list tables");
  g_assert_nonnull (strstr (back, "table inet banger\n"));
  close_guests (&guests);
}

/* From the host outside, into up0. */
static void
write_outside (const char *from, const char *to, guint16 port, guint16 to_port, guint64 mark)
{
  g_autoptr (GByteArray) bytes = g_byte_array_new ();
  banger_autofd int fd = socket (AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  struct sockaddr_ll link = { .sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex ("out0") };
  static const guint8 ip[] = { 8, 0 }, source[] = { 2, 0, 0, 0, 0, 2 };
  struct iphdr header = { .ihl = 5, .version = 4, .ttl = 64, .protocol = IPPROTO_UDP };
  struct udphdr udp = { .source = htons (port), .dest = htons (to_port), .len = htons (sizeof udp + sizeof mark) };
  guint8 mac[ETH_ALEN];
  link_address ("up0", mac);
  g_byte_array_append (bytes, mac, sizeof mac);
  g_byte_array_append (bytes, source, sizeof source);
  g_byte_array_append (bytes, ip, sizeof ip);
  header.tot_len = htons (sizeof header + sizeof udp + sizeof mark);
  inet_pton (AF_INET, from, &header.saddr);
  inet_pton (AF_INET, to, &header.daddr);
  header.check = header_sum (&header, sizeof header);
  g_byte_array_append (bytes, (guint8 *)&header, sizeof header);
  g_byte_array_append (bytes, (guint8 *)&udp, sizeof udp);
  g_byte_array_append (bytes, (guint8 *)&mark, sizeof mark);
  g_assert_cmpint (sendto (fd, bytes->data, bytes->len, 0, (struct sockaddr *)&link, sizeof link), ==, bytes->len);
}

/* Whether the host forwards between links that are not banger's. */
static gboolean
forwards (Guests *guests)
{
  guint64 mark = (guint64)g_random_int () << 32 | g_random_int ();
  const Frame frame = { .guest = 0, .what = UDP };
  int uplink = guests->out_index;
  guests->out_index = (int)if_nametoindex ("low0");
  write_outside (OUTSIDE, "203.0.113.2", 7, 7, mark);
  gboolean found = arrives (guests, &frame, mark) == OUT;
  guests->out_index = uplink;
  return found;
}

static char *
settings (void)
{
  return run ("sh -c 'for i in all default up0 low0; do cat /proc/sys/net/ipv4/conf/$i/forwarding; done'");
}

/* A guest goes out and is answered, and nobody else gets a router by that, unless somebody wants one. */
static void
test_forwarding (void)
{
  Guests guests;
  g_autoptr (GError) error = NULL;
  open_guests (&guests);
  g_free (run ("sh -c 'echo 0 > /proc/sys/net/ipv4/ip_forward'"));
  g_free (run ("ip link add low0 type veth peer name low1"));
  g_free (run ("ip addr add 203.0.113.1/24 dev low0 label low0:a"));
  g_free (run ("ip link set low0 up"));
  g_free (run ("ip link set low1 up"));
  g_free (run ("ip neigh add 203.0.113.2 lladdr 02:00:00:00:00:03 dev low0"));
  g_free (run ("sh -c 'echo 1 > /proc/sys/net/ipv4/conf/low0/forwarding'")); /* its own choice */
  g_assert_true (banger_forward_watch_start (&root, &error));
  const Frame out = { NAT, 0, OUT, OWN, GATEWAY, UDP, "10.213.0.5", OUTSIDE, 0, 4242 };
  g_autofree char *off = settings ();
  g_assert_cmpstr (off, ==, "0\n0\n0\n1\n");
  g_assert_false (forwards (&guests));
  for (int round = 0; round < 2; round++) {
    g_assert_true (banger_nat_ensure (&root, guests.leases[0], places[0].guest_address, &error));
    g_assert_no_error (error);
    try_frame (&guests, &out);
    write_outside (OUTSIDE, "198.51.100.1", PORT, out.port, 4711 + (guint64)round);
    g_assert_cmpint (arrives (&guests, &out, 4711 + (guint64)round), ==, SELF);
    g_assert_false (forwards (&guests));
    if (round == 1)
      break;
    g_assert_true (banger_nat_remove (&root, guests.leases[0], &error));
    g_autofree char *again = settings ();
    g_assert_cmpstr (again, ==, off);
    try_frame (&guests, &(const Frame){ NAT, 0, NOWHERE, OWN, GATEWAY, UDP, "10.213.0.5", OUTSIDE, 0, 4243 });
  }
  /* Another service needs a router. */
  g_free (run ("sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'"));
  for (gint64 end = g_get_monotonic_time () + 60 * G_USEC_PER_SEC; !forwards (&guests);) {
    g_main_context_iteration (NULL, FALSE);
    g_assert_cmpint (g_get_monotonic_time (), <, end);
  }
  try_frame (&guests, &out);
  g_assert_true (banger_nat_remove (&root, guests.leases[0], &error));
  g_autofree char *on = settings ();
  g_assert_cmpstr (on, ==, "1\n1\n1\n1\n");
  g_assert_true (forwards (&guests));
  /* It ends: guests that came meanwhile do not lose their way out. */
  g_assert_true (banger_nat_ensure (&root, guests.leases[0], places[0].guest_address, &error));
  g_free (run ("sh -c 'echo 0 > /proc/sys/net/ipv4/ip_forward'"));
  for (gint64 end = g_get_monotonic_time () + G_USEC_PER_SEC; g_get_monotonic_time () < end;)
    g_main_context_iteration (NULL, FALSE);
  try_frame (&guests, &out);
  g_assert_false (forwards (&guests));
  g_free (run ("ip link del low0"));
  close_guests (&guests);
  banger_forward_watch_stop ();
  g_autofree char *last = run ("cat /proc/sys/net/ipv4/conf/all/forwarding");
  g_assert_cmpstr (last, ==, "0\n");
}

/* Without the note of what was lent, links that were would forward for everybody, and for good. */
static void
test_forwarding_forgotten (void)
{
  static const char *const notes[] = { "",
                                       "{ \"lent\": [",
                                       "[]",
                                       "{}",
                                       "{ \"lent\": 7 }",
                                       "{ \"lent\": [ \"up0\" ] }",
                                       "{ \"lent\": [ 0 ] }",
                                       "{ \"lent\": [ 1, 99999999999 ] }" };
  Guests guests;
  g_autoptr (GError) error = NULL;
  open_guests (&guests);
  g_free (run ("sh -c 'echo 0 > /proc/sys/net/ipv4/ip_forward'"));
  g_free (run ("ip link add low0 type veth peer name low1"));
  g_free (run ("ip addr add 203.0.113.1/24 dev low0"));
  g_free (run ("ip link set low0 up"));
  g_free (run ("ip link set low1 up"));
  g_free (run ("ip neigh add 203.0.113.2 lladdr 02:00:00:00:00:03 dev low0"));
  g_autofree char *off = settings ();
  g_assert_cmpstr (off, ==, "0\n0\n0\n0\n");
  const Frame out = { NAT, 0, OUT, OWN, GATEWAY, UDP, "10.213.0.5", OUTSIDE, 0, 4244 };
  for (size_t i = 0; i < G_N_ELEMENTS (notes); i++) {
    g_assert_true (banger_nat_ensure (&root, guests.leases[0], places[0].guest_address, &error));
    g_autofree char *noted = banger_state_read (root.runtime_fd, "forwarding.json", NULL, NULL, &error);
    g_assert_no_error (error);
    g_assert_true (banger_state_write (root.runtime_fd, "forwarding.json", notes[i], strlen (notes[i]), 0600, &error));
    g_autoptr (GArray) none = g_array_new (FALSE, FALSE, sizeof (guint));
    G_LOCK (banger_network);
    g_assert_true (banger_filter_lend_locked (&root, none, &error)); /* a helper that starts knows of none */
    G_UNLOCK (banger_network);
    g_assert_true (banger_forward_watch_start (&root, &error));
    banger_forward_watch_stop ();
    g_assert_false (forwards (&guests));
    try_frame (&guests, &out);
    g_autofree char *again = banger_state_read (root.runtime_fd, "forwarding.json", NULL, NULL, &error);
    g_assert_cmpuint (strlen (again), ==, strlen (noted)); /* the same links, in whatever order */
    if (i % 2)                                             /* forgotten by one that takes the last guest's way out */
      g_assert_true (
          banger_state_write (root.runtime_fd, "forwarding.json", notes[i], strlen (notes[i]), 0600, &error));
    g_assert_true (banger_nat_remove (&root, guests.leases[0], &error));
    g_autofree char *back = settings ();
    g_assert_cmpstr (back, ==, off);
    g_assert_null (banger_state_read (root.runtime_fd, "forwarding.json", NULL, NULL, NULL));
  }
  /* None is there: nothing is lent, and what forwards is somebody's choice. */
  g_free (run ("sh -c 'echo 1 > /proc/sys/net/ipv4/conf/low0/forwarding'"));
  g_assert_true (banger_nat_ensure (&root, guests.leases[0], places[0].guest_address, &error));
  g_assert_true (banger_nat_remove (&root, guests.leases[0], &error));
  g_autofree char *own = settings ();
  g_assert_cmpstr (own, ==, "0\n0\n0\n1\n");
  g_free (run ("ip link del low0"));
  close_guests (&guests);
}

/* As many calls as an owner may have under way, each of which waits for something. */
#define CROWD 240
static GMutex crowd_lock;
static GCond crowd_over;
static gboolean crowd_waits;

static void
wait_in_crowd (GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
  g_mutex_lock (&crowd_lock);
  while (crowd_waits)
    g_cond_wait (&crowd_over, &crowd_lock);
  g_mutex_unlock (&crowd_lock);
  g_task_return_boolean (task, TRUE);
}

static void
on_crowd_left (GObject *source, GAsyncResult *result, gpointer data)
{
  (*(guint *)data)--;
}

static void
begin_crowd (guint *left)
{
  crowd_waits = TRUE;
  for (*left = 0; *left < CROWD; ++*left) {
    g_autoptr (GTask) task = g_task_new (NULL, NULL, on_crowd_left, left);
    g_task_run_in_thread (task, wait_in_crowd);
  }
}

static void
end_crowd (guint *left)
{
  g_mutex_lock (&crowd_lock);
  crowd_waits = FALSE;
  g_cond_broadcast (&crowd_over);
  g_mutex_unlock (&crowd_lock);
  while (*left > 0)
    g_main_context_iteration (NULL, TRUE);
}

/* Whoever takes a part of the tables away, it is back, however many calls wait, and the helper's own changes are left
 * alone. */
static void
test_watch (void)
{
  static const char *const changes[] = {
    "nft flush ruleset",
    "nft delete table inet banger",
    "nft delete table bridge banger",
    "nft flush set bridge banger guests",
    "nft flush chain inet banger input",
    "nft delete element inet banger taps { tap-fc-aaaaaaaa }",
    "nft insert rule inet banger input accept",
  };
  guint left;
  Guests guests;
  g_autoptr (GError) error = NULL;
  g_assert_true (banger_filter_watch_start (&root, &error));
  open_guests (&guests);
  g_assert_true (banger_nat_ensure (&root, guests.leases[0], places[0].guest_address, &error));
  g_autofree char *before = run ("nft list ruleset"), *handles = run ("nft -a list ruleset");
  for (gint64 end = g_get_monotonic_time () + 300000; g_get_monotonic_time () < end;)
    g_main_context_iteration (NULL, FALSE);
  g_autofree char *same = run ("nft -a list ruleset");
  g_assert_cmpstr (same, ==, handles);
  begin_crowd (&left);
  for (size_t i = 0; i < G_N_ELEMENTS (changes); i++) {
    g_autofree char *changed = NULL, *now = NULL;
    g_free (run (changes[i]));
    changed = run ("nft list ruleset");
    g_assert_cmpstr (changed, !=, before);
    for (gint64 end = g_get_monotonic_time () + 60 * G_USEC_PER_SEC; g_strcmp0 (now, before) != 0;) {
      g_main_context_iteration (NULL, FALSE);
      g_free (now);
      now = run ("nft list ruleset");
      if (g_get_monotonic_time () > end)
        g_error ("not put back after %s: %s", changes[i], now);
    }
  }
  end_crowd (&left);
  close_guests (&guests);
  banger_filter_watch_stop ();
}

static void
add_tests (void)
{
  g_test_add_func ("/flush", test_flush);
  g_test_add_func ("/watch", test_watch);
  g_test_add_func ("/forwarding", test_forwarding);
  g_test_add_func ("/forwarding-forgotten", test_forwarding_forgotten);
}

int
main (int argc, char **argv)
{
  return network_main (argc, argv, add_tests);
}

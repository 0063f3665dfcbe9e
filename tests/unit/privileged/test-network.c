/* Bridge, tap and NAT for real, in a network namespace that nobody else has.
 * Run by meson test as root.
 * Never changes the host's network. */
#include <errno.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>

#include "common/safe-path.h"
#include "privileged/bridge.h"
#include "privileged/lease.h"
#include "privileged/nat.h"
#include "privileged/tap.h"

#define VM "0123456789ab"
#define CIDR "10.213.0.1/24"

static BangerInstall install = {
  .max_vms = 4, .max_taps = 2, .max_bridges = 2, .bridge_address = (char *)"10.213.0.2/24"
};
static BangerRoot root = { .install = &install };

static void
test_script (void)
{
  g_autoptr (GPtrArray) none = g_ptr_array_new ();
  g_autofree char *empty = banger_nat_script (none);
  const char *start = "add table netdev banger\ndelete table netdev banger\n"
                      "add table inet banger\ndelete table inet banger\n";
  g_assert_cmpstr (empty, ==, start);

  BangerLease open = { .vm = (char *)VM,
                       .tap = (char *)"tap-fc-01234567",
                       .bridge = (char *)"br-fc-one",
                       .bridge_address = (char *)CIDR,
                       .guest_address = (char *)"10.213.0.5" };
  BangerLease closed = { .vm = (char *)"89abcdef0123",
                         .tap = (char *)"tap-fc-89abcdef",
                         .bridge = (char *)"br-fc-one",
                         .bridge_address = (char *)CIDR };
  g_autoptr (GPtrArray) leases = g_ptr_array_new ();
  g_ptr_array_add (leases, &closed);
  g_autofree char *alone = banger_nat_script (leases);
  g_autofree char *expected = g_strconcat (
      start,
      "table netdev banger {\n"
      "  chain guest_89abcdef {\n"
      "    type filter hook ingress device \"tap-fc-89abcdef\" priority filter; policy drop;\n"
      "    meta protocol arp accept\n"
      "    ip saddr 10.213.0.1/24 ip daddr 10.213.0.1 accept\n"
      "  }\n"
      "}\n"
      "table inet banger {\n"
      "  chain forward {\n"
      "    type filter hook forward priority filter; policy accept;\n"
      "    iifname { \"br-fc-one\" } oifname { \"br-fc-one\" } drop\n"
      "    iifname { \"br-fc-one\" } drop\n"
      "    oifname { \"br-fc-one\" } drop\n"
      "  }\n"
      "}\n",
      NULL);
  g_assert_cmpstr (alone, ==, expected);

  g_ptr_array_add (leases, &open);
  g_autofree char *both = banger_nat_script (leases);
  g_assert_nonnull (strstr (both, "device \"tap-fc-01234567\" priority filter; policy drop;\n"
                                  "    meta protocol arp accept\n    ip saddr 10.213.0.5 accept\n  }\n"));
  g_assert_nonnull (strstr (both, "ip saddr 10.213.0.1/24 ip daddr 10.213.0.1 accept\n  }\n"));
  g_assert_nonnull (strstr (both, "iifname \"br-fc-one\" ip saddr 10.213.0.5 accept comment \"tap-fc-01234567\"\n"));
  g_assert_nonnull (strstr (both, "masquerade comment \"tap-fc-01234567\"\n"));
  g_assert_null (strstr (both, "comment \"tap-fc-89abcdef\""));
}

static char *
run (const char *command)
{
  char *out = NULL;
  g_autoptr (GError) error = NULL;
  g_spawn_command_line_sync (command, &out, NULL, NULL, &error);
  g_assert_no_error (error);
  return out;
}

static void
test_bridge (void)
{
  g_autoptr (GError) overlap = NULL, second = NULL;
  g_assert_true (banger_bridge_ensure (&root, "br-fc-one", CIDR, NULL));
  g_assert_true (banger_bridge_ensure (&root, "br-fc-one", CIDR, NULL));
  g_assert_false (banger_bridge_ensure (&root, "br-fc-one", "10.99.0.1/24", &second));
  g_assert_error (second, BANGER_ERROR, BANGER_ERROR_INVALID_NETWORK);
  g_assert_false (banger_bridge_ensure (&root, "br-fc-two", "10.213.0.129/25", &overlap));
  g_assert_error (overlap, BANGER_ERROR, BANGER_ERROR_INVALID_NETWORK);
  g_assert_cmpuint (if_nametoindex ("br-fc-two"), ==, 0);
  g_assert_false (banger_bridge_ensure (&root, "eth0", CIDR, NULL));
  g_assert_true (banger_bridge_remove ("br-fc-one", NULL));
  g_assert_true (banger_bridge_remove ("br-fc-one", NULL));
  g_assert_cmpuint (if_nametoindex ("br-fc-one"), ==, 0);
}

/* The traffic that the host sends elsewhere is not drawn to a bridge, whatever table and kind the route is of. */
static void
test_routes (void)
{
  static const char *const routes[] = {
    "10.213.0.128/25 dev wg0",  "10.213.0.0/24 dev wg0 metric 50",
    "10.0.0.0/8 via 10.99.0.2", "10.213.0.9/32 dev wg0 table 7",
    "blackhole 10.213.0.0/16",  "10.213.0.0/16 nexthop via 10.99.0.2 nexthop via 10.99.0.3",
  };
  static const char *const others[] = { "default via 10.99.0.2", "128.0.0.0/1 dev wg0", "0.0.0.0/1 dev wg0",
                                        "10.213.1.0/24 dev wg0", "8.0.0.0/6 dev wg0" };
  g_free (run ("ip link add wg0 type bridge"));
  g_free (run ("ip addr add 10.99.0.1/24 dev wg0"));
  g_free (run ("ip link set wg0 up"));
  for (size_t i = 0; i < G_N_ELEMENTS (routes); i++) {
    g_autoptr (GError) error = NULL;
    g_autofree char *add = g_strconcat ("ip route add ", routes[i], NULL), *before = NULL, *after = NULL;
    g_autofree char *del = g_strconcat ("ip route del ", routes[i], NULL);
    before = run ("ip -d route show table all");
    g_free (run (add));
    after = run ("ip -d route show table all");
    g_assert_cmpstr (before, !=, after);
    if (banger_bridge_ensure (&root, "br-fc-one", CIDR, &error))
      g_error ("a bridge beside the route %s", routes[i]);
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_NETWORK);
    g_assert_nonnull (strstr (error->message, "has a route to 10."));
    g_assert_cmpuint (if_nametoindex ("br-fc-one"), ==, 0);
    g_assert_true (banger_bridge_ensure (&root, "br-fc-one", install.bridge_address, NULL));
    g_assert_true (banger_bridge_remove ("br-fc-one", NULL));
    g_free (run (del));
  }
  for (size_t i = 0; i < G_N_ELEMENTS (others); i++) {
    g_autofree char *add = g_strconcat ("ip route add ", others[i], NULL);
    g_free (run (add));
  }
  g_autoptr (GError) none = NULL;
  g_assert_true (banger_bridge_ensure (&root, "br-fc-one", CIDR, &none));
  /* It has its address: a VPN that comes later does not stop VMs. */
  g_free (run ("ip route add 10.213.0.128/25 dev wg0"));
  g_assert_true (banger_bridge_ensure (&root, "br-fc-one", CIDR, &none));
  /* Nor does a route over the bridge itself, but one that also leads elsewhere is the host's. */
  g_free (run ("ip route del 10.213.0.128/25 dev wg0"));
  static const struct {
    const char *route;
    gboolean ok;
  } own[] = { { "dev br-fc-one", TRUE }, { "nexthop dev br-fc-one nexthop via 10.99.0.2", FALSE } };
  for (size_t i = 0; i < G_N_ELEMENTS (own); i++) {
    g_autoptr (GError) error = NULL;
    g_autofree char *add = g_strconcat ("ip route add 10.213.0.0/25 ", own[i].route, NULL);
    g_free (run ("ip addr flush dev br-fc-one"));
    g_free (run (add));
    if (banger_bridge_ensure (&root, "br-fc-one", CIDR, &error) != own[i].ok)
      g_error ("the route %s: %s", own[i].route, error ? error->message : "no error");
    g_free (run ("ip route del 10.213.0.0/25"));
  }
  g_assert_true (banger_bridge_remove ("br-fc-one", NULL));
  g_free (run ("ip link del wg0"));
}

static void
test_bridge_quota (void)
{
  g_autoptr (GError) error = NULL, full = NULL;
  g_free (run ("ip link add br-other type bridge"));
  g_assert_true (banger_bridge_ensure (&root, "br-fc-one", CIDR, &error));
  g_assert_true (banger_bridge_ensure (&root, "br-fc-two", "10.213.1.1/24", &error));
  g_assert_false (banger_bridge_ensure (&root, "br-fc-three", "10.213.2.1/24", &full));
  g_assert_error (full, BANGER_ERROR, BANGER_ERROR_LIMITS_EXCEEDED);
  g_assert_nonnull (strstr (full->message, "limits.bridges"));
  g_assert_cmpuint (if_nametoindex ("br-fc-three"), ==, 0);
  g_assert_true (banger_bridge_ensure (&root, "br-fc-one", CIDR, &error));
  g_assert_true (banger_bridge_remove ("br-fc-two", NULL));
  g_assert_true (banger_bridge_ensure (&root, "br-fc-three", "10.213.2.1/24", &error));
  g_assert_true (banger_bridge_remove ("br-fc-one", NULL) && banger_bridge_remove ("br-fc-three", NULL));
  g_free (run ("ip link del br-other"));
}

static void
test_tap_and_nat (void)
{
  g_autoptr (GError) error = NULL, busy = NULL;
  g_autoptr (BangerLease) lease = banger_lease_ensure (&root, VM, 54321, NULL, NULL);
  g_autofree char *tap = banger_tap_create (&root, lease, "br-fc-one", CIDR, &error);
  g_assert_no_error (error);
  g_autofree char *again = banger_tap_create (&root, lease, "br-fc-one", CIDR, &error);
  g_assert_no_error (error);
  g_assert_cmpstr (again, ==, tap);
  g_assert_false (banger_bridge_remove ("br-fc-one", &busy));
  g_assert_error (busy, BANGER_ERROR, BANGER_ERROR_IN_USE);
  g_autofree char *links = run ("ip -d link show dev tap-fc-01234567");
  g_assert_nonnull (strstr (links, "isolated on"));
  g_assert_nonnull (strstr (links, "learning off"));
  g_assert_nonnull (strstr (links, "user 54321"));

  g_autofree char *closed = run ("nft list table netdev banger");
  g_assert_nonnull (strstr (closed, "device \"tap-fc-01234567\""));
  g_assert_nonnull (strstr (closed, "ip saddr 10.213.0.0/24 ip daddr 10.213.0.1 accept"));
  g_autofree char *before = run ("cat /proc/sys/net/ipv4/ip_forward");
  g_assert_true (banger_nat_ensure (&root, lease, "10.213.0.5", &error));
  g_assert_no_error (error);
  g_assert_true (banger_nat_ensure (&root, lease, "10.213.0.5", NULL));
  g_assert_false (banger_nat_ensure (&root, lease, "10.213.0.6", NULL));
  g_autofree char *table = run ("nft list ruleset"), *on = run ("cat /proc/sys/net/ipv4/ip_forward");
  g_assert_nonnull (strstr (table, "ip saddr 10.213.0.5 oifname != \"br-fc-one\" masquerade"));
  g_assert_nonnull (strstr (table, "device \"tap-fc-01234567\""));
  g_assert_null (strstr (table, "ip daddr 10.213.0.1 accept"));
  g_assert_cmpstr (on, ==, "1\n");
  g_autofree char *neighbours = run ("ip neigh show dev br-fc-one");
  g_assert_nonnull (strstr (neighbours, "10.213.0.5 lladdr 06:"));
  g_assert_nonnull (strstr (neighbours, "PERMANENT"));

  g_assert_true (banger_nat_remove (&root, lease, &error));
  g_autofree char *again_closed = run ("nft list table netdev banger");
  g_autofree char *after = run ("cat /proc/sys/net/ipv4/ip_forward");
  g_assert_cmpstr (again_closed, ==, closed);
  g_assert_cmpstr (after, ==, before);
  g_assert_true (banger_tap_delete (lease, NULL));
  g_assert_true (banger_tap_delete (lease, NULL));
  g_assert_true (banger_nat_remove (&root, lease, NULL));
  g_autofree char *tables = run ("nft list tables");
  g_assert_null (strstr (tables, "banger"));
  g_assert_true (banger_bridge_remove ("br-fc-one", NULL));
  g_assert_true (banger_lease_remove (&root, VM, NULL));
}

/* Forwarding goes off with the last guest, and only if banger switched it on. */
static void
test_forwarding (void)
{
  g_autoptr (GError) error = NULL, full = NULL;
  const char *vms[] = { "aaaaaaaaaaaa", "bbbbbbbbbbbb" }, *guests[] = { "10.213.0.5", "10.213.0.6" };
  g_autoptr (GPtrArray) leases = g_ptr_array_new_with_free_func ((GDestroyNotify)banger_lease_free);
  for (int before = 0; before <= 1; before++) {
    g_autofree char *command = g_strdup_printf ("sh -c 'echo %d > /proc/sys/net/ipv4/ip_forward'", before);
    g_autofree char *set = run (command);
    for (int i = 0; i < 2; i++) {
      BangerLease *lease = banger_lease_ensure (&root, vms[i], 54321, NULL, NULL);
      g_ptr_array_add (leases, lease);
      g_autofree char *tap = banger_tap_create (&root, lease, "br-fc-one", CIDR, &error);
      g_assert_no_error (error);
      g_assert_true (banger_nat_ensure (&root, lease, guests[i], &error));
    }
    /* limits.taps is 2 here. */
    g_autoptr (BangerLease) third = banger_lease_ensure (&root, "cccccccccccc", 54321, NULL, NULL);
    g_assert_null (banger_tap_create (&root, third, "br-fc-one", CIDR, &full));
    g_assert_error (full, BANGER_ERROR, BANGER_ERROR_LIMITS_EXCEEDED);
    g_assert_cmpuint (if_nametoindex ("tap-fc-cccccccc"), ==, 0);
    g_clear_error (&full);
    g_assert_true (banger_lease_remove (&root, "cccccccccccc", NULL));
    for (int i = 0; i < 2; i++) {
      BangerLease *lease = leases->pdata[i];
      g_assert_true (banger_tap_delete (lease, NULL) && banger_nat_remove (&root, lease, NULL)
                     && banger_lease_remove (&root, lease->vm, NULL));
      g_autofree char *now = run ("cat /proc/sys/net/ipv4/ip_forward");
      g_assert_cmpstr (now, ==, i == 0 || before ? "1\n" : "0\n");
    }
    g_ptr_array_set_size (leases, 0);
  }
  g_assert_true (banger_bridge_remove ("br-fc-one", NULL));
}

/* What frames of guests reach. */
enum { NOWHERE, HOST, OUT };
enum { BARE, NAT, REMOVED }; /* what guest 0 has: a tap alone, NAT, NAT no more; guest 1 only ever has a tap */
#define OUTSIDE "198.51.100.2"
#define PORT 2000

static const struct {
  int state, guest;
  const char *from, *to;
  guint tags; /* of VLAN 0 */
  int reaches;
} frames[] = {
  { BARE, 0, "10.213.0.5", "10.213.0.1", 0, HOST },
  { BARE, 1, "10.213.0.6", "10.213.0.1", 0, HOST },
  { BARE, 1, "10.213.0.6", OUTSIDE, 0, NOWHERE },
  { BARE, 1, "10.213.0.6", OUTSIDE, 2, NOWHERE },
  { BARE, 1, "10.213.0.6", "10.213.0.5", 0, NOWHERE },
  { BARE, 1, "10.213.0.6", "198.51.100.1", 0, NOWHERE }, /* the host by another address of its own */
  { BARE, 1, OUTSIDE, "10.213.0.1", 0, NOWHERE },        /* whom the host would answer */
  { NAT, 0, "10.213.0.5", OUTSIDE, 0, OUT },
  { NAT, 0, "10.213.0.9", OUTSIDE, 0, NOWHERE },
  { NAT, 0, "10.213.0.6", "10.213.0.1", 0, NOWHERE },
  { NAT, 1, "10.213.0.6", "10.213.0.1", 0, HOST },
  { NAT, 1, "10.213.0.6", OUTSIDE, 0, NOWHERE },
  { NAT, 1, "10.213.0.5", OUTSIDE, 0, NOWHERE }, /* as the one that may */
  { NAT, 1, "10.213.0.5", OUTSIDE, 1, NOWHERE },
  { NAT, 1, "10.213.0.5", OUTSIDE, 2, NOWHERE },
  { NAT, 1, "10.213.0.5", OUTSIDE, 3, NOWHERE },
  { REMOVED, 0, "10.213.0.5", "10.213.0.1", 0, HOST },
  { REMOVED, 0, "10.213.0.5", OUTSIDE, 0, NOWHERE },
};

static int
open_tap (const char *name)
{
  struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
  int fd = open ("/dev/net/tun", O_RDWR | O_CLOEXEC);
  g_strlcpy (request.ifr_name, name, sizeof request.ifr_name);
  g_assert_no_errno (fd);
  g_assert_no_errno (ioctl (fd, TUNSETIFF, &request));
  return fd;
}

static guint16
header_sum (const void *header, size_t bytes)
{
  guint32 sum = 0;
  for (size_t i = 0; i < bytes; i += 2) {
    guint16 word;
    memcpy (&word, (const char *)header + i, sizeof word);
    sum += word;
  }
  sum = (sum >> 16) + (sum & 0xffff);
  return (guint16) ~(sum + (sum >> 16));
}

/* A datagram in a frame for the gateway. */
static void
write_frame (int tap, size_t which, guint64 mark)
{
  g_autoptr (GByteArray) frame = g_byte_array_new ();
  struct ifreq gateway = { .ifr_name = "br-fc-one" };
  banger_autofd int fd = socket (AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  static const guint8 vnet[10], source[ETH_ALEN] = { 6, 0, 0, 0, 0, 9 }, tag[] = { 0x81, 0, 0, 0 }, ip[] = { 8, 0 };
  struct iphdr header = { .ihl = 5, .version = 4, .ttl = 64, .protocol = IPPROTO_UDP };
  struct udphdr udp = { .source = htons (1000), .dest = htons (PORT), .len = htons (sizeof udp + sizeof mark) };
  g_assert_no_errno (ioctl (fd, SIOCGIFHWADDR, &gateway));
  header.tot_len = htons (sizeof header + sizeof udp + sizeof mark);
  g_assert_cmpint (inet_pton (AF_INET, frames[which].from, &header.saddr), ==, 1);
  g_assert_cmpint (inet_pton (AF_INET, frames[which].to, &header.daddr), ==, 1);
  header.check = header_sum (&header, sizeof header);
  g_byte_array_append (frame, vnet, sizeof vnet);
  g_byte_array_append (frame, (guint8 *)gateway.ifr_hwaddr.sa_data, ETH_ALEN);
  g_byte_array_append (frame, source, sizeof source);
  for (guint i = 0; i < frames[which].tags; i++)
    g_byte_array_append (frame, tag, sizeof tag);
  g_byte_array_append (frame, ip, sizeof ip);
  g_byte_array_append (frame, (guint8 *)&header, sizeof header);
  g_byte_array_append (frame, (guint8 *)&udp, sizeof udp);
  g_byte_array_append (frame, (guint8 *)&mark, sizeof mark);
  g_assert_cmpint (write (tap, frame->data, frame->len), ==, frame->len);
}

/* Where @mark arrives within 300 ms: at @host, a socket of the host's, or in what the host sends to whatever link. */
static int
arrives (int host, int links, guint64 mark)
{
  for (gint64 end = g_get_monotonic_time () + 300000; g_get_monotonic_time () < end; g_usleep (5000)) {
    guint8 data[2048];
    struct sockaddr_ll from;
    socklen_t size = sizeof from;
    ssize_t n = recv (host, data, sizeof data, 0);
    if (n == sizeof mark && memcmp (data, &mark, sizeof mark) == 0)
      return HOST;
    while ((n = recvfrom (links, data, sizeof data, 0, (struct sockaddr *)&from, &size)) > 0)
      if (from.sll_pkttype == PACKET_OUTGOING && memmem (data, (size_t)n, &mark, sizeof mark))
        return OUT;
  }
  return NOWHERE;
}

/* The first frames wait until the bridge forwards for a port that has just been opened. */
static void
try_frames (int state, const int *taps, int host, int links)
{
  for (size_t i = 0; i < G_N_ELEMENTS (frames); i++) {
    int reached = NOWHERE;
    for (int n = 0; frames[i].state == state && n < (frames[i].reaches == NOWHERE ? 1 : 30); n++) {
      guint64 mark = (guint64)g_random_int () << 32 | g_random_int ();
      write_frame (taps[frames[i].guest], i, mark);
      reached = arrives (host, links, mark);
      if (reached != NOWHERE)
        break;
    }
    if (frames[i].state == state && reached != frames[i].reaches)
      g_error ("state %d, guest %d: %s to %s in %u tags reaches %d, not %d", state, frames[i].guest, frames[i].from,
               frames[i].to, frames[i].tags, reached, frames[i].reaches);
  }
}

/* Guests that write what they like, on a host that forwards everything. */
static void
test_forged_frames (void)
{
  const char *vms[] = { "aaaaaaaaaaaa", "bbbbbbbbbbbb" };
  BangerLease *leases[2];
  int taps[2];
  g_autoptr (GError) error = NULL;
  static const char *const commands[] = {
    "ip link add up0 type veth peer name out0",
    "ip addr add 198.51.100.1/24 dev up0",
    "ip link set up0 up",
    "ip link set out0 up",
    "ip neigh add " OUTSIDE " lladdr 02:00:00:00:00:02 dev up0",
    "sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'",
  };
  for (size_t i = 0; i < G_N_ELEMENTS (commands); i++)
    g_free (run (commands[i]));
  for (int i = 0; i < 2; i++) {
    leases[i] = banger_lease_ensure (&root, vms[i], 54321, NULL, NULL);
    g_autofree char *tap = banger_tap_create (&root, leases[i], "br-fc-one", CIDR, &error);
    g_assert_no_error (error);
    taps[i] = open_tap (tap);
  }
  g_free (run ("ip neigh add 10.213.0.5 lladdr 06:00:00:00:00:05 dev br-fc-one"));
  banger_autofd int host = socket (AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  banger_autofd int links = socket (AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons (ETH_P_ALL));
  struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons (PORT) };
  g_assert_no_errno (links);
  g_assert_no_errno (bind (host, (struct sockaddr *)&any, sizeof any));

  try_frames (BARE, taps, host, links);
  g_assert_true (banger_nat_ensure (&root, leases[0], "10.213.0.5", &error));
  try_frames (NAT, taps, host, links);
  g_assert_true (banger_nat_remove (&root, leases[0], &error));
  try_frames (REMOVED, taps, host, links);

  for (int i = 0; i < 2; i++) {
    close (taps[i]);
    g_assert_true (banger_tap_delete (leases[i], NULL) && banger_nat_remove (&root, leases[i], NULL)
                   && banger_lease_remove (&root, vms[i], NULL));
    banger_lease_free (leases[i]);
  }
  g_assert_true (banger_bridge_remove ("br-fc-one", NULL));
  g_free (run ("ip link del up0"));
}

/* No tap without its filter: what cannot be written fails the tap. Here IPv4 forwarding, which guest 0 needs, is off
 * again and cannot be noted down. */
static void
test_filter_fails (void)
{
  g_autoptr (GError) error = NULL, failed = NULL;
  g_autoptr (BangerLease) first = banger_lease_ensure (&root, "aaaaaaaaaaaa", 54321, NULL, NULL);
  g_autoptr (BangerLease) second = banger_lease_ensure (&root, "bbbbbbbbbbbb", 54321, NULL, NULL);
  g_autofree char *tap = banger_tap_create (&root, first, "br-fc-one", CIDR, &error);
  g_assert_true (banger_nat_ensure (&root, first, "10.213.0.5", &error));
  g_autofree char *before = run ("nft list ruleset"), *off = run ("sh -c 'echo 0 > /proc/sys/net/ipv4/ip_forward'");
  BangerRoot broken = root;
  broken.runtime_fd = -1;
  g_assert_null (banger_tap_create (&broken, second, "br-fc-one", CIDR, &failed));
  g_assert_nonnull (failed);
  g_assert_cmpuint (if_nametoindex ("tap-fc-bbbbbbbb"), ==, 0);
  g_autofree char *after = run ("nft list ruleset");
  g_assert_cmpstr (after, ==, before);
  g_assert_nonnull (second->tap); /* the tables could not be looked after: the release does */
  BangerLease *const both[] = { second, first };
  for (int i = 0; i < 2; i++)
    g_assert_true (banger_tap_delete (both[i], NULL) && banger_nat_remove (&root, both[i], NULL)
                   && banger_lease_remove (&root, both[i]->vm, NULL));
  g_autofree char *tables = run ("nft list tables");
  g_assert_null (strstr (tables, "banger"));
  g_assert_true (banger_bridge_remove ("br-fc-one", NULL));
}

static void
test_bridge_find (void)
{
  struct in_addr address = { 0 };
  int index = 7;
  g_autoptr (GError) foreign = NULL;
  g_assert_true (banger_bridge_find ("br-fc-two", &index, &address, NULL));
  g_assert_cmpint (index, ==, 0);
  g_assert_true (banger_bridge_ensure (&root, "br-fc-two", CIDR, NULL));
  g_assert_true (banger_bridge_find ("br-fc-two", &index, &address, NULL));
  g_assert_cmpint (index, ==, (int)if_nametoindex ("br-fc-two"));
  g_assert_cmphex (ntohl (address.s_addr), ==, 0x0ad50001);
  g_assert_true (banger_bridge_remove ("br-fc-two", NULL));
  g_autofree char *made = run ("ip link add br-fc-two type bridge");
  g_assert_false (banger_bridge_find ("br-fc-two", &index, &address, &foreign));
  g_assert_error (foreign, BANGER_ERROR, BANGER_ERROR_IN_USE);
  g_assert_false (banger_bridge_find ("lo", &index, &address, NULL));
}

static void
test_foreign_tap (void)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *made = run ("ip tuntap add tap-fc-ffffffff mode tap");
  g_autoptr (BangerLease) lease = banger_lease_ensure (&root, "ffffffff", 1000, NULL, NULL);
  g_assert_null (banger_tap_create (&root, lease, "br-fc-one", CIDR, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_IN_USE);
  g_assert_null (lease->tap);
  g_assert_true (banger_tap_delete (lease, NULL));
  g_assert_cmpuint (if_nametoindex ("tap-fc-ffffffff"), !=, 0);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/nat/script", test_script);
  /* Taps, bridges and tables go with the namespace. */
  if (unshare (CLONE_NEWNET) < 0) {
    g_test_message ("the tests of bridge, tap and NAT need root for a network namespace");
    return g_test_run ();
  }
  g_autofree char *dir = g_dir_make_tmp ("banger-net-XXXXXX", NULL);
  root.leases_fd = root.runtime_fd = open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  g_test_add_func ("/bridge", test_bridge);
  g_test_add_func ("/bridge-routes", test_routes);
  g_test_add_func ("/bridge-quota", test_bridge_quota);
  g_test_add_func ("/tap-and-nat", test_tap_and_nat);
  g_test_add_func ("/forwarding", test_forwarding);
  g_test_add_func ("/forged-frames", test_forged_frames);
  g_test_add_func ("/filter-fails", test_filter_fails);
  g_test_add_func ("/bridge-find", test_bridge_find);
  g_test_add_func ("/foreign-tap", test_foreign_tap);
  int status = g_test_run ();
  banger_autofd int tmp = open (g_get_tmp_dir (), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  g_autofree char *name = g_path_get_basename (dir);
  g_assert_true (banger_safe_remove_tree (tmp, name, NULL));
  return status;
}

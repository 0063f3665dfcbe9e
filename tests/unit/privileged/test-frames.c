/* What frames of guests reach, whatever they write.
 * Run by meson test as root. */
#include "net-guests.h"

#include <linux/if_tun.h>
#include <net/if_arp.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>
#include <sys/ioctl.h>

static const Frame frames[] = {
  /* Themselves: echo, and who the gateway is. */
  { BARE, 0, SELF, OWN, GATEWAY, ECHO, "10.213.0.5", "10.213.0.1" },
  { BARE, 1, SELF, OWN, GATEWAY, ECHO, "10.213.0.6", "10.213.0.1" },
  { BARE, 0, SELF, OWN, ALL, ASK, "10.213.0.5", "10.213.0.1" },
  { BARE, 1, SELF, OWN, GATEWAY, ASK, "10.213.0.6", "10.213.0.1" },
  { BARE, 1, SELF, OWN, GATEWAY, ECHO, "10.213.0.6", "198.51.100.1" }, /* the host by another of its addresses */
  /* Nothing else of the host. */
  { BARE, 0, NOWHERE, OWN, GATEWAY, UDP, "10.213.0.5", "10.213.0.1" },
  { BARE, 1, NOWHERE, OWN, GATEWAY, UDP, "10.213.0.6", "198.51.100.1" },
  { BARE, 1, NOWHERE, OWN, ALL, UDP, "10.213.0.6", "10.213.0.1" },
  { BARE, 1, NOWHERE, OWN, ALL, UDP, "10.213.0.6", "255.255.255.255" },
  { BARE, 1, NOWHERE, OWN, ALL, UDP, "10.213.0.6", "10.213.0.255" },
  { BARE, 1, NOWHERE, OWN, GATEWAY, UDP, "10.213.0.6", "127.0.0.1" },
  { BARE, 1, NOWHERE, OWN, GATEWAY, ECHO, "10.213.0.6", "127.0.0.1" },
  { BARE, 1, NOWHERE, OWN, LLDP, UDP, "10.213.0.6", "10.213.0.1" }, /* handed to the host around the bridge */
  { BARE, 1, NOWHERE, OWN, LACP, UDP, "10.213.0.6", "10.213.0.1" },
  { BARE, 1, NOWHERE, OWN, PAUSE, UDP, "10.213.0.6", "10.213.0.1" },
  { BARE, 1, NOWHERE, OWN, LLDP, ECHO, "10.213.0.6", "10.213.0.1" },
  { BARE, 1, NOWHERE, OWN, LLDP, ASK, "10.213.0.6", "10.213.0.1" },
  { BARE, 1, NOWHERE, OWN, TAP, UDP, "10.213.0.6", "10.213.0.1" },
  /* Not as another, in any part of the three. */
  { BARE, 1, NOWHERE, OWN, GATEWAY, ECHO, "10.213.0.5", "10.213.0.1" },
  { BARE, 1, NOWHERE, ITS, GATEWAY, ECHO, "10.213.0.6", "10.213.0.1" },
  { BARE, 1, NOWHERE, ITS, GATEWAY, ECHO, "10.213.0.5", "10.213.0.1" },
  { BARE, 1, NOWHERE, MADE_UP, GATEWAY, ECHO, "10.213.0.6", "10.213.0.1" },
  { BARE, 1, NOWHERE, OWN, GATEWAY, ECHO, "10.213.0.77", "10.213.0.1" },
  { BARE, 1, NOWHERE, OWN, GATEWAY, ECHO, OUTSIDE, "10.213.0.1" },
  { BARE, 1, NOWHERE, OWN, ALL, ASK, "10.213.0.5", "10.213.0.1" },
  { BARE, 1, NOWHERE, ITS, ALL, ASK, "10.213.0.5", "10.213.0.1" },
  { BARE, 1, NOWHERE, ITS, ALL, ASK, "10.213.0.6", "10.213.0.1" },
  { BARE, 1, NOWHERE, OWN, ALL, LIE, "10.213.0.6", "10.213.0.1" },
  { BARE, 1, NOWHERE, OWN, ALL, LIE, "10.213.0.5", "10.213.0.1" },
  { BARE, 1, NOWHERE, OWN, ALL, ASK, "0.0.0.0", "10.213.0.1" },
  { BARE, 1, NOWHERE, OWN, ALL, ASK, "10.213.0.6", "198.51.100.1" }, /* what else the host is called */
  /* Not to another. */
  { BARE, 1, NOWHERE, OWN, PEER, UDP, "10.213.0.6", "10.213.0.5" },
  { BARE, 1, NOWHERE, OWN, GATEWAY, UDP, "10.213.0.6", "10.213.0.5" },
  { BARE, 1, NOWHERE, OWN, ALL, UDP, "10.213.0.6", "10.213.0.5" },
  { BARE, 1, NOWHERE, OWN, ALL, ASK, "10.213.0.6", "10.213.0.5" },
  { BARE, 1, NOWHERE, OWN, PEER, ANSWER, "10.213.0.6", "10.213.0.5" },
  { BARE, 1, NOWHERE, OWN, ALL, ANSWER, "10.213.0.5", "10.213.0.5" },
  /* Outside. */
  { BARE, 1, NOWHERE, OWN, GATEWAY, UDP, "10.213.0.6", OUTSIDE },
  { BARE, 1, NOWHERE, OWN, GATEWAY, UDP, "10.213.0.6", OUTSIDE, 2 },
  { NAT, 0, OUT, OWN, GATEWAY, UDP, "10.213.0.5", OUTSIDE },
  { NAT, 0, NOWHERE, OWN, GATEWAY, UDP, "10.213.0.9", OUTSIDE },
  { NAT, 0, NOWHERE, OWN, GATEWAY, UDP, "10.213.0.5", "10.213.0.1" },
  { NAT, 0, NOWHERE, OWN, GATEWAY, UDP, "10.213.0.5", "198.51.100.1" },
  { NAT, 0, NOWHERE, OWN, GATEWAY, UDP, "10.213.0.5", "10.213.0.6" },
  { NAT, 0, NOWHERE, OWN, GATEWAY, UDP, "10.213.0.5", "10.250.0.9" },      /* another bridge of banger's */
  { NAT, 0, NOWHERE, OWN, GATEWAY, UDP, "10.213.0.5", "169.254.169.254" }, /* who answers there knows secrets */
  { NAT, 0, NOWHERE, OWN, GATEWAY, UDP, "10.213.0.5", "127.0.0.53" },
  { NAT, 0, SELF, OWN, GATEWAY, ECHO, "10.213.0.5", "10.213.0.1" },
  { NAT, 0, NOWHERE, OWN, GATEWAY, ECHO, "10.213.0.6", "10.213.0.1" },
  { NAT, 1, SELF, OWN, GATEWAY, ECHO, "10.213.0.6", "10.213.0.1" },
  { NAT, 1, NOWHERE, OWN, GATEWAY, UDP, "10.213.0.6", OUTSIDE },
  { NAT, 1, NOWHERE, OWN, GATEWAY, UDP, "10.213.0.5", OUTSIDE }, /* as the one that may */
  { NAT, 1, NOWHERE, ITS, GATEWAY, UDP, "10.213.0.5", OUTSIDE },
  { NAT, 1, NOWHERE, ITS, GATEWAY, UDP, "10.213.0.5", OUTSIDE, 1 },
  { NAT, 1, NOWHERE, ITS, GATEWAY, UDP, "10.213.0.5", OUTSIDE, 2 },
  { NAT, 1, NOWHERE, ITS, GATEWAY, UDP, "10.213.0.5", OUTSIDE, 3 },
  { NAT, 0, NOWHERE, OWN, GATEWAY, UDP, "10.213.0.5", OUTSIDE, 1 },
  { NAT, 0, NOWHERE, OWN, GATEWAY, UDP, "10.213.0.5", OUTSIDE, 2 },
  { REMOVED, 0, SELF, OWN, GATEWAY, ECHO, "10.213.0.5", "10.213.0.1" },
  { REMOVED, 0, NOWHERE, OWN, GATEWAY, UDP, "10.213.0.5", OUTSIDE },
};

static void
try_frames (const Guests *guests, int state)
{
  for (size_t i = 0; i < G_N_ELEMENTS (frames); i++)
    if (frames[i].state == state)
      try_frame (guests, &frames[i]);
}

/* Guests that write what they like. */
static void
test_forged_frames (void)
{
  Guests guests;
  g_autoptr (GError) error = NULL;
  open_guests (&guests);
  try_frames (&guests, BARE);
  g_assert_true (banger_nat_ensure (&root, guests.leases[0], places[0].guest_address, &error));
  try_frames (&guests, NAT);
  g_assert_true (banger_nat_remove (&root, guests.leases[0], &error));
  try_frames (&guests, REMOVED);
  close_guests (&guests);
}

/* The host talks to the guest, and is answered. */
static void
try_talk (const Guests *guests, int guest)
{
  struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons (TALK) };
  guint64 mark = (guint64)g_random_int () << 32 | g_random_int ();
  const Frame question = { .guest = guest },
              answer = { BARE, guest, HOST, OWN, GATEWAY, UDP, places[guest].guest_address, "10.213.0.1", 0, TALK };
  inet_pton (AF_INET, places[guest].guest_address, &to.sin_addr);
  int reached = NOWHERE;
  for (int n = 0; n < 30 && reached == NOWHERE; n++) {
    g_assert_no_errno (sendto (guests->host, &mark, sizeof mark, 0, (struct sockaddr *)&to, sizeof to));
    reached = arrives (guests, &question, mark);
  }
  g_assert_cmpint (reached, ==, SELF);
  try_frame (guests, &answer);
}

/* Guest 1 says in an ICMP error to @from, who sent something to @to: the port is unreachable. */
static void
write_error (const Guests *guests, const char *from, guint16 port, const char *to)
{
  static const guint8 vnet[10], ip[] = { 8, 0 };
  struct {
    struct icmphdr icmp;
    struct iphdr header;
    struct udphdr udp;
  } __attribute__ ((packed)) error = {
    { .type = ICMP_DEST_UNREACH, .code = ICMP_PORT_UNREACH },
    { .ihl = 5, .version = 4, .ttl = 64, .protocol = IPPROTO_UDP, .tot_len = htons (sizeof error - sizeof error.icmp) },
    { .source = htons (port), .dest = htons (TALK), .len = htons (16) }
  };
  struct iphdr header = { .ihl = 5, .version = 4, .ttl = 64, .protocol = IPPROTO_ICMP };
  guint8 mac[ETH_ALEN];
  g_autoptr (GByteArray) bytes = g_byte_array_new ();
  g_byte_array_append (bytes, vnet, sizeof vnet);
  link_address ("br-fc-one", mac);
  g_byte_array_append (bytes, mac, sizeof mac);
  source_mac (1, OWN, mac);
  g_byte_array_append (bytes, mac, sizeof mac);
  g_byte_array_append (bytes, ip, sizeof ip);
  guint32 addresses[2];
  inet_pton (AF_INET, from, &addresses[0]);
  inet_pton (AF_INET, to, &addresses[1]);
  error.header.saddr = addresses[0];
  error.header.daddr = addresses[1];
  error.header.check = header_sum (&error.header, sizeof error.header);
  error.icmp.checksum = header_sum (&error, sizeof error);
  header.tot_len = htons (sizeof header + sizeof error);
  inet_pton (AF_INET, places[1].guest_address, &header.saddr);
  header.daddr = addresses[0];
  header.check = header_sum (&header, sizeof header);
  g_byte_array_append (bytes, (guint8 *)&header, sizeof header);
  g_byte_array_append (bytes, (guint8 *)&error, sizeof error);
  g_assert_cmpint (write (guests->taps[1], bytes->data, bytes->len), ==, bytes->len);
}

/* What guest 1 can make of a conversation of the host's with @to. */
static int
error_about (const Guests *guests, const char *to)
{
  struct sockaddr_in own = { 0 }, other = { .sin_family = AF_INET, .sin_port = htons (TALK) };
  socklen_t size = sizeof own;
  char from[INET_ADDRSTRLEN];
  banger_autofd int fd = socket (AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  inet_pton (AF_INET, to, &other.sin_addr);
  g_assert_no_errno (connect (fd, (struct sockaddr *)&other, sizeof other));
  g_assert_no_errno (getsockname (fd, (struct sockaddr *)&own, &size));
  inet_ntop (AF_INET, &own.sin_addr, from, sizeof from);
  g_assert_cmpint (send (fd, "question", 8, 0), ==, 8);
  write_error (guests, from, ntohs (own.sin_port), to);
  GPollFD pfd = { .fd = fd };
  (void)g_poll (&pfd, 1, 300);
  int errnum = 0;
  size = sizeof errnum;
  g_assert_no_errno (getsockopt (fd, SOL_SOCKET, SO_ERROR, &errnum, &size));
  return errnum;
}

/* A guest's errors are believed about what the host said to it, and about nothing else. */
static void
test_errors (void)
{
  Guests guests;
  open_guests (&guests);
  const Frame echo = { BARE, 1, SELF, OWN, GATEWAY, ECHO, "10.213.0.6", "10.213.0.1" };
  try_frame (&guests, &echo);
  g_assert_cmpint (error_about (&guests, places[1].guest_address), ==, ECONNREFUSED);
  g_assert_cmpint (error_about (&guests, places[0].guest_address), ==, 0);
  g_assert_cmpint (error_about (&guests, OUTSIDE), ==, 0);
  close_guests (&guests);
}

/* What a VMM can do to its tap is nobody else's concern. */
static void
test_vmm_and_its_tap (void)
{
  Guests guests;
  struct ifreq request = { .ifr_hwaddr.sa_family = ARPHRD_ETHER };
  open_guests (&guests);
  const Frame echo[] = { { BARE, 0, SELF, OWN, GATEWAY, ECHO, "10.213.0.5", "10.213.0.1" },
                         { BARE, 1, NOWHERE, ITS, GATEWAY, ECHO, "10.213.0.5", "10.213.0.1" },
                         { BARE, 1, NOWHERE, OWN, PEER, UDP, "10.213.0.6", "10.213.0.5" } };
  try_frame (&guests, &echo[0]);
  try_talk (&guests, 0);
  try_talk (&guests, 1);
  for (int whose = 0; whose < 3; whose++) { /* the other guest's, the bridge's, the other tap's */
    if (whose == 0)
      source_mac (1, ITS, (guint8 *)request.ifr_hwaddr.sa_data);
    else
      link_address (whose == 1 ? "br-fc-one" : "tap-fc-aaaaaaaa", (guint8 *)request.ifr_hwaddr.sa_data);
    g_assert_no_errno (ioctl (guests.taps[1], SIOCSIFHWADDR, &request));
    for (size_t i = 0; i < G_N_ELEMENTS (echo); i++)
      try_frame (&guests, &echo[i]);
    try_talk (&guests, 0);
  }
  g_assert_no_errno (ioctl (guests.taps[1], TUNSETPERSIST, 0));
  close (guests.taps[1]); /* and with it the tap */
  try_frame (&guests, &echo[0]);
  try_talk (&guests, 0);
  guests.taps[1] = -1;
  close_guests (&guests);
}

/* limits.connections */
static void
test_connections (void)
{
  Guests guests;
  g_autoptr (GError) error = NULL;
  open_guests (&guests);
  g_assert_true (banger_nat_ensure (&root, guests.leases[0], places[0].guest_address, &error));
  const Frame first = { NAT, 0, OUT, OWN, GATEWAY, UDP, "10.213.0.5", OUTSIDE };
  try_frame (&guests, &first);
  guint out = 0;
  for (guint i = 0; i < 40; i++) {
    g_autofree char *to = g_strdup_printf ("198.51.100.%u", 10 + i);
    g_autofree char *neighbour = g_strdup_printf ("ip neigh add %s lladdr 02:00:00:00:00:02 dev up0", to);
    g_free (run (neighbour));
    const Frame frame = { NAT, 0, OUT, OWN, GATEWAY, UDP, "10.213.0.5", to };
    write_frame (guests.taps[0], &frame, i + 1000000);
    out += arrives (&guests, &frame, i + 1000000) == OUT;
  }
  g_assert_cmpuint (out, ==, install.max_connections - 1);
  try_frame (&guests, &first); /* what is there goes on, and another guest has its own */
  const Frame other = { BARE, 1, SELF, OWN, GATEWAY, ECHO, "10.213.0.6", "10.213.0.1" };
  try_frame (&guests, &other);
  close_guests (&guests);
}

static void
add_tests (void)
{
  g_test_add_func ("/forged-frames", test_forged_frames);
  g_test_add_func ("/vmm-and-its-tap", test_vmm_and_its_tap);
  g_test_add_func ("/errors", test_errors);
  g_test_add_func ("/connections", test_connections);
}

int
main (int argc, char **argv)
{
  return network_main (argc, argv, add_tests);
}

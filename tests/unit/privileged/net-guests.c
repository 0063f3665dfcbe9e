/* Two guests behind a bridge in a network namespace of the test's, and frames that they write.
 * Never changes the host's network. */
#include "net-guests.h"

#include <glib/gstdio.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if_arp.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>
#include <sched.h>
#include <sys/ioctl.h>

#include "common/ids.h"
#include "common/safe-path.h"

BangerInstall install = { .max_vms = 4, .max_taps = 2, .max_bridges = 2, .max_connections = 16 };
BangerRoot root = { .install = &install };

const char *const vms[] = { "aaaaaaaaaaaa", "bbbbbbbbbbbb" };
const BangerTapPlace places[] = { { "br-fc-one", CIDR, "10.213.0.5" }, { "br-fc-one", CIDR, "10.213.0.6" } };

char *
run (const char *command)
{
  char *out = NULL;
  g_autoptr (GError) error = NULL;
  g_spawn_command_line_sync (command, &out, NULL, NULL, &error);
  g_assert_no_error (error);
  return out;
}

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

guint16
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

static void
parse_mac (const char *text, guint8 mac[ETH_ALEN])
{
  for (size_t i = 0; i < ETH_ALEN; i++)
    mac[i] = (guint8)g_ascii_strtoull (text + 3 * i, NULL, 16);
}

void
link_address (const char *name, guint8 mac[ETH_ALEN])
{
  struct ifreq request = { 0 };
  banger_autofd int fd = socket (AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  g_strlcpy (request.ifr_name, name, sizeof request.ifr_name);
  g_assert_no_errno (ioctl (fd, SIOCGIFHWADDR, &request));
  memcpy (mac, request.ifr_hwaddr.sa_data, ETH_ALEN);
}

void
source_mac (int guest, int whose, guint8 mac[ETH_ALEN])
{
  g_autofree char *text = whose == MADE_UP ? g_strdup ("06:00:00:00:00:09")
                                           : banger_vm_mac (vms[whose == OWN ? guest : !guest]);
  parse_mac (text, mac);
}

static void
target_mac (const Frame *frame, guint8 mac[ETH_ALEN])
{
  static const char *const fixed[] = { [ALL] = "ff:ff:ff:ff:ff:ff",
                                       [LLDP] = "01:80:c2:00:00:0e",
                                       [LACP] = "01:80:c2:00:00:02",
                                       [PAUSE] = "01:80:c2:00:00:00" };
  g_autofree char *tap = banger_tap_name (vms[frame->guest]);
  if (frame->target == PEER)
    source_mac (frame->guest, ITS, mac);
  else if (frame->target == GATEWAY || frame->target == TAP)
    link_address (frame->target == TAP ? tap : "br-fc-one", mac);
  else
    parse_mac (fixed[frame->target], mac);
}

static void
append_ip (GByteArray *bytes, const Frame *frame, guint64 mark)
{
  gboolean echo = frame->what == ECHO;
  struct iphdr header = { .ihl = 5, .version = 4, .ttl = 64, .protocol = echo ? IPPROTO_ICMP : IPPROTO_UDP };
  struct udphdr udp = { .source = htons (frame->port), .dest = htons (PORT), .len = htons (sizeof udp + sizeof mark) };
  struct {
    struct icmphdr icmp;
    guint64 mark;
  } ping = { .icmp = { .type = ICMP_ECHO, .un.echo.id = htons ((guint16)mark) }, .mark = mark };
  g_assert_cmpuint (sizeof ping, ==, sizeof udp + sizeof mark);
  header.tot_len = htons (sizeof header + sizeof ping);
  g_assert_cmpint (inet_pton (AF_INET, frame->from, &header.saddr), ==, 1);
  g_assert_cmpint (inet_pton (AF_INET, frame->to, &header.daddr), ==, 1);
  header.check = header_sum (&header, sizeof header);
  ping.icmp.checksum = header_sum (&ping, sizeof ping);
  g_byte_array_append (bytes, (guint8 *)&header, sizeof header);
  if (echo) {
    g_byte_array_append (bytes, (guint8 *)&ping, sizeof ping);
    return;
  }
  g_byte_array_append (bytes, (guint8 *)&udp, sizeof udp);
  g_byte_array_append (bytes, (guint8 *)&mark, sizeof mark);
}

static void
append_arp (GByteArray *bytes, const Frame *frame)
{
  struct ether_arp arp = { .ea_hdr = { .ar_hrd = htons (ARPHRD_ETHER),
                                       .ar_pro = htons (ETH_P_IP),
                                       .ar_hln = ETH_ALEN,
                                       .ar_pln = 4,
                                       .ar_op = htons (frame->what == ANSWER ? ARPOP_REPLY : ARPOP_REQUEST) } };
  source_mac (frame->guest, frame->what == LIE ? ITS : frame->source, arp.arp_sha);
  g_assert_cmpint (inet_pton (AF_INET, frame->from, arp.arp_spa), ==, 1);
  g_assert_cmpint (inet_pton (AF_INET, frame->to, arp.arp_tpa), ==, 1);
  g_byte_array_append (bytes, (guint8 *)&arp, sizeof arp);
}

void
write_frame (int tap, const Frame *frame, guint64 mark)
{
  g_autoptr (GByteArray) bytes = g_byte_array_new ();
  static const guint8 vnet[10], tag[] = { 0x81, 0, 0, 0 }, ip[] = { 8, 0 }, arp[] = { 8, 6 };
  guint8 mac[ETH_ALEN];
  gboolean is_ip = frame->what == UDP || frame->what == ECHO;
  g_byte_array_append (bytes, vnet, sizeof vnet);
  target_mac (frame, mac);
  g_byte_array_append (bytes, mac, sizeof mac);
  source_mac (frame->guest, frame->source, mac);
  g_byte_array_append (bytes, mac, sizeof mac);
  for (guint i = 0; i < frame->tags; i++)
    g_byte_array_append (bytes, tag, sizeof tag);
  g_byte_array_append (bytes, is_ip ? ip : arp, 2);
  if (is_ip)
    append_ip (bytes, frame, mark);
  else
    append_arp (bytes, frame);
  g_assert_cmpint (write (tap, bytes->data, bytes->len), ==, bytes->len);
}

/* Where the mark, or for ARP an answer, arrives within 150 ms: at a socket of the host's, or in what the host sends to
 * whatever link. */
int
arrives (const Guests *guests, const Frame *frame, guint64 mark)
{
  gboolean arp = frame->what >= ASK;
  for (gint64 end = g_get_monotonic_time () + 150000; g_get_monotonic_time () < end; g_usleep (2000)) {
    guint8 data[2048];
    struct sockaddr_ll from;
    socklen_t size = sizeof from;
    ssize_t n = recv (guests->host, data, sizeof data, 0);
    if (n == sizeof mark && memcmp (data, &mark, sizeof mark) == 0)
      return HOST;
    while ((n = recvfrom (guests->links, data, sizeof data, 0, (struct sockaddr *)&from, &size)) > 0) {
      if (from.sll_pkttype != PACKET_OUTGOING
          || (arp ? ntohs (from.sll_protocol) != ETH_P_ARP : !memmem (data, (size_t)n, &mark, sizeof mark)))
        continue;
      if (from.sll_ifindex == guests->out_index)
        return OUT;
      if (from.sll_ifindex == guests->tap_index[0] || from.sll_ifindex == guests->tap_index[1])
        return from.sll_ifindex == guests->tap_index[frame->guest] ? SELF : OTHER;
    }
  }
  return NOWHERE;
}

/* The first frames wait until the bridge forwards for a port that has just been opened. */
void
try_frame (const Guests *guests, const Frame *frame)
{
  int reached = NOWHERE;
  for (int n = 0; n < (frame->reaches == NOWHERE ? 1 : 30); n++) {
    guint64 mark = (guint64)g_random_int () << 32 | g_random_int ();
    write_frame (guests->taps[frame->guest], frame, mark);
    reached = arrives (guests, frame, mark);
    if (reached != NOWHERE)
      break;
  }
  if (reached != frame->reaches)
    g_error ("state %d, guest %d, kind %d from MAC %d to %d: %s to %s in %u tags reaches %d, not %d", frame->state,
             frame->guest, frame->what, frame->source, frame->target, frame->from, frame->to, frame->tags, reached,
             frame->reaches);
}

void
open_guests (Guests *guests)
{
  g_autoptr (GError) error = NULL;
  static const char *const commands[] = {
    "ip link add up0 type veth peer name out0",
    "ip addr add 198.51.100.1/24 dev up0",
    "ip link set up0 up",
    "ip link set out0 up",
    "ip neigh add " OUTSIDE " lladdr 02:00:00:00:00:02 dev up0",
    "ip route add 169.254.169.254/32 via " OUTSIDE,
    "ip link add br-fc-two type bridge",
    "ip addr add 10.250.0.1/24 dev br-fc-two",
    "ip link set br-fc-two up",
    "sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'",
    "sh -c 'echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet'",
  };
  for (size_t i = 0; i < G_N_ELEMENTS (commands); i++)
    g_free (run (commands[i]));
  guests->out_index = (int)if_nametoindex ("up0");
  for (int i = 0; i < 2; i++) {
    guests->leases[i] = banger_lease_ensure (&root, vms[i], 54321, NULL, NULL);
    g_autofree char *tap = banger_tap_create (&root, guests->leases[i], &places[i], &error);
    g_assert_no_error (error);
    guests->taps[i] = open_tap (tap);
    guests->tap_index[i] = (int)if_nametoindex (tap);
  }
  guests->host = socket (AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  guests->links = socket (AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons (ETH_P_ALL));
  struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons (PORT) };
  g_assert_no_errno (guests->links);
  g_assert_no_errno (bind (guests->host, (struct sockaddr *)&any, sizeof any));
}

void
close_guests (Guests *guests)
{
  close (guests->host);
  close (guests->links);
  for (int i = 0; i < 2; i++) {
    close (guests->taps[i]);
    g_assert_true (banger_nat_remove (&root, guests->leases[i], NULL)
                   && banger_tap_delete (&root, guests->leases[i], NULL) && banger_lease_remove (&root, vms[i], NULL));
    banger_lease_free (guests->leases[i]);
  }
  g_assert_true (banger_bridge_remove ("br-fc-one", NULL));
  g_free (run ("ip link del up0"));
  g_free (run ("ip link del br-fc-two"));
}

int
network_main (int argc, char **argv, void (*add) (void))
{
  g_test_init (&argc, &argv, NULL);
  /* Taps, bridges and tables go with the namespace. */
  if (unshare (CLONE_NEWNET) < 0) {
    g_test_message ("the tests of bridge, tap and NAT need root for a network namespace");
    return g_test_run ();
  }
  g_autofree char *dir = g_dir_make_tmp ("banger-net-XXXXXX", NULL);
  root.leases_fd = root.runtime_fd = open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  add ();
  int status = g_test_run ();
  banger_autofd int tmp = open (g_get_tmp_dir (), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  g_autofree char *name = g_path_get_basename (dir);
  g_assert_true (banger_safe_remove_tree (tmp, name, NULL));
  return status;
}

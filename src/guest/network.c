/* Address, MTU and route by the interface ioctls of netdevice(7) and rtentry.
 * Never touches an interface other than lo and the one with the given MAC. */
#include "guest/network.h"

#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "common/fd.h"
#include "guest/devices.h"
#include "guest/report.h"

#define WAIT_FOR_INTERFACE_MS 5000

typedef struct {
  const char *mac;
  char name[IFNAMSIZ];
} Wanted;

static int
interface_is_there (void *data)
{
  Wanted *wanted = data;
  return guest_net_find (wanted->mac, wanted->name, sizeof wanted->name) == 0;
}

static void
put_address (struct sockaddr *target, struct in_addr address)
{
  struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr = address };
  memcpy (target, &in, sizeof in);
}

static struct in_addr
netmask (unsigned prefix)
{
  return (struct in_addr){ .s_addr = htonl (prefix == 0 ? 0 : ~0u << (32 - prefix)) };
}

static int
set_flags (int fd, const char *name, int on, int off)
{
  struct ifreq request = { 0 };
  snprintf (request.ifr_name, sizeof request.ifr_name, "%s", name);
  if (ioctl (fd, SIOCGIFFLAGS, &request) < 0)
    return -1;
  request.ifr_flags = (short)((request.ifr_flags | on) & ~off);
  return ioctl (fd, SIOCSIFFLAGS, &request);
}

static int
set_address (int fd, const char *name, const GuestSettings *settings)
{
  struct ifreq request = { 0 };
  snprintf (request.ifr_name, sizeof request.ifr_name, "%s", name);
  put_address (&request.ifr_addr, settings->address);
  if (ioctl (fd, SIOCSIFADDR, &request) < 0)
    return -1;
  struct in_addr mask = netmask (settings->prefix);
  put_address (&request.ifr_netmask, mask);
  if (ioctl (fd, SIOCSIFNETMASK, &request) < 0)
    return -1;
  if (settings->prefix > 30)
    return 0;
  put_address (&request.ifr_broadaddr, (struct in_addr){ .s_addr = settings->address.s_addr | ~mask.s_addr });
  return ioctl (fd, SIOCSIFBRDADDR, &request);
}

static int
set_mtu (int fd, const char *name, unsigned mtu)
{
  struct ifreq request = { .ifr_mtu = (int)mtu };
  snprintf (request.ifr_name, sizeof request.ifr_name, "%s", name);
  return ioctl (fd, SIOCSIFMTU, &request);
}

static int
add_route (int fd, char *name, struct in_addr to, unsigned prefix, struct in_addr gateway)
{
  struct rtentry route = { .rt_flags = RTF_UP, .rt_dev = name };
  put_address (&route.rt_dst, to);
  put_address (&route.rt_genmask, netmask (prefix));
  put_address (&route.rt_gateway, gateway);
  if (gateway.s_addr != 0)
    route.rt_flags |= RTF_GATEWAY;
  return ioctl (fd, SIOCADDRT, &route) < 0 && errno != EEXIST ? -1 : 0;
}

static int
set_routes (int fd, char *name, const GuestSettings *settings)
{
  struct in_addr any = { 0 };
  if (settings->gateway.s_addr == 0)
    return 0;
  int on_link = ((settings->gateway.s_addr ^ settings->address.s_addr) & netmask (settings->prefix).s_addr) == 0;
  if (!on_link && add_route (fd, name, settings->gateway, 32, any) < 0)
    return -1;
  return add_route (fd, name, any, 0, settings->gateway);
}

static int
fail (const char *what, const char *name)
{
  int saved = errno;
  guest_warn ("cannot set %s of %s: %s", what, name, strerror (saved));
  errno = saved;
  return -1;
}

static int
set_mac (int fd, const char *name, const char *mac)
{
  struct ifreq request = { .ifr_hwaddr.sa_family = ARPHRD_ETHER };
  unsigned char *bytes = (unsigned char *)request.ifr_hwaddr.sa_data;
  snprintf (request.ifr_name, sizeof request.ifr_name, "%s", name);
  if (sscanf (mac, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", &bytes[0], &bytes[1], &bytes[2], &bytes[3], &bytes[4],
              &bytes[5])
      != 6)
  {
    errno = EINVAL;
    return -1;
  }
  return ioctl (fd, SIOCSIFHWADDR, &request);
}

int
guest_network_down (const char *name)
{
  banger_autofd int fd = socket (AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  return fd < 0 || set_flags (fd, name, 0, IFF_UP) < 0 ? fail ("the flags", name) : 0;
}

int
guest_network_set (const GuestSettings *settings, char *name)
{
  char now[18];
  banger_autofd int fd = socket (AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return fail ("a socket", name);
  if ((guest_net_mac (name, now, sizeof now) < 0 || strcmp (now, settings->mac) != 0)
      && set_mac (fd, name, settings->mac) < 0)
    return fail ("the MAC", name);
  if (settings->mtu != 0 && set_mtu (fd, name, settings->mtu) < 0)
    return fail ("the MTU", name);
  if (set_address (fd, name, settings) < 0)
    return fail ("the address", name);
  if (set_flags (fd, name, IFF_UP, 0) < 0)
    return fail ("the flags", name);
  return set_routes (fd, name, settings) < 0 ? fail ("the routes", name) : 0;
}

int
guest_network_up (const GuestSettings *settings, int uevents_fd)
{
  banger_autofd int fd = socket (AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return fail ("a socket", "the network");
  if (set_flags (fd, "lo", IFF_UP, 0) < 0)
    return fail ("the flags", "lo");
  if (settings->address.s_addr == 0)
    return 0;

  Wanted wanted = { .mac = settings->mac };
  if (guest_wait_for (uevents_fd, interface_is_there, &wanted, WAIT_FOR_INTERFACE_MS) < 0) {
    guest_warn ("no network interface with address %s came up in %d ms", settings->mac, WAIT_FOR_INTERFACE_MS);
    return -1;
  }
  return guest_network_set (settings, wanted.name);
}

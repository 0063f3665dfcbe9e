/* rtnetlink(7) for addresses, sock_diag(7) for connections.
 * Never waits: the kernel answers both at once. */
#include "guest/relink.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "guest/network.h"
#include "guest/report.h"

#define MAX_ADDRESSES 64
#define MAX_CONNECTIONS 4096 /* that one look remembers */
#define REPLY_BYTES 32768

typedef struct {
  struct nlmsghdr head;
  union {
    struct ifaddrmsg address;
    struct inet_diag_req_v2 diag;
  } body;
  struct rtattr attribute;
  unsigned char data[16];
} Request;

typedef struct {
  unsigned char family, prefix;
  size_t length;
  unsigned char data[16];
} Address;

typedef struct {
  unsigned index;
  size_t n_addresses;
  Address addresses[MAX_ADDRESSES];
  size_t n_connections;
  struct inet_diag_req_v2 connections[MAX_CONNECTIONS];
} Link;

/* Calls @each for every message of the answer. Returns: 0, or -1 with errno, which the kernel may have said. */
static int
talk (int fd, const Request *request, void (*each) (Link *link, const struct nlmsghdr *message), Link *link)
{
  static union {
    struct nlmsghdr aligned;
    char bytes[REPLY_BYTES];
  } reply;
  if (send (fd, request, request->head.nlmsg_len, 0) < 0)
    return -1;
  for (;;) {
    ssize_t n = recv (fd, &reply, sizeof reply, 0);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return -1;
    for (const struct nlmsghdr *message = &reply.aligned; NLMSG_OK (message, n); message = NLMSG_NEXT (message, n)) {
      if (message->nlmsg_type == NLMSG_DONE)
        return 0;
      if (message->nlmsg_type == NLMSG_ERROR) {
        errno = -((const struct nlmsgerr *)NLMSG_DATA (message))->error;
        return errno == 0 ? 0 : -1;
      }
      each (link, message);
    }
  }
}

static void
take_address (Link *link, const struct nlmsghdr *message)
{
  const struct ifaddrmsg *head = NLMSG_DATA (message);
  int left = (int)IFA_PAYLOAD (message);
  if (message->nlmsg_type != RTM_NEWADDR || head->ifa_index != link->index || link->n_addresses == MAX_ADDRESSES)
    return;
  Address *address = &link->addresses[link->n_addresses];
  *address = (Address){ .family = head->ifa_family, .prefix = head->ifa_prefixlen };
  for (const struct rtattr *attribute = IFA_RTA (head); RTA_OK (attribute, left);
       attribute = RTA_NEXT (attribute, left))
    if ((attribute->rta_type == IFA_LOCAL || (attribute->rta_type == IFA_ADDRESS && address->length == 0))
        && RTA_PAYLOAD (attribute) <= sizeof address->data)
    {
      address->length = RTA_PAYLOAD (attribute);
      memcpy (address->data, RTA_DATA (attribute), address->length);
    }
  link->n_addresses += address->length > 0;
}

static int
list_addresses (int fd, Link *link)
{
  const Request request = {
    .head = { .nlmsg_len = NLMSG_LENGTH (sizeof (struct ifaddrmsg)),
              .nlmsg_type = RTM_GETADDR,
              .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
  };
  return talk (fd, &request, take_address, link);
}

/* One that went with the link, as IPv6's do, is no failure. */
static int
remove_address (int fd, Link *link, const Address *address)
{
  Request request = {
    .head = { .nlmsg_type = RTM_DELADDR, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK },
    .body.address = { .ifa_family = address->family, .ifa_prefixlen = address->prefix, .ifa_index = link->index },
  };
  struct rtattr head = { .rta_type = IFA_LOCAL, .rta_len = (unsigned short)RTA_LENGTH (address->length) };
  char *attribute = (char *)&request + NLMSG_LENGTH (sizeof (struct ifaddrmsg));
  memcpy (attribute, &head, sizeof head);
  memcpy (attribute + RTA_LENGTH (0), address->data, address->length);
  request.head.nlmsg_len = NLMSG_LENGTH (sizeof (struct ifaddrmsg)) + RTA_LENGTH (address->length);
  return talk (fd, &request, take_address, link) < 0 && errno != EADDRNOTAVAIL ? -1 : 0;
}

/* IPv4 in an IPv6 socket is IPv4. */
static int
is_of (const Address *address, const struct inet_diag_msg *found)
{
  static const unsigned char mapped[12] = { [10] = 0xff, [11] = 0xff };
  const unsigned char *local = (const unsigned char *)found->id.idiag_src;
  if (found->idiag_family == AF_INET6 && memcmp (local, mapped, sizeof mapped) == 0)
    return address->family == AF_INET && memcmp (local + sizeof mapped, address->data, 4) == 0;
  return found->idiag_family == address->family && memcmp (local, address->data, address->length) == 0;
}

static void
take_connection (Link *link, const struct nlmsghdr *message)
{
  const struct inet_diag_msg *found = NLMSG_DATA (message);
  if (message->nlmsg_type != SOCK_DIAG_BY_FAMILY || message->nlmsg_len < NLMSG_LENGTH (sizeof *found))
    return;
  for (size_t i = 0; i < link->n_addresses && link->n_connections < MAX_CONNECTIONS; i++)
    if (is_of (&link->addresses[i], found)) {
      link->connections[link->n_connections++] = (struct inet_diag_req_v2){
        .sdiag_family = found->idiag_family, .sdiag_protocol = IPPROTO_TCP, .idiag_states = ~0u, .id = found->id
      };
      return;
    }
}

static int
ask_sockets (int fd, Link *link, const struct inet_diag_req_v2 *what, int type, int flags)
{
  const Request request = {
    .head = { .nlmsg_len = NLMSG_LENGTH (sizeof *what),
              .nlmsg_type = (unsigned short)type,
              .nlmsg_flags = (unsigned short)(NLM_F_REQUEST | flags) },
    .body.diag = *what,
  };
  return talk (fd, &request, take_connection, link);
}

/* A kernel that cannot do it leaves them to time out: without their address no packet of theirs comes or goes. */
static void
end_connections (Link *link)
{
  static const unsigned char families[] = { AF_INET, AF_INET6 };
  banger_autofd int fd = socket (AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  int r = fd < 0 ? -1 : 0;
  for (size_t i = 0; i < sizeof families && r == 0; i++) {
    const struct inet_diag_req_v2 all = { .sdiag_family = families[i],
                                          .sdiag_protocol = IPPROTO_TCP,
                                          .idiag_states = ~(1u << TCP_LISTEN) };
    r = ask_sockets (fd, link, &all, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP);
  }
  for (size_t i = 0; i < link->n_connections && r == 0; i++)
    r = ask_sockets (fd, link, &link->connections[i], SOCK_DESTROY, NLM_F_ACK) < 0 && errno == EOPNOTSUPP ? -1 : 0;
  if (r < 0)
    guest_note ("connections of the old address are left to time out: %s", strerror (errno));
}

int
guest_unlink (const char *name)
{
  static Link link;
  link = (Link){ .index = if_nametoindex (name) };
  banger_autofd int fd = socket (AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0 || link.index == 0 || list_addresses (fd, &link) < 0 || guest_network_down (name) < 0)
    return -1;
  end_connections (&link); /* the link is down: no reset goes out, which would end those of the machine that goes on */
  for (size_t i = 0; i < link.n_addresses; i++)
    if (remove_address (fd, &link, &link.addresses[i]) < 0)
      return -1;
  return 0;
}

/* Two guests behind a bridge in a network namespace of the test's, and frames that they write.
 * Never changes the host's network. */
#pragma once

#include <errno.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <net/if.h>
#include <string.h>

#include "privileged/bridge.h"
#include "privileged/lease.h"
#include "privileged/nat.h"
#include "privileged/tap.h"

#define VM "0123456789ab"
#define CIDR "10.213.0.1/24"

extern BangerInstall install; /* max_taps is 2, max_bridges 2, max_connections 16 */
extern BangerRoot root;
extern const char *const vms[2]; /* ids of the guests */
extern const BangerTapPlace places[2];

/** network_main: runs what @add adds, in a namespace that goes with it; nothing, if that cannot be had. */
int network_main (int argc, char **argv, void (*add) (void));

/** run: Returns: (transfer full): what @command printed. */
char *run (const char *command);

/* What frames of guests reach. */
enum {
  NOWHERE,
  SELF,
  OTHER,
  OUT,
  HOST
};                           /* an answer comes to the guest; the other guest; outside; a socket of the host's */
enum { BARE, NAT, REMOVED }; /* what guest 0 has: a tap alone, NAT, NAT no more; guest 1 only ever has a tap */
enum { OWN, ITS, MADE_UP };  /* whose MAC it is from: its own, the other guest's, nobody's */
enum { GATEWAY, ALL, PEER, LLDP, LACP, PAUSE, TAP };
enum { UDP, ECHO, ASK, ANSWER, LIE }; /* LIE: an ASK whose sender in the frame is not the one in ARP */
#define OUTSIDE "198.51.100.2"
#define PORT 2000
#define TALK 1000 /* the port at which the host speaks to guests */

typedef struct {
  int state, guest, reaches, source, target, what;
  const char *from, *to;
  guint tags; /* of VLAN 0 */
  guint16 port;
} Frame;

/* Two guests, beside a way out on a host that forwards everything. */
typedef struct {
  BangerLease *leases[2];
  int taps[2];
  int tap_index[2], out_index;
  int host, links;
} Guests;

void open_guests (Guests *guests);
void close_guests (Guests *guests);
void write_frame (int tap, const Frame *frame, guint64 mark);
void try_frame (const Guests *guests, const Frame *frame);
int arrives (const Guests *guests, const Frame *frame, guint64 mark);
guint16 header_sum (const void *header, size_t bytes);
void link_address (const char *name, guint8 mac[ETH_ALEN]);
void source_mac (int guest, int whose, guint8 mac[ETH_ALEN]);

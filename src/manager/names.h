/* Names of running VMs: who has one, the server that says so, and the host's resolver that is sent there.
 * Never fails as a whole: without a port or without systemd-resolved VMs run as well, and the doctor says what lacks. */
#pragma once

#include "manager/net/address.h"
#include "manager/peer/helper.h"

typedef struct BangerNames BangerNames;

/** banger_names_new: @bridge, @helper: borrowed. @port: of 127.0.0.1, 0: no names. */
BangerNames *banger_names_new (const char *bridge, const BangerSubnet *subnet, BangerHelper *helper, guint16 port);
void banger_names_free (BangerNames *names);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerNames, banger_names_free)

/** banger_names_put: that VM runs. @address: "10.213.0.2". */
void banger_names_put (BangerNames *names, const char *id, const char *name, const char *address);
void banger_names_drop (BangerNames *names, const char *id);

/** banger_names_set_port: from now on. */
void banger_names_set_port (BangerNames *names, guint16 port);
/** banger_names_route_again: whoever sent the host's questions here may have forgotten it, or can be asked at last. */
void banger_names_route_again (BangerNames *names);
/** banger_names_end: nothing is routed here any more, before the port is let go. Returns: whether that is under way:
 * call it again, for two seconds at most. */
gboolean banger_names_end (BangerNames *names);

/* As it is now; strings are the receiver's. */
typedef struct {
  guint16 port;   /* 0: none is wanted */
  char *unserved; /* why nobody listens there, NULL */
  gboolean taken; /* that somebody else does */
  gboolean routed;
  char *unrouted; /* why the last attempt failed, NULL */
  guint named;    /* VMs */
} BangerNamesStatus;
void banger_names_status (BangerNames *names, BangerNamesStatus *ret);
void banger_names_status_clear (BangerNamesStatus *status);

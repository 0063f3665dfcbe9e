/* The tables of banger in nftables: who may send what, and to whom frames go.
 * Never touches a table of another name. */
#pragma once

#include "privileged/lease.h"

/**
 * banger_filter_start:
 * Opens the socket that all changes of the tables go through. To be called before anybody is served: libnftables waits
 * on it with select(2), which ends the process where the descriptor is not below FD_SETSIZE.
 */
gboolean banger_filter_start (GError **error);

/**
 * banger_filter_add_locked:
 * Lets the VM of @lease, whose tap is there, send as what it is and no more, and with @lease->nat to the outside. One
 * transaction of set elements; with the first tap of a bridge the tables are written whole.
 */
gboolean banger_filter_add_locked (const BangerRoot *root, const BangerLease *lease, GError **error);
/** banger_filter_remove_locked: takes back all that was added for @vm; with the last VM the tables go. */
gboolean banger_filter_remove_locked (const BangerRoot *root, const char *vm, GError **error);
/** banger_filter_restore_locked: the tables anew from the leases whose tap is there; without one there are none. */
gboolean banger_filter_restore_locked (const BangerRoot *root, GError **error);

/** banger_filter_restore: the same at the helper's start, for taps that outlived the former one. */
void banger_filter_restore (const BangerRoot *root);

/** banger_filter_lend_locked: what comes in by the links @lent (of guint, indices) is forwarded to guests alone. */
gboolean banger_filter_lend_locked (const BangerRoot *root, const GArray *lent, GError **error);

typedef enum {
  BANGER_FILTER_MENDED,
  BANGER_FILTER_BROKEN,   /* with error */
  BANGER_FILTER_NOT_USED, /* there is no VM */
} BangerFilterMend;

/** banger_filter_mend: somebody changed the tables: anew what the leases say. Takes the network lock. */
BangerFilterMend banger_filter_mend (const BangerRoot *root, GError **error);

/** banger_filter_name: Returns: (transfer full): "banger", or with what follows br-fc in the name of root's bridge. */
char *banger_filter_name (const BangerInstall *install);

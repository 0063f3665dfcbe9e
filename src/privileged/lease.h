/* Leases: what the helper holds for a VM, on disk before it exists (requirement H6).
 * Never believed: each name that is read back must follow from the VM's id. */
#pragma once

#include <glib.h>
#include <json-glib/json-glib.h>

#include "privileged/root.h"

typedef struct {
  char *vm;
  uid_t uid;
  /* Each NULL, FALSE or 0 if not held: */
  char *tap;
  char *bridge;         /* with tap */
  char *bridge_address; /* with tap; CIDR */
  char *guest_address;  /* with tap; NULL only in leases of former versions */
  gboolean nat;         /* the guest may go outside */
  char *links;          /* with guest address; "ID,ID": VMs that it may reach, see set-reach.h */
  char *ports;          /* with guest address; "PORT,PORT": of the bridge's address, likewise */
  char *dm;             /* the snapshot's device-mapper name */
  char *image;          /* with dm */
  char *cgroup;         /* the VMM's, as in /proc/PID/cgroup */
  gboolean jail;        /* the chroot folder, and the sockets' folder */
  guint32 pid;          /* of the VMM */
  guint64 start;        /* its start time in clock ticks since boot */
  guint32 memory_mib;   /* what its VMM may have of the host's */
} BangerLease;

/* <id>.json in the folder of leases. */
#define BANGER_LEASE_SUFFIX ".json"

/** banger_lease_new: nothing is held yet, and nothing written. */
BangerLease *banger_lease_new (const char *vm, uid_t uid);
/** banger_lease_ref: for those in lists, which are shared. */
BangerLease *banger_lease_ref (BangerLease *lease);
void banger_lease_free (BangerLease *lease);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerLease, banger_lease_free)

/** banger_lease_load: the lease of @vm, whoever's it is. @ret_missing: nullable. */
BangerLease *banger_lease_load (const BangerRoot *root, const char *vm, gboolean *ret_missing, GError **error);
/** banger_lease_is_of_another: whether the file names another uid, whatever else is wrong with it. */
gboolean banger_lease_is_of_another (const BangerRoot *root, const char *vm, uid_t uid);
/** banger_lease_exists: whether there is a file for @vm, readable as a lease or not; also when that cannot be told. */
gboolean banger_lease_exists (const BangerRoot *root, const char *vm);
/** banger_lease_save: writes it whole; call before the resource is made and after it is gone. */
gboolean banger_lease_save (const BangerRoot *root, const BangerLease *lease, GError **error);
gboolean banger_lease_remove (const BangerRoot *root, const char *vm, GError **error);

/** What of a lease is counted. */
typedef gboolean (*BangerLeaseHolds) (const BangerLease *lease);
/**
 * banger_lease_check_room:
 * Whether @lease may hold one more of what @holds counts among the leases of its uid. %BANGER_ERROR_LIMITS_EXCEEDED
 * naming @key, as in "limits.taps". Call under the lock that the resource is made under.
 */
gboolean banger_lease_check_room (const BangerRoot *root, const BangerLease *lease, BangerLeaseHolds holds, guint64 max,
                                  const char *key, GError **error);

/** banger_lease_memory: MiB of all leases but that of @but for which @holds. */
gboolean banger_lease_memory (const BangerRoot *root, const char *but, BangerLeaseHolds holds, guint64 *ret_mib,
                              GError **error);

/** banger_lease_list: every readable lease, shared, so not to be changed; @ret_broken (nullable) gets the ids of
 * unreadable ones. */
GPtrArray *banger_lease_list (const BangerRoot *root, GPtrArray **ret_broken, GError **error);

/**
 * banger_lease_get:
 * The lease of @vm if it is @uid's. %BANGER_ERROR_NO_SUCH_LEASE without one, %BANGER_ERROR_ACCESS_DENIED if another's.
 */
BangerLease *banger_lease_get (const BangerRoot *root, const char *vm, uid_t uid, GError **error);

/**
 * banger_lease_ensure:
 * The same, made and saved if it is missing: refused where another VM has the tap name or the quota is used up.
 * @ret_new: nullable.
 */
BangerLease *banger_lease_ensure (const BangerRoot *root, const char *vm, uid_t uid, gboolean *ret_new, GError **error);

/** banger_lease_resources: Returns: (transfer full): "tap,nat,snapshot,jail,cgroup" as held; "" for none. */
char *banger_lease_resources (const BangerLease *lease);

/** banger_lease_parse / banger_lease_to_json: for tests; @vm is the id of the file's name. */
BangerLease *banger_lease_parse (JsonObject *object, const char *vm, GError **error);
JsonObject *banger_lease_to_json (const BangerLease *lease);

/* What the helper holds while it runs: install metadata, folders, its cgroup.
 * Never changes after start, so worker threads read it without a lock. */
#pragma once

#include <gio/gio.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/install.h"

/* The chroot base is <state>/jail; both jailers use <base>/<exec name>/<id>/root. */
#define BANGER_JAIL_DIR "jail"
#define BANGER_JAIL_EXEC_NAME "firecracker"
/* What VMs wrote over their images: <state>/cow/<uid>/<vm>, see cow.h. */
#define BANGER_COW_DIR "cow"

typedef struct {
  const BangerInstall *install;
  int runtime_fd;                  /* <runtime>, root's */
  int leases_fd;                   /* <runtime>/leases, root's, 0700 */
  struct BangerLeaseCache *leases; /* what is in there; NULL: it is read each time */
  int sockets_fd;                  /* <runtime>/<uid>, the owner's */
  int owner_fd;                    /* <state>/<uid>, the owner's */
  int jail_fd;                     /* <state>/jail/firecracker, root's */
  int cow_fd;                      /* <state>/cow/<uid>, root's, 0700 */
  int cgroup_fd;                   /* the cgroup2 mount; whatever covers it later */
  gboolean systemd;
  char *cgroup_root; /* the cgroup that is mounted there, "/" outside containers */
  char *cgroup_own;  /* the helper's cgroup, as in /proc/self/cgroup */
} BangerRoot;

/**
 * banger_root_open:
 * Makes what is missing of the runtime and state folders, checks owners and modes of what is there, finds the cgroup.
 * @install: borrowed for the life of the result.
 */
BangerRoot *banger_root_open (const BangerInstall *install, GError **error);
void banger_root_free (BangerRoot *root);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerRoot, banger_root_free)

/** banger_root_create_file: a new file of the owner's below <state>/<uid>, sparse, @bytes long. Returns: a descriptor.
 */
int banger_root_create_file (const BangerRoot *root, const char *path, int flags, guint64 bytes, GError **error);

/** banger_root_drop_privileges: bounds the process to the documented capabilities (requirement A7). */
gboolean banger_root_drop_privileges (GError **error);
/** banger_root_capabilities: their names, in the order of the unit file. */
const char *const *banger_root_capabilities (void);

/* The install metadata (install.toml): who the owner is, where things are, which engine runs.
 * Never trusted by the helper unless root-owned and writable by root alone. */
#pragma once

#include <glib.h>
#include <sys/types.h>

typedef struct {
  char *owner_user;
  uid_t owner_uid; /* (uid_t) -1 until read */
  gid_t owner_gid;
  char *owner_home;
  char *version;
  char *state_dir;   /* default /var/lib/banger */
  char *runtime_dir; /* default /run/banger */
  char *cache_dir;
  char *bridge;         /* default br-fc */
  char *bridge_address; /* CIDR; default 10.213.0.1/24 */
  char *network_pool;   /* CIDR; what bridges may take of the private nets; NULL: the net of bridge_address */
  char *engine;         /* auto, firecracker, qemu */
  /* [engine.firecracker], [engine.qemu]: */
  char *firecracker_vmm, *firecracker_jailer;
  char *qemu_vmm, *qemu_jailer;
  /* [tools]: what root runs besides the engine, as the owner */
  char *tool_disk, *tool_e2fsck;
  /* [limits] per owner: */
  guint64 max_vms, max_bridges, max_taps, max_snapshots, max_loops, max_pending;
  guint64 max_calls;               /* a second, of each uid */
  guint64 max_workers;             /* at once */
  guint64 max_total_memory_mib;    /* of all VMs together */
  guint64 max_disk_mib;            /* of all snapshots; 0: as the file system is */
  guint64 max_snapshot_memory_mib; /* the kernel's, for all of them */
  guint64 max_memory_mib;          /* of one VM */
  guint64 max_connections;         /* of one VM, through or to the host */
  guint64 guest_seconds;           /* for each step of a start that waits for the guest */
} BangerInstall;

/** banger_install_parse: @text as read; @name for messages. Missing owner is an error. */
BangerInstall *banger_install_parse (const char *text, size_t length, const char *name, GError **error);
/** banger_install_load: reads @path (%NULL: $BANGER_CONFIG, else /etc/banger/install.toml). */
BangerInstall *banger_install_load (const char *path, GError **error);
/** banger_install_load_trusted: as above for root: O_NOFOLLOW, root-owned, not writable by group or others; the
 * environment is not asked. */
BangerInstall *banger_install_load_trusted (const char *path, GError **error);
void banger_install_free (BangerInstall *install);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerInstall, banger_install_free)

/* The gates: what is let through and what is refused, as functions over values and descriptors (requirements B).
 * Never changes anything, never opens more than the descriptor or path it judges. */
#pragma once

#include <glib.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "disk/protocol.h"
#include "privileged/root.h"

/* gate-network.c: B2, B3, B4 */

/** banger_gate_tap_name: @tap is the name that follows from @vm. */
gboolean banger_gate_tap_name (const char *tap, const char *vm, GError **error);
/** banger_gate_bridge_address: @cidr as banger_ipv4_cidr_parse(), private (RFC 1918), and a host address of its net. */
gboolean banger_gate_bridge_address (const char *cidr, struct in_addr *ret_address, guint *ret_prefix, GError **error);
/** banger_gate_bridge_net: as above, and root's choice: install.toml's network.address, or inside its network.pool. */
gboolean banger_gate_bridge_net (const BangerInstall *install, const char *cidr, GError **error);
/** banger_gate_guest_address: @guest is a host address in the net of @bridge_cidr, and not the bridge's own. */
gboolean banger_gate_guest_address (const char *guest, const char *bridge_cidr, GError **error);
/** banger_gate_nets_overlap: whether two IPv4 nets share an address. Prefixes 0..32. */
gboolean banger_gate_nets_overlap (struct in_addr a, guint a_prefix, struct in_addr b, guint b_prefix);

/** Where the names of the guests are served: IPv4 and port, both in host byte order. */
typedef struct {
  guint32 address;
  guint16 port;
} BangerResolverAddress;

/**
 * banger_gate_resolver:
 * "a.b.c.d" (port 53) or "a.b.c.d:port", port a plain number in 1..65535. The address is on this host: 127.0.0.0/8 but
 * for the host resolver's own 127.0.0.53 and 127.0.0.54, or @bridge_address (nullable: any RFC 1918 address passes, to
 * be asked again when the bridge's is known).
 */
gboolean banger_gate_resolver (const char *text, const struct in_addr *bridge_address, BangerResolverAddress *ret,
                               GError **error);

#define BANGER_REACH_MAX_LINKS 32
#define BANGER_REACH_MAX_PORTS 16
/** banger_gate_link: that @link is the id of another VM than @vm. */
gboolean banger_gate_link (const char *vm, const char *link, GError **error);
/** banger_gate_reach: "ID,ID" and "PORT,PORT", NULL for none, as a lease of @vm has them. */
gboolean banger_gate_reach (const char *vm, const char *links, const char *ports, GError **error);

/* gate-device.c: B6 */

/** banger_gate_dm_name: @name is the name that follows from @vm. */
gboolean banger_gate_dm_name (const char *name, const char *vm, GError **error);
/** banger_gate_loop_path: "/dev/loopN", N a plain number. */
gboolean banger_gate_loop_path (const char *path, GError **error);

/* gate-disk.c: B7 */

/** A file to be written into a disk; all borrowed. */
typedef struct {
  const char *path;
  guint32 mode;
  const void *data;
  size_t length;
} BangerDiskFile;

/** banger_gate_disk_path: absolute, no empty, "." or ".." component, no control character, bounded lengths. */
gboolean banger_gate_disk_path (const char *path, GError **error);
/** banger_gate_disk_files: of BangerDiskFile: 1 to 64, each path as above and different, permission bits only, at most
 * 4 MiB together. */
gboolean banger_gate_disk_files (const GPtrArray *files, GError **error);

/* gate-signal.c: B8 */

/** banger_gate_signal: the number of an allowed name, any case, with or without "SIG". */
gboolean banger_gate_signal (const char *name, int *ret_signal, GError **error);

/* gate-exec.c: B10 */

/**
 * banger_gate_exec:
 * Opens @path for execution by descriptor: each folder on the way is root's, not writable by others, and no link; the
 * file is regular, root's, executable, not writable by group or others.
 * Returns: an O_PATH descriptor, -1 with %BANGER_ERROR_UNSAFE_FILE.
 */
int banger_gate_exec (const char *path, GError **error);
/** banger_gate_exec_stat: the rule on the file alone. */
gboolean banger_gate_exec_stat (const struct stat *st, const char *path, GError **error);

/* gate-process.c: B9 */

/** banger_gate_cgroup_path: Returns: (transfer full): the cgroup2 path ("0::") of a /proc/PID/cgroup, %NULL without. */
char *banger_gate_cgroup_path (const char *text);
/** banger_gate_proc_stat: state and start time (clock ticks since boot) of a /proc/PID/stat, see proc(5). */
gboolean banger_gate_proc_stat (const char *text, char *ret_state, guint64 *ret_start);
/** banger_gate_proc_uid: the one uid of a /proc/PID/status whose four uids are equal. */
gboolean banger_gate_proc_uid (const char *text, uid_t *ret_uid);

/** What a lease says about a VMM. */
typedef struct {
  pid_t pid;
  guint64 start; /* clock ticks since boot; 0 is never right */
  uid_t uid;     /* the owner; the jailer before it drops to it is uid 0 */
  const char *cgroup;
  const char *vm, *folder; /* for the orphan rule: the VM's id and its folder of sockets; NULL: without it */
} BangerProcessClaim;

/**
 * banger_gate_process:
 * Pins @claim->pid by a pidfd and checks that it is the process of the claim: never 0, 1 or the helper; same start
 * time; exactly that cgroup and the owner's uid or still the jailer's; or, for one that was moved out of its cgroup,
 * exactly the owner's uid and a command line as in banger_gate_orphan().
 * Returns: the pidfd; -1 with %BANGER_ERROR_WRONG_STATE (it has ended), %BANGER_ERROR_ACCESS_DENIED (not ours), or
 * another: this process lacks something, a descriptor say, and nothing is known of that one.
 */
int banger_gate_process (const BangerProcessClaim *claim, GError **error);

/**
 * banger_gate_process_of_group:
 * Pins @pid if its four gids are @gid, which is one VM's alone, and its four uids @uid.
 * Returns: the pidfd; -1 with %BANGER_ERROR_WRONG_STATE (it has ended, or is of another group) or
 * %BANGER_ERROR_ACCESS_DENIED (of the group, but another user's), or another, likewise.
 */
int banger_gate_process_of_group (pid_t pid, uid_t uid, gid_t gid, GError **error);

/**
 * banger_gate_orphan:
 * Whether the words of a /proc/PID/cmdline (each ended by NUL) have exactly one of "--api-sock PATH", "--api-sock=PATH"
 * and "-a PATH", and PATH is a name directly in @folder; or the jail's fixed one, and exactly one "--id @vm". Words
 * after
 * "--" do not count. Never a part of a word.
 */
gboolean banger_gate_orphan (const char *bytes, size_t length, const char *folder, const char *vm);

/* gate-socket.c: B11 */

/**
 * banger_gate_socket:
 * Opens @name (a single component) in @folder_fd with O_PATH, follows no link: a socket with one link, @uid's or still
 * root's.
 * Returns: a descriptor, -1 with %BANGER_ERROR_UNSAFE_FILE, %BANGER_ERROR_WRONG_STATE if it is not there.
 */
int banger_gate_socket (int folder_fd, const char *name, uid_t uid, GError **error);

/* gate-file.c: B5 */

typedef enum {
  BANGER_MANAGED_KERNEL,          /* kernels/<id>/vmlinux, to read */
  BANGER_MANAGED_INITRD,          /* vms/<id>/initrd, to read */
  BANGER_MANAGED_ROOTFS,          /* vms/<id>/rootfs.ext4, to read and write */
  BANGER_MANAGED_WORK,            /* vms/<id>/work.ext4, to read and write */
  BANGER_MANAGED_CONSOLE,         /* vms/<id>/console.log, to append */
  BANGER_MANAGED_IMAGE,           /* images/<id>/rootfs.ext4, to read */
  BANGER_MANAGED_SAVE_STATE,      /* vms/<id>/suspending.state, to read and write */
  BANGER_MANAGED_SAVE_MEMORY,     /* vms/<id>/suspending.memory, to read and write */
  BANGER_MANAGED_SAVED_STATE,     /* vms/<id>/suspended.state, to read */
  BANGER_MANAGED_SAVED_MEMORY,    /* vms/<id>/suspended.memory, to read */
  BANGER_MANAGED_TEMPLATE_STATE,  /* templates/<id>/state, to read */
  BANGER_MANAGED_TEMPLATE_MEMORY, /* templates/<id>/memory, to read */
} BangerManagedFile;

/**
 * banger_gate_file:
 * Opens the file that @id names below @owner_fd (the root of @uid): no link on the way, no other mount, regular, one
 * link, @uid's, not larger than its kind may be.
 * @ret_missing: nullable; %TRUE if the file is not there, which still is an error.
 * Returns: a descriptor, -1 with error.
 */
int banger_gate_file (int owner_fd, uid_t uid, BangerManagedFile kind, const char *id, gboolean *ret_missing,
                      GError **error);

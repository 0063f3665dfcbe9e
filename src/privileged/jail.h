/* The chroot of a VMM: staged by a child in a mount namespace of its own, so that its mounts die with the VMM.
 * Never writes to the host's file system but for one empty folder per VM. */
#pragma once

#include <sys/types.h>

#include "common/cage.h"
#include "privileged/root.h"

typedef struct {
  int tree_fd;  /* a detached mount, open_tree(2) */
  char *target; /* relative to the chroot */
  gboolean folder;
} BangerJailBind;

typedef struct {
  const char *name; /* relative to the chroot */
  mode_t mode;      /* with S_IFCHR or S_IFBLK */
  dev_t device;
  uid_t uid;
  gid_t gid;
} BangerJailNode;

/* Everything the child needs, made before the fork: after it, only system calls. */
typedef struct {
  char *top;        /* <state>/jail/firecracker/<id>; a tmpfs covers it in the child's namespace */
  int vmm_tree;     /* detached mount of the VMM's file, goes to <top>/firecracker */
  int jailer_fd;    /* executed */
  int null_fd;      /* stdin */
  int console_fd;   /* stdout and stderr */
  int go_fd;        /* one byte: go; end of file: give up */
  int report_fd;    /* close-on-exec; a BangerJailReport if a step fails */
  gboolean of_pair; /* the VMM is banger's */
  int tap_fd;       /* -1, or the VM's tap, which the jailer hands to the VMM by this number */
  const BangerCage *cage;
  GArray *binds;    /* of BangerJailBind */
  GArray *nodes;    /* of BangerJailNode */
  GPtrArray *links; /* pairs: name, target */
  char **argv;
  guint64 file_bytes; /* no file of the VMM's grows larger */
  GArray *own;        /* of int: every descriptor above, sorted; the child closes the others */
} BangerJailPlan;

typedef struct {
  int step;
  int errnum;
} BangerJailReport;

BangerJailPlan *banger_jail_plan_new (void);
void banger_jail_plan_free (BangerJailPlan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerJailPlan, banger_jail_plan_free)

/** banger_jail_bind: clones the mount of @fd (open_tree(2)) with @attributes (MOUNT_ATTR_*, mount_setattr(2)), to be
 * put on @target. */
gboolean banger_jail_bind (BangerJailPlan *plan, int fd, const char *target, gboolean folder, guint64 attributes,
                           GError **error);
/** banger_jail_clone: the detached mount alone. Returns: a descriptor, -1 on error. */
int banger_jail_clone (int fd, gboolean recursive, guint64 attributes, const char *what, GError **error);
/** banger_jail_bind_libraries: what the dynamic linker needs, read-only; with @programs all of /usr, else its folders
 * of libraries alone, which need the folders usr, usr/local and etc to be put in. */
gboolean banger_jail_bind_libraries (BangerJailPlan *plan, gboolean programs, GError **error);
/** banger_jail_node: a device node. */
void banger_jail_node (BangerJailPlan *plan, const char *name, mode_t mode, dev_t device, uid_t uid, gid_t gid);

/** banger_jail_seal: the plan is complete: call before the fork, after which nothing may be allocated. */
void banger_jail_seal (BangerJailPlan *plan);
/** banger_jail_fork: Returns: as fork(2). The child is the first process of a PID namespace. */
pid_t banger_jail_fork (void);
/** banger_jail_put_binds, banger_jail_put_nodes: in a child: what the plan has, into the folder @root of a tmpfs that
 * is the child's alone. Only system calls. Return: 0, or -1 with errno. */
int banger_jail_put_binds (const BangerJailPlan *plan, int root);
int banger_jail_put_nodes (const BangerJailPlan *plan, int root);
/** banger_jail_child: in that child: closes what is not the plan's, waits for the go, stages, becomes the
 * jailer. */
void banger_jail_child (const BangerJailPlan *plan) G_GNUC_NORETURN;
/** banger_jail_step_name: what failed, for a message. */
const char *banger_jail_step_name (int step);

/** banger_jail_make: the empty folder of @vm below @jail_fd. */
gboolean banger_jail_make (int jail_fd, const char *vm, GError **error);
/**
 * banger_jail_remove:
 * Removes the folder: no link is followed; mounts left below it are unmounted, deepest first; files go only when no
 * mount is left (requirement B12). A missing one is success.
 */
gboolean banger_jail_remove (const BangerRoot *root, const char *vm, GError **error);
/**
 * banger_jail_sweep:
 * Removes the folders of VMs without a lease: leases end with the boot of the host, folders do not. Call before anybody
 * can ask for a VM. What cannot be removed is recorded and stays.
 */
void banger_jail_sweep (const BangerRoot *root);

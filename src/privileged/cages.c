/* What the programs that the helper starts may ask of the kernel.
 * Runs in worker threads.
 * Never the only wall. */
#include "privileged/cages.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/sched.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "common/cage-rows.h"

/* @flags of open(2) that make a file, whose @mode has these bits. */
/* clang-format off */
#define DENY_MADE(call, arg, flag, bits) \
  { call, EPERM, 2, { { arg, SCMP_CMP_MASKED_EQ, flag, flag }, { arg + 1, SCMP_CMP_MASKED_EQ, bits, bits } } }
/* clang-format on */
#define DENY_MARK(call, arg) DENY_BITS (call, arg, S_ISUID, S_ISUID), DENY_BITS (call, arg, S_ISGID, S_ISGID)
#define DENY_MARK_MADE(call, arg)                                                                                      \
  DENY_MADE (call, arg, O_CREAT, S_ISUID), DENY_MADE (call, arg, O_CREAT, S_ISGID),                                    \
      DENY_MADE (call, arg, TMPFILE, S_ISUID), DENY_MADE (call, arg, TMPFILE, S_ISGID)
#define TMPFILE (O_TMPFILE & ~O_DIRECTORY)
#define DENY_IOCTL(request) DENY_BITS ("ioctl", 1, BANGER_CAGE_INT, request)
#define SOCKET_TYPE 0xf

/* A list of what is taken away, and not of what is allowed: Firecracker and QEMU have lists of the latter sort of their
 * own, which know them better, and change with their versions; ours would have to hold both, their C libraries and two
 * jailers. It can be complete, as it is about the calls that there are: newer ones are not let through at all (cage.c).
 * Calls that only a capability opens are left to the jailers, who need them, and closed to the VMM, which has none.
 * Signals are not here: a VMM is in a PID namespace of its own, and names nobody else. */
static const BangerCageRow vmm_rows[] = {
  /* Goes around every filter. */
  MISSING ("io_uring_setup"),
  MISSING ("io_uring_enter"),
  MISSING ("io_uring_register"),
  /* Sockets: unix streams, to be connected to. The names of abstract ones are the host's. */
  DENY_NOT ("socket", 0, AF_UNIX),
  DENY_BITS ("socket", 1, SOCKET_TYPE, SOCK_DGRAM),
  DENY_BITS ("socket", 1, SOCKET_TYPE, SOCK_RAW), /* on AF_UNIX the same as SOCK_DGRAM */
  DENY_NOT ("socketpair", 0, AF_UNIX),
  DENY_BITS ("socketpair", 1, SOCKET_TYPE, SOCK_DGRAM),
  DENY_BITS ("socketpair", 1, SOCKET_TYPE, SOCK_RAW),
  DENY ("connect"),
  /* Other processes. */
  DENY ("ptrace"),
  DENY ("process_vm_readv"),
  DENY ("process_vm_writev"),
  DENY ("process_madvise"),
  DENY ("process_mrelease"),
  DENY ("kcmp"),
  DENY ("move_pages"),
  DENY ("migrate_pages"),
  DENY ("pidfd_open"),
  DENY ("pidfd_getfd"),
  DENY ("pidfd_send_signal"),
  /* New namespaces; the jailers need the one of mounts, for which a VMM has no right. A filter cannot read what clone3
   * is given: libraries go on with clone. */
  MISSING ("clone3"),
  DENY_BITS ("clone", 0, CLONE_NEWNS, CLONE_NEWNS),
  DENY_BITS ("clone", 0, CLONE_NEWCGROUP, CLONE_NEWCGROUP),
  DENY_BITS ("clone", 0, CLONE_NEWUTS, CLONE_NEWUTS),
  DENY_BITS ("clone", 0, CLONE_NEWIPC, CLONE_NEWIPC),
  DENY_BITS ("clone", 0, CLONE_NEWUSER, CLONE_NEWUSER),
  DENY_BITS ("clone", 0, CLONE_NEWPID, CLONE_NEWPID),
  DENY_BITS ("clone", 0, CLONE_NEWNET, CLONE_NEWNET),
  DENY_BITS ("unshare", 0, CLONE_NEWCGROUP, CLONE_NEWCGROUP),
  DENY_BITS ("unshare", 0, CLONE_NEWUTS, CLONE_NEWUTS),
  DENY_BITS ("unshare", 0, CLONE_NEWIPC, CLONE_NEWIPC),
  DENY_BITS ("unshare", 0, CLONE_NEWUSER, CLONE_NEWUSER),
  DENY_BITS ("unshare", 0, CLONE_NEWPID, CLONE_NEWPID),
  DENY_BITS ("unshare", 0, CLONE_NEWNET, CLONE_NEWNET),
  DENY_BITS ("unshare", 0, CLONE_NEWTIME, CLONE_NEWTIME),
  DENY ("setns"),
  /* Keys, and what has often been the way into the kernel. */
  DENY ("add_key"),
  DENY ("request_key"),
  DENY ("keyctl"),
  DENY ("bpf"),
  DENY ("perf_event_open"),
  DENY ("userfaultfd"),
  DENY ("vmsplice"),
  DENY ("remap_file_pages"),
  DENY ("modify_ldt"),
  DENY ("personality"),
  DENY ("name_to_handle_at"),
  DENY ("fsopen"),
  DENY ("fspick"),
  DENY ("syslog"),
  /* Counted per uid: a VMM could leave its owner none. */
  DENY ("inotify_init"),
  DENY ("inotify_init1"),
  DENY ("fanotify_init"),
  DENY ("mq_open"),
  DENY ("mq_unlink"),
  /* A file of the VM's group that is executed as that, outside of the jail, by whoever has the owner's uid: the mounts
   * in the jail are nosuid, the folders behind them are not. A filter cannot read what openat2 is given. */
  DENY_MARK ("chmod", 1),
  DENY_MARK ("fchmod", 1),
  DENY_MARK ("fchmodat", 2),
  DENY_MARK ("mkdir", 1),
  DENY_MARK ("mkdirat", 2),
  DENY_MARK ("mknod", 1),
  DENY_MARK ("mknodat", 2),
  DENY_MARK ("creat", 1),
  DENY_MARK_MADE ("open", 1),
  DENY_MARK_MADE ("openat", 2),
  MISSING ("openat2"),
  /* Who holds a lease on a file that VMs share, as the kernel image, has others wait for it, or refused. */
  DENY_BITS ("fcntl", 1, BANGER_CAGE_INT, F_SETLEASE),
  DENY_BITS ("fcntl", 1, BANGER_CAGE_INT, F_NOTIFY),
  /* What is set on a tap for others to see, and input to a terminal. */
  DENY_IOCTL (SIOCSIFHWADDR),
  DENY_IOCTL (TUNSETPERSIST),
  DENY_IOCTL (TUNSETOWNER),
  DENY_IOCTL (TUNSETGROUP),
  DENY_IOCTL (TUNSETLINK),
  DENY_IOCTL (TUNSETQUEUE),
  DENY_IOCTL (TUNSETCARRIER),
  DENY_IOCTL (TUNATTACHFILTER),
  DENY_IOCTL (TUNSETSTEERINGEBPF),
  DENY_IOCTL (TUNSETFILTEREBPF),
  DENY_IOCTL (TIOCSTI),
  DENY_IOCTL (TIOCLINUX),
  END_OF_ROWS,
};

#define ALLOW_IOCTL(request) ALLOW_VALUE ("ioctl", 1, request)
#define ALLOW_PRCTL(option) ALLOW_VALUE ("prctl", 0, option)

/* Of both that look into disks, beside what any program needs to start in a root of its own. The one call that executes
 * takes a descriptor: it is let through for the start, and there is no other program in that root. */
static const BangerCageRow disk_rows[] = {
  ALLOW ("fadvise64"),
  ALLOW ("readahead"),
  ALLOW ("memfd_create"), /* libseccomp's, in banger-disk */
  ALLOW_IOCTL (BLKGETSIZE64),
  ALLOW_IOCTL (BLKGETSIZE),
  ALLOW_IOCTL (BLKSSZGET),
  ALLOW_IOCTL (BLKPBSZGET),
  ALLOW_IOCTL (BLKROGET),
  ALLOW_IOCTL (BLKFLSBUF),
  ALLOW_IOCTL (BLKDISCARD),
  ALLOW_IOCTL (BLKDISCARDZEROES),
  ALLOW_IOCTL (BLKZEROOUT),
  ALLOW_IOCTL (TCGETS),
  ALLOW_PRCTL (PR_GET_DUMPABLE),
  ALLOW_PRCTL (PR_SET_DUMPABLE),
  ALLOW_PRCTL (PR_SET_NO_NEW_PRIVS),
  ALLOW_PRCTL (PR_SET_SECCOMP),
  END_OF_ROWS,
};

static const BangerCageTable vmm_table = { 0, { vmm_rows } };

/* Each is made once, and stays. */
static const BangerCage *
cage_of (const BangerCageTable *table, BangerCage **made, const char *whose, GError **error)
{
  static GMutex lock;
  g_mutex_lock (&lock);
  if (!*made)
    *made = banger_cage_new (table);
  int errnum = errno;
  const BangerCage *cage = *made;
  g_mutex_unlock (&lock);
  if (!cage)
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errnum, "cannot make the filter of system calls of %s", whose);
  return cage;
}

const BangerCage *
banger_cage_of_vmm (GError **error)
{
  static BangerCage *made;
  return cage_of (&vmm_table, &made, "a VMM", error);
}

const BangerCage *
banger_cage_of_disk (GError **error)
{
  static const BangerCageTable table = { EPERM, { banger_cage_basic, banger_cage_exec, disk_rows } };
  static BangerCage *made;
  return cage_of (&table, &made, "banger-disk", error);
}

const BangerCage *
banger_cage_of_check (GError **error)
{
  static const BangerCageTable table = { EPERM,
                                         { banger_cage_basic, banger_cage_exec, banger_cage_threads, disk_rows } };
  static BangerCage *made;
  return cage_of (&table, &made, "e2fsck", error);
}

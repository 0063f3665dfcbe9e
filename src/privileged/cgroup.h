/* The cgroup of each VMM: where it is, how a process enters it, how it ends.
 * Never touches a cgroup whose name does not follow from a VM id. */
#pragma once

#include <glib.h>

/* What one VM's processes may take together. */
typedef struct {
  guint64 memory_bytes;
  guint64 tasks;
  guint64 cpu_weight; /* 1 to 10000; every VM has the same */
} BangerLimits;

/**
 * banger_cgroup_find:
 * Opens the cgroup2 mount of /proc/self/mountinfo that is seen at its path (cgroups(7); hybrid hosts have it at
 * /sys/fs/cgroup/unified), and finds the caller's own cgroup. @ret_root: the cgroup that is mounted there.
 * Returns: a descriptor; -1 with %BANGER_ERROR_NOT_SUPPORTED.
 */
int banger_cgroup_find (char **ret_root, char **ret_own, GError **error);

/** A line of mountinfo. */
typedef struct {
  guint64 id;
  char *root; /* the cgroup that is mounted */
  char *path;
} BangerCgroupMount;
void banger_cgroup_mount_free (BangerCgroupMount *mount);

/** banger_cgroup_parse_mountinfo: Returns: (transfer full): of BangerCgroupMount: the cgroup2 lines of @text, see
 * proc(5). */
GPtrArray *banger_cgroup_parse_mountinfo (const char *text);

/** banger_cgroup_of_vm: Returns: (transfer full): the cgroup of @vm as /proc/PID/cgroup shows it: the scope's, or a
 * sub-cgroup of @own. */
char *banger_cgroup_of_vm (gboolean systemd, const char *own, const char *vm);

/** banger_cgroup_check: @cgroup, read from a lease, is absolute, has no "..", and ends in the name of @vm. */
gboolean banger_cgroup_check (const char *cgroup, const char *vm, GError **error);

/** banger_cgroup_open: @mount, @mount_root: as found. Returns: the folder of @cgroup, made if @create; -1 with error. */
int banger_cgroup_open (int mount, const char *mount_root, const char *cgroup, gboolean create, GError **error);

/**
 * banger_cgroup_limit:
 * Writes @limits into the files of @fd, a cgroup below @parent_fd, after switching the controllers on for it. They are
 * not switched on where @parent_fd has processes and is not the root: the kernel would refuse some, and with the others
 * refuse every process in @fd ("domain invalid", Documentation/admin-guide/cgroup-v2.rst).
 * Returns: (transfer full): the controllers that could not be had, "memory, pids"; "" if all are.
 */
char *banger_cgroup_limit (int parent_fd, int fd, const BangerLimits *limits);

/**
 * banger_cgroup_remove:
 * Kills what is left in @cgroup (cgroup.kill), waits at most @timeout_ms until it is empty, removes it. A missing one
 * is success, as is one that cannot be there, since it is not below what is mounted. Blocks: for worker threads.
 */
gboolean banger_cgroup_remove (int mount, const char *mount_root, const char *cgroup, guint timeout_ms, GError **error);

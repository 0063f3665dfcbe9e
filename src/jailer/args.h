/* Firecracker's jailer's command line, checked strictly.
 * Never touches the file system. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define BANGER_JAILER_MAX_CGROUP_FILES 64
#define BANGER_JAILER_MAX_MESSAGE 512

typedef struct {
  const char *file, *value; /* file: "memory.max" */
  size_t file_length;
} BangerJailerCgroupFile;

typedef struct {
  const char *id, *exec_file, *chroot_base, *netns, *parent_cgroup;
  uid_t uid;
  gid_t gid;
  bool daemonize, new_pid_ns, help, version;
  int cgroup_version;
  BangerJailerCgroupFile cgroup[BANGER_JAILER_MAX_CGROUP_FILES];
  size_t n_cgroup;
  bool has_fsize, has_no_file;
  uint64_t fsize, no_file;
  int keep_fd;     /* the VMM inherits it; 0: none */
  char **vmm_args; /* what follows "--", ended by NULL */
} BangerJailerArgs;

/**
 * banger_jailer_parse:
 * Points into @argv. On failure the reason is in @ret_message.
 * Stricter than Firecracker's: an option given twice, uid 0 and gid 0 are refused.
 */
bool banger_jailer_parse (int argc, char **argv, BangerJailerArgs *ret_args,
                          char ret_message[BANGER_JAILER_MAX_MESSAGE]);

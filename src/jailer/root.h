/* The jail's root: directories, the VMM's file, device nodes, mount namespace.
 * Never follows a symbolic link below the chroot base. */
#pragma once

#include "jailer/args.h"

/** banger_jailer_die: prints the message and ": <strerror>" when @errnum is positive; exits with 1. */
void banger_jailer_die (int errnum, const char *format, ...) __attribute__ ((format (printf, 2, 3), noreturn));

typedef struct {
  char exec_path[4096]; /* canonical */
  const char *exec_name;
  char base[4096]; /* canonical */
  bool have_kvm, have_urandom;
} BangerJail;

/** banger_jailer_prepare: resolves the paths and looks for the host's devices. */
void banger_jailer_prepare (const BangerJailerArgs *args, BangerJail *ret_jail);

/** banger_jailer_enter: own mount namespace, <base>/<exec name>/<id>/root as "/", with the VMM at /<exec name>. */
void banger_jailer_enter (const BangerJailerArgs *args, const BangerJail *jail);

/** banger_jailer_furnish: devices, /run and the owners, inside the jail. See pivot_root(2), mknod(2). */
void banger_jailer_furnish (const BangerJailerArgs *args, const BangerJail *jail);

/** banger_jailer_save_pid: <exec name>.pid in the jail's root, as Firecracker's jailer leaves it. */
void banger_jailer_save_pid (const BangerJail *jail, pid_t pid);

/* Guest kernels: records, and importing them as jobs.
 * Called by the bus side and by vm.c, which reads name and state.
 * Never knows D-Bus; the bytes are written by kernel-import.c. */
#pragma once

#include <gio/gio.h>

#include "manager/job.h"

typedef enum {
  BANGER_KERNEL_IMPORTING,
  BANGER_KERNEL_READY,
  BANGER_N_KERNEL_STATES,
} BangerKernelState;

extern const char *const banger_kernel_states[]; /* words, NULL-terminated */

typedef struct {
  BangerManager *manager;
  char *id;
  char *name;
  int state; /* BangerKernelState */
  char *version;
  char *source;
  char *digest;
  guint64 created_at; /* µs since the epoch */
  guint users;        /* VM verbs under way that rely on it */
} BangerKernel;

void banger_kernel_free (BangerKernel *kernel);

/** banger_kernel_load_all: fills manager->kernels. */
gboolean banger_kernel_load_all (BangerManager *manager, GError **error);

/**
 * banger_kernel_create_async:
 * @source: an absolute path of a .deb, ELF vmlinux or bzImage, or "apt:PACKAGE". @modules: (nullable): directory of
 * modules for ELF and bzImage. On failure or cancellation nothing is left.
 */
void banger_kernel_create_async (BangerManager *manager, const char *name, const char *source, const char *modules,
                                 BangerJob *job, GAsyncReadyCallback callback, gpointer user_data);
gboolean banger_kernel_create_finish (BangerManager *manager, GAsyncResult *result, GError **error);

/** banger_kernel_delete: InUse naming the VMs that rest on it; WrongState while it is importing. */
gboolean banger_kernel_delete (BangerKernel *kernel, GError **error);

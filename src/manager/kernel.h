/* Guest kernels: records, and importing them as jobs.
 * Called by the bus side and by manager.c on behalf of vm.c.
 * Never knows D-Bus; the bytes are written by kernel-import.c. */
#pragma once

#include <gio/gio.h>

#include "manager/job.h"

typedef enum {
  BANGER_KERNEL_IMPORTING,
  BANGER_KERNEL_READY,
  BANGER_N_KERNEL_STATES,
} BangerKernelState;

const char *banger_kernel_state_to_string (BangerKernelState state);
int banger_kernel_state_from_string (const char *word); /* -1 if unknown */

/* Strings are never NULL; "" is not known yet. */
typedef struct {
  BangerManager *manager;
  char *id;
  char *name;
  int state; /* BangerKernelState */
  char *version;
  char *source;
  char *digest;
  guint64 created_at; /* µs since the epoch */
} BangerKernel;

void banger_kernel_free (BangerKernel *kernel);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerKernel, banger_kernel_free)

/** banger_kernel_load_all: fills manager->kernels; half-made ones are removed. */
gboolean banger_kernel_load_all (BangerManager *manager, GError **error);

/**
 * banger_kernel_add:
 * First half of ImportKernel: checks name and source, makes the record in state importing.
 * @source: an absolute path of a .deb, ELF vmlinux or bzImage, or "apt:PACKAGE".
 * Returns: (transfer none): follow with banger_kernel_create_async() at once.
 */
BangerKernel *banger_kernel_add (BangerManager *manager, const char *name, const char *source, GError **error);

/** banger_kernel_drop: undoes banger_kernel_add() when no job could be made. */
void banger_kernel_drop (BangerKernel *kernel);

/**
 * banger_kernel_create_async:
 * Second half, in a worker. @modules: (nullable): directory of modules that go with an ELF or bzImage.
 * On failure or cancellation the kernel is gone.
 */
void banger_kernel_create_async (BangerKernel *kernel, const char *modules, BangerJob *job,
                                 GAsyncReadyCallback callback, gpointer user_data);
gboolean banger_kernel_create_finish (BangerManager *manager, GAsyncResult *result, GError **error);

/** banger_kernel_delete: InUse naming the VMs that rest on it; WrongState while it is importing. */
gboolean banger_kernel_delete (BangerKernel *kernel, GError **error);

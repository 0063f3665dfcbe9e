/* From the configured VM to QEMU's command line.
 * Never touches the host. */
#pragma once

#include "engine/vm-config.h"

typedef struct {
  const char *id, *qemu_path;
  gboolean kvm;
  guint tsc_khz;           /* TCG only; 0: not passed */
  int qmp_fd;              /* QEMU's end of the monitor */
  int agent_fd;            /* QEMU's end of the agent's serial port, or -1 */
  gboolean incoming;       /* waits for a state instead of booting */
  const char *memory_path; /* the guest's memory is in this file, or NULL */
  gboolean memory_private; /* what the guest writes does not go there */
} BangerQemuPlan;

/** The ids by which the monitor names devices. */
#define BANGER_QEMU_AGENT_ID "agent"

/**
 * banger_qemu_kernel_command_line:
 * The configured arguments plus root= for a root device, `reboot=k` as `reboot=t` (this machine's reset), under TCG
 * tsc_early_khz= and tsc=reliable. Returns: (transfer full).
 */
char *banger_qemu_kernel_command_line (const BangerVmConfig *config, const BangerQemuPlan *plan);

/** banger_qemu_args: see qemu-system-x86_64(1). Returns: (transfer full): %NULL when there are too many devices. */
GStrv banger_qemu_args (const BangerVmConfig *config, const BangerQemuPlan *plan, GError **error);

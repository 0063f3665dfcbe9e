/* What a VM uses: of the processor, memory, disk and network, as the host sees it; of its memory, as its guest says.
 * Never believes a guest more than what can be so. */
#pragma once

#include <gio/gio.h>

#include "manager/vm/vm.h"

enum { BANGER_STATS_LOADS = 3 };

/* What its guest says, checked. */
typedef struct {
  guint64 total_bytes, available_bytes;
  double loads[BANGER_STATS_LOADS]; /* of 1, 5 and 15 minutes */
} BangerGuestStats;

/* G_MAXUINT64: not known. */
typedef struct {
  guint64 uptime_usec;
  guint64 cpu_usec, at_usec; /* of processors, until at_usec of the host's monotonic clock */
  guint64 memory_bytes;      /* of its VMM's cgroup */
  guint64 root_bytes, work_bytes;
  guint64 received_bytes, sent_bytes; /* by the guest */
  gboolean guest_known;
  BangerGuestStats guest;
} BangerStats;

/**
 * banger_guest_stats_parse:
 * @text: (nullable): what an agent answered. @memory_mib: what the guest was given: it has no more.
 * Returns: %FALSE if it is not five numbers that can be so.
 */
gboolean banger_guest_stats_parse (const char *text, guint32 memory_mib, BangerGuestStats *ret_stats);

/** banger_stats_read_value: @text: of a file of numbers: "VALUE", or behind "KEY " at the beginning of a line. */
guint64 banger_stats_read_value (const char *text, const char *key);
/** banger_stats_cgroup: @text: of /proc/PID/cgroup. Returns: (transfer full) (nullable): the one of cgroup2, if it is that
 * of the VM. */
char *banger_stats_cgroup (const char *text, const char *id);

/**
 * banger_vm_stats_async:
 * Reads in a thread what the host knows, and asks the guest, if @ask and it runs; both within a few seconds, and what
 * does not answer is not known.
 */
void banger_vm_stats_async (BangerVm *vm, gboolean ask, GAsyncReadyCallback callback, gpointer user_data);
/** banger_vm_stats_finish: Returns: (transfer none): as long as @result is there. */
const BangerStats *banger_vm_stats_finish (GAsyncResult *result);

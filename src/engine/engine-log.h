/* The VMM's own log lines, as PUT /logger directs them.
 * Never writes a guest's or client's control characters. */
#pragma once

#include "engine/vm-config.h"

typedef enum {
  BANGER_VMM_LOG_OFF,
  BANGER_VMM_LOG_ERROR,
  BANGER_VMM_LOG_WARNING,
  BANGER_VMM_LOG_INFO,
  BANGER_VMM_LOG_DEBUG,
  BANGER_VMM_LOG_TRACE,
} BangerVmmLogLevel;

/** banger_vmm_log_init: @id is the instance's; lines go to stdout, from Info up. */
void banger_vmm_log_init (const char *id);

/** banger_vmm_log_configure: opens log_path and takes the set fields. Nothing changes on failure. */
gboolean banger_vmm_log_configure (const BangerLoggerConfig *logger, GError **error);

void banger_vmm_log (BangerVmmLogLevel level, const char *format, ...) G_GNUC_PRINTF (2, 3);

#define vmm_error(...) banger_vmm_log (BANGER_VMM_LOG_ERROR, __VA_ARGS__)
#define vmm_warning(...) banger_vmm_log (BANGER_VMM_LOG_WARNING, __VA_ARGS__)
#define vmm_info(...) banger_vmm_log (BANGER_VMM_LOG_INFO, __VA_ARGS__)
#define vmm_debug(...) banger_vmm_log (BANGER_VMM_LOG_DEBUG, __VA_ARGS__)

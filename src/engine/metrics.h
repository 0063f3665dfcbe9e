/* Counters of the VMM, one JSON line per flush, as PUT /metrics directs them.
 * Never blocks on a slow reader. */
#pragma once

#include "engine/vm-config.h"

/** banger_vmm_metrics_configure: opens metrics_path, once; a second time is a fault. */
gboolean banger_vmm_metrics_configure (const BangerMetricsConfig *metrics, GError **error);

/** banger_vmm_metrics_count: one more request of @method ("GET", "PUT", "PATCH") on @resource; @failed if refused. */
void banger_vmm_metrics_count (const char *method, const char *resource, gboolean failed);

/** banger_vmm_metrics_flush: FlushMetrics. A fault where no metrics file is configured. */
gboolean banger_vmm_metrics_flush (GError **error);

/* What the guest has used of its memory and processors, for the host.
 * Never takes more than two small files. */
#pragma once

#include <stddef.h>

/** guest_usage_format: from the texts of /proc/meminfo and /proc/loadavg: "TOTAL AVAILABLE LOAD LOAD LOAD": KiB, and the
 * loads of 1, 5 and 15 minutes in hundredths. Returns: 0, or -1 if they do not say it. */
int guest_usage_format (const char *meminfo, const char *loadavg, char *text, size_t size);
/** guest_usage: the same of this guest as it is. */
int guest_usage (char *text, size_t size);

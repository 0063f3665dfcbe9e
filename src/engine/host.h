/* What this host can do: KVM, the TSC's frequency, taps.
 * Never needs /proc or /sys: the jail has neither. */
#pragma once

#include <glib.h>

/** banger_host_has_kvm: /dev/kvm opens read-write, answers, and the CPU has vmx or svm (CPUID). */
gboolean banger_host_has_kvm (void);

/** banger_host_tsc_mark: takes the first of two readings; call it early in main(). */
void banger_host_tsc_mark (void);
/** banger_host_tsc_khz: the TSC against CLOCK_MONOTONIC_RAW since the mark; waits until 20 ms have passed. */
guint banger_host_tsc_khz (void);

/** banger_host_set_tap: "NAME:NUMBER" of a descriptor, taken over, that is attached to the tap of that name. */
gboolean banger_host_set_tap (const char *text, GError **error);
/** banger_host_open_tap: a copy of that descriptor; else attaches to @name, which must exist. Returns: a descriptor or
 * -1. See tun(4) in Linux's Documentation. */
int banger_host_open_tap (const char *name, GError **error);

/* What this host can do: KVM, the TSC's frequency, taps, vhost-vsock.
 * Used by the configuration model, the instance and the QEMU command line.
 * Never needs /proc or /sys: the jail has neither. */
#pragma once

#include <glib.h>

/** banger_host_has_kvm: /dev/kvm opens read-write, answers, and the CPU has vmx or svm (CPUID). */
gboolean banger_host_has_kvm (void);

/** banger_host_tsc_mark: takes the first of two readings; call it early in main(). */
void banger_host_tsc_mark (void);
/** banger_host_tsc_khz: the TSC against CLOCK_MONOTONIC_RAW since the mark; waits until 20 ms have passed. */
guint banger_host_tsc_khz (void);

/** banger_host_open_tap: attaches to @name, which must exist. Returns: a descriptor or -1. See tun(4) in Linux's
 * Documentation. */
int banger_host_open_tap (const char *name, GError **error);

/**
 * banger_host_reserve_cid:
 * Opens /dev/vhost-vsock and holds a context id for the guest: @wanted, or a random one where another VM has it.
 * Returns: a descriptor for QEMU's vhostfd=, or -1 where there is no usable vhost-vsock.
 */
int banger_host_reserve_cid (guint32 wanted, guint32 *ret_cid);

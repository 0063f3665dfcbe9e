/* What the guest says while it starts: the kernel log, and the console when something is wrong.
 * Never returns from guest_die(). */
#pragma once

/** guest_note: a line for dmesg(1) only, with the time since the kernel started. */
void guest_note (const char *format, ...) __attribute__ ((format (printf, 1, 2)));

/** guest_warn: a line "banger-guest: ..." for the kernel log and the console. */
void guest_warn (const char *format, ...) __attribute__ ((format (printf, 1, 2)));

/** guest_die: guest_warn(), then restarts the machine: the VMM ends instead of waiting for a guest that will not come.
 */
void guest_die (const char *format, ...) __attribute__ ((format (printf, 1, 2), noreturn));

/** guest_start_watchdog: guest_die() in @seconds unless guest_stop_watchdog() comes first; @what is read then. */
void guest_start_watchdog (unsigned seconds, const char *const *what);
void guest_stop_watchdog (void);

/** guest_now_ms: milliseconds since the kernel started (CLOCK_MONOTONIC). */
long long guest_now_ms (void);

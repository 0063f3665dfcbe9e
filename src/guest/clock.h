/* The guest's time of day, by the host's word: the kernel's own source may be slow, and knows of no pause.
 * Never sets the clock back where a slower clock does. */
#pragma once

/** guest_clock_usec: CLOCK_REALTIME in microseconds. */
long long guest_clock_usec (void);

/** guest_clock_parse: @text, a decimal number of microseconds with an optional sign. Returns: 0, or -1. */
int guest_clock_parse (const char *text, long long *ret);

/**
 * guest_clock_adjust:
 * Moves the clock by @delta microseconds: up to a quarter of a second by its speed (adjtime(3)), more at once.
 * Returns: 0, or -1 with errno.
 */
int guest_clock_adjust (long long delta);

/** guest_clock_set: to @usec at once, whatever it was. Returns: 0, or -1 with errno. */
int guest_clock_set (long long usec);

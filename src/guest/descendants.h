/* The processes that a command has started, and their end.
 * Never touches a process that is not below this one. */
#pragma once

/**
 * guest_end_descendants:
 * Sends @number to every process below this one, and SIGKILL to those that are there three seconds later. What daemons
 * did to get away from their parents before is respected: they are not below it any more. Returns when none is left.
 */
void guest_end_descendants (int number);

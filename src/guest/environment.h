/* What the guest's own files say of every login's environment.
 * Called by command.c, in the child alone.
 * Never expands anything. */
#pragma once

/** guest_environment_next: takes the next assignment of @rest, which it changes, as pam_env(8) reads /etc/environment: `NAME=VALUE`, also behind
 * `export` and with quotes around VALUE; `#` ends a line. Returns: "NAME=VALUE" in @rest's memory; NULL: there is no more. */
char *guest_environment_next (char **rest);

/** guest_environment_set: puts what /etc/environment and the locale's file say into the environment. */
void guest_environment_set (void);

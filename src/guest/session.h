/* One command that the host runs: a process of its own between the command's pipes or terminal and the host's streams.
 * Forked by the agent; ends with the command, or ends it when the host leaves.
 * Never holds more than a buffer of each stream. */
#pragma once

#include <stddef.h>

typedef struct {
  int control;    /* connection: the request comes on it, then orders */
  int streams[3]; /* stdin, stdout, stderr; -1: none, the command has /dev/null there */
  const char *token;
  const char *early; /* what was read of @control already */
  size_t early_length, request_length;
} GuestSession;

/** guest_session_main: takes all descriptors, closes every other one. Does not return. */
void guest_session_main (const GuestSession *session) __attribute__ ((noreturn));

/** guest_session_read: @text: room for @given->request_length bytes. Returns: 0; -1 if they do not come in 10 s. */
int guest_session_read (const GuestSession *given, char *text);

/** guest_close_all_but: every descriptor behind stderr that is not one of the @count of @kept (-1 is none). */
void guest_close_all_but (const int *kept, size_t count);

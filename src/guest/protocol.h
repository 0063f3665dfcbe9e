/* One line of the agent's protocol (common/guest-protocol.h), taken apart.
 * Used by the agent and the tests.
 * Never touches the system. */
#pragma once

#define GUEST_MAX_TOKEN 64

typedef enum {
  GUEST_VERB_NONE, /* an empty line */
  GUEST_VERB_UNKNOWN,
  GUEST_VERB_HELLO,
  GUEST_VERB_PING,
  GUEST_VERB_SYNC,
  GUEST_VERB_SHUTDOWN,
  GUEST_VERB_POWEROFF,
} GuestVerb;

typedef struct {
  GuestVerb verb;
  char token[GUEST_MAX_TOKEN + 1]; /* "-" where the line has none that can be repeated */
} GuestRequest;

/** guest_request_parse: @line without its end; a bad token makes the verb %GUEST_VERB_UNKNOWN. */
void guest_request_parse (const char *line, GuestRequest *ret);

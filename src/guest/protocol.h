/* One line of the agent's protocol (common/guest-protocol.h), taken apart.
 * Never touches the system. */
#pragma once

#include <sys/socket.h>

#define GUEST_MAX_TOKEN 64
#define GUEST_MAX_ARGUMENT 31

typedef enum {
  GUEST_VERB_NONE, /* an empty line */
  GUEST_VERB_UNKNOWN,
  GUEST_VERB_HELLO,
  GUEST_VERB_PING,
  GUEST_VERB_SYNC,
  GUEST_VERB_SHUTDOWN,
  GUEST_VERB_POWEROFF,
  GUEST_VERB_CLOCK,
  GUEST_VERB_STREAM,
  GUEST_VERB_EXEC,
  GUEST_VERB_CONNECT,
  GUEST_VERB_IDENTITY,
  GUEST_VERB_STATS,
  GUEST_VERB_NAMES,
} GuestVerb;

typedef struct {
  GuestVerb verb;
  char token[GUEST_MAX_TOKEN + 1];       /* "-" where the line has none that can be repeated */
  char argument[GUEST_MAX_ARGUMENT + 1]; /* the word after the token; "" if there is none, "?" if it is too long */
  const char *rest;                      /* of the line behind the token */
} GuestRequest;

/** guest_request_parse: @line without its end; a bad token makes the verb %GUEST_VERB_UNKNOWN. */
void guest_request_parse (const char *line, GuestRequest *ret);

/** guest_is_host: whether a client that was accepted @from there is the host, and nobody in the guest. What is no vsock
 * only the host can have opened. */
int guest_is_host (const struct sockaddr_storage *from);

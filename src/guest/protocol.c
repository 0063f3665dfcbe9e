/* The request parser of protocol.h.
 * Never repeats a byte of the host that is not printable. */
#include "guest/protocol.h"

#include <linux/vm_sockets.h>
#include <stddef.h>
#include <string.h>

static const struct {
  const char *word;
  GuestVerb verb;
} verbs[] = {
  { "hello", GUEST_VERB_HELLO },       { "ping", GUEST_VERB_PING },         { "sync", GUEST_VERB_SYNC },
  { "shutdown", GUEST_VERB_SHUTDOWN }, { "poweroff", GUEST_VERB_POWEROFF }, { "clock", GUEST_VERB_CLOCK },
  { "stream", GUEST_VERB_STREAM },     { "exec", GUEST_VERB_EXEC },         { "connect", GUEST_VERB_CONNECT },
  { "identity", GUEST_VERB_IDENTITY }, { "stats", GUEST_VERB_STATS },       { "names", GUEST_VERB_NAMES },
};

static GuestVerb
verb_of (const char *word, size_t length)
{
  for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
    if (strlen (verbs[i].word) == length && memcmp (verbs[i].word, word, length) == 0)
      return verbs[i].verb;
  return GUEST_VERB_UNKNOWN;
}

static int
is_token (const char *word, size_t length)
{
  if (length == 0 || length > GUEST_MAX_TOKEN)
    return 0;
  for (size_t i = 0; i < length; i++)
    if (word[i] <= ' ' || word[i] > '~')
      return 0;
  return 1;
}

void
guest_request_parse (const char *line, GuestRequest *ret)
{
  size_t verb_length = strcspn (line, " ");
  const char *token = line + verb_length + (line[verb_length] == ' ');
  size_t token_length = strcspn (token, " ");

  ret->verb = line[0] == '\0' ? GUEST_VERB_NONE : verb_of (line, verb_length);
  strcpy (ret->token, "-");
  ret->argument[0] = '\0';
  const char *argument = token + token_length + (token[token_length] == ' ');
  size_t argument_length = strcspn (argument, " ");
  ret->rest = argument;
  if (argument_length > GUEST_MAX_ARGUMENT) {
    strcpy (ret->argument, "?");
  } else {
    memcpy (ret->argument, argument, argument_length);
    ret->argument[argument_length] = '\0';
  }
  if (is_token (token, token_length)) {
    memcpy (ret->token, token, token_length);
    ret->token[token_length] = '\0';
  } else if (ret->verb != GUEST_VERB_NONE) {
    ret->verb = GUEST_VERB_UNKNOWN;
  }
}

/* vsock(7): where the kernel has vsock_loopback, any user of the guest reaches its ports as the host does. */
int
guest_is_host (const struct sockaddr_storage *from)
{
  struct sockaddr_vm address;
  memcpy (&address, from, sizeof address);
  return from->ss_family != AF_VSOCK || address.svm_cid == VMADDR_CID_HOST;
}

/* The request parser of protocol.h.
 * Used by the agent and the tests.
 * Never repeats a byte of the host that is not printable. */
#include "guest/protocol.h"

#include <stddef.h>
#include <string.h>

static const struct {
  const char *word;
  GuestVerb verb;
} verbs[] = {
  { "hello", GUEST_VERB_HELLO },       { "ping", GUEST_VERB_PING },         { "sync", GUEST_VERB_SYNC },
  { "shutdown", GUEST_VERB_SHUTDOWN }, { "poweroff", GUEST_VERB_POWEROFF },
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
  if (is_token (token, token_length)) {
    memcpy (ret->token, token, token_length);
    ret->token[token_length] = '\0';
  } else if (ret->verb != GUEST_VERB_NONE) {
    ret->verb = GUEST_VERB_UNKNOWN;
  }
}

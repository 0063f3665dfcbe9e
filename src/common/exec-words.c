/* The coding of exec-words.h.
 * Linked by banger and banger-guest.
 * Never allocates while decoding. */
#include "common/exec-words.h"

#include <stdlib.h>
#include <string.h>

#define EMPTY_WORD "%00"

static int
stands_for_itself (char c)
{
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')
         || (c != '\0' && strchr ("._/,:+@-", c));
}

char *
banger_exec_word_encode (const char *argument)
{
  static const char digits[] = "0123456789ABCDEF";
  if (argument[0] == '\0')
    return strdup (EMPTY_WORD);

  char *word = malloc (3 * strlen (argument) + 1);
  if (!word)
    return NULL;
  char *out = word;
  for (const char *in = argument; *in != '\0'; in++) {
    if (stands_for_itself (*in) && !(in == argument && *in == '-')) {
      *out++ = *in;
      continue;
    }
    *out++ = '%';
    *out++ = digits[(unsigned char)*in >> 4];
    *out++ = digits[(unsigned char)*in & 15];
  }
  *out = '\0';
  return word;
}

static int
hex_digit (char c)
{
  if (c >= '0' && c <= '9')
    return c - '0';
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int
is_well_formed (const char *word)
{
  if (word[0] == '\0' || word[0] == '-')
    return 0;
  for (const char *in = word; *in != '\0'; in++) {
    if (stands_for_itself (*in))
      continue;
    if (in[0] != '%' || hex_digit (in[1]) < 0 || hex_digit (in[2]) < 0 || (in[1] == '0' && in[2] == '0'))
      return 0;
    in += 2;
  }
  return 1;
}

int
banger_exec_word_decode (char *word)
{
  if (strcmp (word, EMPTY_WORD) == 0) {
    word[0] = '\0';
    return 0;
  }
  if (!is_well_formed (word))
    return -1;

  char *out = word;
  for (const char *in = word; *in != '\0'; in++) {
    if (*in == '%') {
      *out++ = (char)(hex_digit (in[1]) << 4 | hex_digit (in[2]));
      in += 2;
    } else {
      *out++ = *in;
    }
  }
  *out = '\0';
  return 0;
}

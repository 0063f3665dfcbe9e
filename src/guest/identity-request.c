/* The parser of identity-request.h.
 * Never reads behind the length that it was given. */
#include "guest/identity-request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/guest-protocol.h"
#include "guest/clock.h"

#define MAX_NAME 40
#define MAX_LENGTH_DIGITS 6

enum { TIME, ENTROPY, BOOT_ID, CONFIG, AUTHORIZED_KEYS, HOST_KEY, HOST_KEY_PUBLIC, N_PARTS };

typedef struct {
  const char *data; /* NULL: not there */
  size_t length;
} Part;

static const struct {
  const char *name;
  int of_new; /* only a machine of its own has it, and has it for sure */
} known[N_PARTS] = {
  [TIME] = { BANGER_GUEST_PART_TIME, 0 },
  [ENTROPY] = { BANGER_GUEST_PART_ENTROPY, 0 },
  [BOOT_ID] = { BANGER_GUEST_PART_BOOT_ID, 1 },
  [CONFIG] = { BANGER_GUEST_PART (BANGER_GUEST_CONFIG_FILE), 1 },
  [AUTHORIZED_KEYS] = { BANGER_GUEST_PART (BANGER_GUEST_AUTHORIZED_KEYS), 1 },
  [HOST_KEY] = { BANGER_GUEST_PART (BANGER_GUEST_HOST_KEY), 1 },
  [HOST_KEY_PUBLIC] = { BANGER_GUEST_PART (BANGER_GUEST_HOST_KEY ".pub"), 1 },
};

/* "NAME LENGTH\n". Returns: its bytes; 0: not one. */
static size_t
read_head (const char *head, size_t left, char *ret_name, size_t *ret_length)
{
  const char *end = memchr (head, '\n',
                            left < MAX_NAME + MAX_LENGTH_DIGITS + 2 ? left : MAX_NAME + MAX_LENGTH_DIGITS + 2);
  const char *space = end ? memchr (head, ' ', (size_t)(end - head)) : NULL;
  size_t length = 0;
  if (!space || space == head || space - head > MAX_NAME || end == space + 1 || end - space - 1 > MAX_LENGTH_DIGITS)
    return 0;
  for (const char *digit = space + 1; digit < end; digit++) {
    if (*digit < '0' || *digit > '9')
      return 0;
    length = length * 10 + (size_t)(*digit - '0');
  }
  memcpy (ret_name, head, (size_t)(space - head));
  ret_name[space - head] = '\0';
  *ret_length = length;
  return (size_t)(end + 1 - head);
}

/* Returns: -1 if the body is not of parts, or has one twice. */
static int
read_parts (const char *body, size_t length, Part *parts)
{
  for (size_t at = 0; at < length;) {
    char name[MAX_NAME + 1];
    size_t part, head = read_head (body + at, length - at, name, &part);
    at += head;
    if (head == 0 || part > length - at)
      return -1;
    for (int i = 0; i < N_PARTS; i++) {
      if (strcmp (known[i].name, name) != 0)
        continue;
      if (parts[i].data)
        return -1;
      parts[i] = (Part){ body + at, part };
    }
    at += part;
  }
  return 0;
}

/* Returns: (transfer full): NULL for what is no text. */
static char *
text_of (const Part *part)
{
  return memchr (part->data, '\0', part->length) ? NULL : strndup (part->data, part->length);
}

static int
read_boot_id (const Part *part, char *ret)
{
  static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
  if (part->length != sizeof form - 1)
    return -1;
  for (size_t i = 0; i < part->length; i++)
    if (form[i] == '-' ? part->data[i] != '-' : !part->data[i] || !strchr ("0123456789abcdef", part->data[i]))
      return -1;
  memcpy (ret, part->data, part->length);
  ret[part->length] = '\0';
  return 0;
}

static int
read_time (const Part *part, long long *ret)
{
  char digits[20];
  if (part->length == 0 || part->length >= sizeof digits || memchr (part->data, '\0', part->length))
    return -1;
  memcpy (digits, part->data, part->length);
  digits[part->length] = '\0';
  return guest_clock_parse (digits, ret) < 0 || *ret < 0 ? -1 : 0;
}

static int
read_settings (const Part *part, GuestSettings *ret, char *problem, size_t problem_size)
{
  char *text = text_of (part);
  int r = text ? guest_settings_parse (text, ret, problem, problem_size) : -1;
  free (text);
  if (r == 0 && (ret->address.s_addr == 0 || ret->machine_id[0] == '\0' || ret->boot_token[0] != '\0')) {
    snprintf (problem, problem_size, "the configuration is not that of a machine of its own");
    return -1;
  }
  return r;
}

static int
read_new (const Part *parts, GuestIdentity *ret, char *problem, size_t problem_size)
{
  if (read_boot_id (&parts[BOOT_ID], ret->boot_id) < 0) {
    snprintf (problem, problem_size, "the boot id is none");
    return -1;
  }
  if (read_settings (&parts[CONFIG], &ret->settings, problem, problem_size) < 0)
    return -1;
  ret->keys.authorized_keys = text_of (&parts[AUTHORIZED_KEYS]);
  ret->keys.host_key = text_of (&parts[HOST_KEY]);
  ret->keys.host_key_public = text_of (&parts[HOST_KEY_PUBLIC]);
  return ret->keys.authorized_keys && ret->keys.host_key && ret->keys.host_key_public ? 0 : -1;
}

int
guest_identity_parse (const char *body, size_t length, GuestIdentity *ret, char *problem, size_t problem_size)
{
  Part parts[N_PARTS] = { 0 };
  *ret = (GuestIdentity){ 0 };
  snprintf (problem, problem_size, "the request is not of this protocol");
  if (read_parts (body, length, parts) < 0)
    return -1;
  for (int i = 0; i < N_PARTS; i++)
    ret->is_new |= known[i].of_new && parts[i].data;
  for (int i = 0; i < N_PARTS; i++)
    if (!parts[i].data && (!known[i].of_new || ret->is_new)) {
      snprintf (problem, problem_size, "there is no %s", known[i].name);
      return -1;
    }
  if (read_time (&parts[TIME], &ret->usec) < 0 || parts[ENTROPY].length < BANGER_GUEST_MIN_ENTROPY
      || parts[ENTROPY].length > BANGER_GUEST_MAX_ENTROPY)
    return -1;
  ret->entropy = parts[ENTROPY].data;
  ret->entropy_length = parts[ENTROPY].length;
  if (!ret->is_new || read_new (parts, ret, problem, problem_size) == 0)
    return 0;
  guest_identity_clear (ret);
  return -1;
}

void
guest_identity_clear (GuestIdentity *identity)
{
  free (identity->keys.authorized_keys);
  free (identity->keys.host_key);
  free (identity->keys.host_key_public);
  *identity = (GuestIdentity){ 0 };
}

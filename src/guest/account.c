/* Lines of passwd(5) and group(5).
 * Never takes a line for a user that has no number. */
#include "guest/account.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIELDS 7
#define NAME_SIZE 64

typedef struct {
  const char *start;
  size_t length;
} Field;

/* Returns: how many fields the line at @line has, of FIELDS at most. */
static size_t
split (const char *line, Field *fields)
{
  size_t count = 0;
  for (;;) {
    size_t length = strcspn (line, ":\n");
    fields[count++] = (Field){ line, length };
    if (line[length] != ':' || count == FIELDS)
      return count;
    line += length + 1;
  }
}

static const char *
next_line (const char *line)
{
  line += strcspn (line, "\n");
  return line + (*line == '\n');
}

static int
is (Field field, const char *text)
{
  return field.length == strlen (text) && memcmp (field.start, text, field.length) == 0;
}

/* Returns: -1 if @text is not a number that an account can have. */
static int
number_of (const char *text, size_t length, unsigned *ret)
{
  char digits[16], *end;
  if (length == 0 || length >= sizeof digits || strspn (text, "0123456789") < length)
    return -1;
  memcpy (digits, text, length);
  digits[length] = '\0';
  errno = 0;
  unsigned long long value = strtoull (digits, &end, 10);
  if (value >= (unsigned)-1)
    return -1;
  *ret = (unsigned)value;
  return 0;
}

static void
copy (Field field, char *ret, size_t size)
{
  size_t length = field.length < size ? field.length : 0;
  memcpy (ret, field.start, length);
  ret[length] = '\0';
}

/* By name, or else by number. Returns: -1 if no line is that user's. */
static int
find_user (const char *passwd, const char *who, GuestAccount *ret)
{
  unsigned wanted, uid, gid;
  int by_number = number_of (who, strlen (who), &wanted) == 0;
  for (const char *line = passwd; *line != '\0'; line = next_line (line)) {
    Field fields[FIELDS];
    if (split (line, fields) < FIELDS || fields[0].length == 0
        || number_of (fields[2].start, fields[2].length, &uid) < 0
        || number_of (fields[3].start, fields[3].length, &gid) < 0)
      continue;
    if (!is (fields[0], who) && !(by_number && uid == wanted))
      continue;
    copy (fields[0], ret->name, sizeof ret->name);
    copy (fields[5], ret->home, sizeof ret->home);
    copy (fields[6], ret->shell, sizeof ret->shell);
    ret->uid = uid;
    ret->gid = gid;
    return 0;
  }
  return -1;
}

static int
find_group (const char *group, const char *who, gid_t *ret)
{
  unsigned gid;
  for (const char *line = group; *line != '\0'; line = next_line (line)) {
    Field fields[FIELDS];
    if (split (line, fields) >= 3 && is (fields[0], who) && number_of (fields[2].start, fields[2].length, &gid) == 0) {
      *ret = gid;
      return 0;
    }
  }
  return number_of (who, strlen (who), ret);
}

static int
is_member (Field members, const char *name)
{
  for (const char *at = members.start, *end = at + members.length; at < end;) {
    size_t length = strcspn (at, ",:\n");
    if (is ((Field){ at, length }, name))
      return 1;
    at += length + 1;
  }
  return 0;
}

static void
find_groups (const char *group, GuestAccount *account)
{
  unsigned gid;
  account->groups[account->n_groups++] = account->gid;
  for (const char *line = group; *line != '\0' && account->name[0] != '\0'; line = next_line (line)) {
    Field fields[FIELDS];
    if (account->n_groups == GUEST_MAX_GROUPS)
      return;
    if (split (line, fields) >= 4 && is_member (fields[3], account->name)
        && number_of (fields[2].start, fields[2].length, &gid) == 0 && gid != account->gid)
      account->groups[account->n_groups++] = gid;
  }
}

int
guest_account_find (const char *passwd, const char *group, const char *who, GuestAccount *ret)
{
  char user[NAME_SIZE];
  size_t length = strcspn (who, ":");
  *ret = (GuestAccount){ 0 };
  if (length == 0 || length >= sizeof user)
    return -1;
  memcpy (user, who, length);
  user[length] = '\0';
  if (find_user (passwd, user, ret) < 0) {
    if (strcmp (user, "root") != 0 && number_of (user, length, &ret->uid) < 0)
      return -1;
    ret->gid = ret->uid;
    snprintf (ret->name, sizeof ret->name, "%s", ret->uid == 0 ? "root" : "");
  }
  if (ret->home[0] == '\0')
    snprintf (ret->home, sizeof ret->home, "%s", ret->uid == 0 ? "/root" : "/");
  if (ret->shell[0] == '\0')
    snprintf (ret->shell, sizeof ret->shell, "/bin/sh");
  if (who[length] == ':' && find_group (group, who + length + 1, &ret->gid) < 0)
    return -1;
  find_groups (group, ret);
  return 0;
}

/* Whose rights a command has, from the guest's own /etc/passwd and /etc/group.
 * Never asks a name service: the program is static. */
#pragma once

#include <sys/types.h>

#define GUEST_MAX_GROUPS 64

typedef struct {
  char name[64], home[256], shell[256];
  uid_t uid;
  gid_t gid;
  gid_t groups[GUEST_MAX_GROUPS];
  size_t n_groups;
} GuestAccount;

/**
 * guest_account_find:
 * @passwd, @group: the files' texts; "" where there is none. @who: a name, a number of a user, or "USER:GROUP", each by
 * name or number. A number need not be in the files; root need not either.
 * Returns: 0; -1 for a name that is nobody's.
 */
int guest_account_find (const char *passwd, const char *group, const char *who, GuestAccount *ret);

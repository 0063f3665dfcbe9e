/* Who the machine is to be, as the host wrote it.
 * Never touches the system. */
#pragma once

#include <stddef.h>

#include "guest/configure.h"
#include "guest/settings.h"

typedef struct {
  int is_new; /* a machine of its own; else it stays who it is, and has only time and entropy */
  long long usec;
  const char *entropy; /* in the body */
  size_t entropy_length;
  char boot_id[37];
  GuestSettings settings;
  GuestKeys keys;
} GuestIdentity;

/**
 * guest_identity_parse:
 * @body: @length bytes of parts, see guest-protocol.h; it must outlive @ret. Parts of a name that is not known (of a newer
 * manager) are passed over. @problem: filled with the reason on failure.
 * Returns: 0, or -1.
 */
int guest_identity_parse (const char *body, size_t length, GuestIdentity *ret, char *problem, size_t problem_size);
void guest_identity_clear (GuestIdentity *identity);

/* Makes a mounted image this VM: names, keys, network files, the unit that tells when ssh answers.
 * Called by the start-up code inside the new root.
 * Never keeps a file of the image that would contradict the manager. */
#pragma once

#include "guest/settings.h"

/* Read from the initramfs before it is freed; for free(3). */
typedef struct {
  char *authorized_keys;
  char *host_key;
  char *host_key_public;
} GuestKeys;

/**
 * guest_configure_image:
 * @is_systemd: also writes what only systemd reads; elsewhere /run/systemd/system would make programs believe that it
 * runs. Returns: 0; -1 after guest_warn() when the guest could not be reached or trusted as it is.
 */
int guest_configure_image (const GuestSettings *settings, const GuestKeys *keys, int is_systemd);

/* Makes a mounted image this VM: names, keys, network files, the unit that tells when ssh answers.
 * Never keeps a file of the image that would contradict the manager. */
#pragma once

#include "guest/inits.h"
#include "guest/settings.h"

/* Read from the initramfs before it is freed; for free(3). */
typedef struct {
  char *authorized_keys;
  char *host_key;
  char *host_key_public;
} GuestKeys;

/* Of it, what makes a machine this one and no other; 0, or -1 with errno after guest_warn(). */
/** guest_configure_reach: @names: whom it knows from here on, as guest_names_ok() wants them; in /etc/hosts. */
int guest_configure_reach (const char *names);
int guest_configure_names (const GuestSettings *settings);      /* the host's, in the kernel too, and /etc/hosts */
int guest_configure_machine_id (const GuestSettings *settings); /* see machine-id(5) */
int guest_configure_keys (const GuestKeys *keys);               /* the host's, and who logs in as root */
/** guest_configure_network: for services, of the interface @name ("": none); name servers, too. */
int guest_configure_network (const GuestSettings *settings, const char *name);

/**
 * guest_configure_image:
 * @is_systemd: also writes what only systemd reads; elsewhere /run/systemd/system would make programs believe that it
 * runs. Returns: 0; -1 after guest_warn() when the guest could not be reached or trusted as it is.
 */
int guest_configure_image (const GuestSettings *settings, const GuestKeys *keys, const GuestInitKind *init,
                           int has_sshd);

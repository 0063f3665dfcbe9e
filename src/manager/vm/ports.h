/* What a guest says of its listeners.
 * Never believes a line that is not one. */
#pragma once

#include <gio/gio.h>

typedef struct {
  const char *protocol; /* "tcp", "udp" */
  char *address;        /* as inet_ntop(3) writes it */
  guint16 port;
  guint32 pid;   /* in the guest; 0: not known */
  char *process; /* its name, escaped; "" if not known */
} BangerPort;

/**
 * banger_ports_parse:
 * @text: what `guest ports` wrote, @length bytes. At most 1,024 lines: LimitsExceeded; GuestFailed if one is not as it should be.
 * Returns: (transfer full): of BangerPort, each once, by port, protocol and address.
 */
GPtrArray *banger_ports_parse (const char *text, gsize length, GError **error);

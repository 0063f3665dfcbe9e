/* Bytes both ways between two connected sockets, until both have ended, either fails or both ends of one are closed.
 * Never holds more than two buffers (no GLib: banger-guest has none). */
#pragma once

#include "common/pump.h"

#define BANGER_RELAY_FDS 6

typedef struct {
  int sockets[2];
  BangerPump pumps[2]; /* of duplicates: from the one to the other, and back */
} BangerRelay;

/** banger_relay_begin: @a, @b: taken, also on error; made non-blocking. Returns: 0; -1 with errno. */
int banger_relay_begin (BangerRelay *relay, int a, int b);
/** banger_relay_prepare: what is to be waited for. @fds: BANGER_RELAY_FDS entries. */
void banger_relay_prepare (const BangerRelay *relay, struct pollfd *fds);
/** banger_relay_run: moves a few buffers at most. @fds: as poll(2) left them. Returns: whether it goes on. */
int banger_relay_run (BangerRelay *relay, const struct pollfd *fds);
void banger_relay_end (BangerRelay *relay);

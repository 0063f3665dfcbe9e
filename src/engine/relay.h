/* Bytes both ways between two stream descriptors, with half-close.
 * Used by the vsock listener.
 * Never holds more than one buffer per direction. */
#pragma once

#include <glib.h>

typedef struct BangerRelay BangerRelay;

/** BangerRelayDone: both directions ended, or one descriptor failed. @relay is freed by whoever is called. */
typedef void (*BangerRelayDone) (BangerRelay *relay, gpointer user_data);

/**
 * banger_relay_new:
 * Takes both descriptors (made non-blocking). @early: bytes read from @a already, to go to @b first.
 * @whole: the end of either direction ends the relay (a peer that knows no half-close).
 */
BangerRelay *banger_relay_new (int a, int b, const char *early, gsize early_length, gboolean whole,
                               BangerRelayDone done, gpointer user_data);

/** banger_relay_steal_b: takes @b back; the relay is to be freed then. */
int banger_relay_steal_b (BangerRelay *relay);

void banger_relay_free (BangerRelay *relay);

/* An sd-bus connection as a GSource of the main loop, and who is behind a message on it.
 * Never shared between threads: one bus belongs to one thread. */
#pragma once

#include <glib.h>
#include <systemd/sd-bus.h>

/** BangerBusClosed: called once when @bus is gone; @r is the negative errno of sd_bus_process(). */
typedef void (*BangerBusClosed) (sd_bus *bus, int r, gpointer user_data);

/**
 * banger_bus_source_attach:
 * Dispatches @bus from the default main context until it closes. Takes a reference on @bus.
 * Rests on sd_bus_get_fd(3), sd_bus_get_events(3), sd_bus_get_timeout(3), sd_bus_process(3).
 * Returns: (transfer full): destroy with banger_bus_source_detach().
 */
GSource *banger_bus_source_attach (sd_bus *bus, BangerBusClosed closed, gpointer user_data);
void banger_bus_source_detach (GSource *source);

#define BANGER_BUS_DRIVER "org.freedesktop.DBus"
/**
 * banger_bus_is_from:
 * Whether the bus says that @m is @sender's: %BANGER_BUS_DRIVER or a unique name. A handler of signals has to ask,
 * since everybody may address a signal to one connection, and sd-bus leaves the sender in a match to the bus, which
 * does not compare it then.
 */
gboolean banger_bus_is_from (sd_bus_message *m, const char *sender);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (sd_bus, sd_bus_flush_close_unref)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (sd_bus_message, sd_bus_message_unref)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (sd_bus_slot, sd_bus_slot_unref)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (sd_bus_creds, sd_bus_creds_unref)
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (sd_bus_error, sd_bus_error_free)

/* An sd-bus connection as a GSource of the main loop, and who is behind a message on it.
 * Never shared between threads. */
#include "common/bus-source.h"

#include <poll.h>

#define MAX_PER_DISPATCH 32 /* a flooding peer must not starve other sources */

typedef struct {
  GSource base;
  GPollFD pfd;
  sd_bus *bus;
  gint64 deadline; /* monotonic microseconds, -1 none */
  BangerBusClosed closed;
  gpointer user_data;
} BusSource;

static gboolean
bus_prepare (GSource *source, int *timeout)
{
  BusSource *self = (BusSource *)source;
  guint64 until;
  int events = sd_bus_get_events (self->bus);
  if (events < 0 || sd_bus_get_timeout (self->bus, &until) < 0)
    return TRUE; /* dispatch finds out why */
  self->pfd.events = (gushort)events;
  self->deadline = -1;
  *timeout = -1;
  if (until == G_MAXUINT64)
    return FALSE;
  gint64 now = g_source_get_time (source);
  if ((gint64)until <= now)
    return TRUE;
  self->deadline = (gint64)until;
  *timeout = (int)MIN ((self->deadline - now + 999) / 1000, G_MAXINT);
  return FALSE;
}

static gboolean
bus_check (GSource *source)
{
  BusSource *self = (BusSource *)source;
  return self->pfd.revents != 0 || (self->deadline >= 0 && g_get_monotonic_time () >= self->deadline);
}

static gboolean
bus_dispatch (GSource *source, GSourceFunc callback, gpointer user_data)
{
  BusSource *self = (BusSource *)source;
  int r = 1;
  for (int i = 0; i < MAX_PER_DISPATCH && r > 0; i++)
    r = sd_bus_process (self->bus, NULL);
  if (r >= 0)
    return G_SOURCE_CONTINUE;
  if (self->closed)
    self->closed (self->bus, r, self->user_data);
  return G_SOURCE_REMOVE;
}

static void
bus_finalize (GSource *source)
{
  BusSource *self = (BusSource *)source;
  sd_bus_unref (self->bus);
}

static GSourceFuncs bus_funcs = { bus_prepare, bus_check, bus_dispatch, bus_finalize, NULL, NULL };

GSource *
banger_bus_source_attach (sd_bus *bus, BangerBusClosed closed, gpointer data)
{
  GSource *source = g_source_new (&bus_funcs, sizeof (BusSource));
  BusSource *self = (BusSource *)source;
  self->bus = sd_bus_ref (bus);
  self->closed = closed;
  self->user_data = data;
  self->deadline = -1;
  self->pfd.fd = sd_bus_get_fd (bus);
  g_source_add_poll (source, &self->pfd);
  g_source_set_static_name (source, "sd-bus");
  g_source_attach (source, NULL);
  return source;
}

void
banger_bus_source_detach (GSource *source)
{
  g_source_destroy (source);
  g_source_unref (source);
}

gboolean
banger_bus_is_from (sd_bus_message *m, const char *sender)
{
  return sender && g_strcmp0 (sd_bus_message_get_sender (m), sender) == 0;
}

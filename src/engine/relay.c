/* Bytes both ways between two stream descriptors, with half-close.
 * Used by the vsock listener.
 * Never holds more than one buffer per direction. */
#include "engine/relay.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"

#define BUFFER_SIZE 65536
#define ROUNDS 16 /* per wake-up, so that one busy stream does not starve the loop */

typedef struct {
  char data[BUFFER_SIZE];
  gsize start, end;
  gboolean eof;  /* nothing more to read */
  gboolean done; /* the end was passed on */
} Flow;

typedef struct {
  int fd;
  gpointer tag; /* NULL once it hung up: then it is read when there is room */
  Flow in;      /* from this descriptor to the other */
} End;

struct BangerRelay {
  GSource source;
  End ends[2];
  gboolean whole;
  BangerRelayDone done;
  gpointer user_data;
};

typedef enum {
  FAILED,
  IDLE,
  MOVED,
} Step;

static Step
fill (End *from)
{
  Flow *flow = &from->in;
  if (flow->start == flow->end)
    flow->start = flow->end = 0;
  if (flow->eof || flow->end == BUFFER_SIZE)
    return IDLE;
  ssize_t n = read (from->fd, flow->data + flow->end, BUFFER_SIZE - flow->end);
  if (n > 0)
    flow->end += (gsize)n;
  else if (n == 0 || errno == ECONNRESET)
    flow->eof = TRUE;
  else
    return errno == EAGAIN || errno == EINTR ? IDLE : FAILED;
  return MOVED;
}

static Step
drain (End *from, End *to, gboolean half_close)
{
  Flow *flow = &from->in;
  if (flow->start < flow->end) {
    ssize_t n = send (to->fd, flow->data + flow->start, flow->end - flow->start, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0)
      return errno == EAGAIN || errno == EINTR ? IDLE : FAILED;
    flow->start += (gsize)n;
    return MOVED;
  }
  if (!flow->eof || flow->done)
    return IDLE;
  flow->done = TRUE;
  if (half_close)
    shutdown (to->fd, SHUT_WR);
  return MOVED;
}

static gboolean
over (const BangerRelay *relay)
{
  gboolean a = relay->ends[0].in.done, b = relay->ends[1].in.done;
  return relay->whole ? a || b : a && b;
}

/* Returns: TRUE while there is something left to relay. */
static gboolean
pump (BangerRelay *relay)
{
  End *ends = relay->ends;
  gboolean moved = TRUE;
  for (int round = 0; moved; round++) {
    /* What a gone peer left behind is finite and no event announces it. */
    gboolean hung_up = ends[0].tag == NULL || ends[1].tag == NULL;
    if (round == ROUNDS && !hung_up)
      return TRUE;
    moved = FALSE;
    for (int i = 0; i < 2; i++) {
      Step filled = fill (&ends[i]);
      Step drained = drain (&ends[i], &ends[1 - i], !relay->whole);
      if (filled == FAILED || drained == FAILED || over (relay))
        return FALSE;
      moved = moved || filled == MOVED || drained == MOVED;
    }
  }
  return TRUE;
}

static void
update_conditions (BangerRelay *relay)
{
  for (int i = 0; i < 2; i++) {
    End *end = &relay->ends[i];
    const Flow *in = &end->in, *out = &relay->ends[1 - i].in;
    if (end->tag == NULL)
      continue;
    GIOCondition wanted = 0;
    if (!in->eof && (in->end < BUFFER_SIZE || in->start == in->end))
      wanted |= G_IO_IN;
    if (out->start < out->end)
      wanted |= G_IO_OUT;
    g_source_modify_unix_fd (&relay->source, end->tag, wanted);
  }
}

static gboolean
dispatch (GSource *source, GSourceFunc func, gpointer user_data)
{
  BangerRelay *relay = (BangerRelay *)source;
  for (int i = 0; i < 2; i++) {
    End *end = &relay->ends[i];
    if (end->tag == NULL || (g_source_query_unix_fd (source, end->tag) & (G_IO_HUP | G_IO_ERR)) == 0)
      continue;
    /* poll(2) reports a hang-up forever: look no more, read when there is room. */
    g_source_remove_unix_fd (source, end->tag);
    end->tag = NULL;
  }
  if (pump (relay)) {
    update_conditions (relay);
    return G_SOURCE_CONTINUE;
  }
  relay->done (relay, relay->user_data);
  return G_SOURCE_REMOVE;
}

static gboolean
check (GSource *source)
{
  BangerRelay *relay = (BangerRelay *)source;
  for (int i = 0; i < 2; i++)
    if (relay->ends[i].tag != NULL && g_source_query_unix_fd (source, relay->ends[i].tag) != 0)
      return TRUE;
  return FALSE;
}

static void
finalize (GSource *source)
{
  BangerRelay *relay = (BangerRelay *)source;
  banger_clear_fd (&relay->ends[0].fd);
  banger_clear_fd (&relay->ends[1].fd);
}

static GSourceFuncs functions = { .check = check, .dispatch = dispatch, .finalize = finalize };

BangerRelay *
banger_relay_new (int a, int b, const char *early, gsize early_length, gboolean whole, BangerRelayDone done,
                  gpointer user_data)
{
  BangerRelay *relay = (BangerRelay *)g_source_new (&functions, sizeof (BangerRelay));
  g_assert (early_length <= BUFFER_SIZE);
  relay->whole = whole;
  relay->done = done;
  relay->user_data = user_data;
  int fds[2] = { a, b };
  for (int i = 0; i < 2; i++) {
    End *end = &relay->ends[i];
    end->fd = fds[i];
    end->in.start = end->in.end = 0;
    end->in.eof = end->in.done = FALSE;
    g_unix_set_fd_nonblocking (fds[i], TRUE, NULL);
    end->tag = g_source_add_unix_fd (&relay->source, fds[i], G_IO_IN);
  }
  if (early_length > 0)
    memcpy (relay->ends[0].in.data, early, early_length);
  relay->ends[0].in.end = early_length;
  update_conditions (relay);
  g_source_set_callback (&relay->source, NULL, NULL, NULL);
  g_source_attach (&relay->source, NULL);
  return relay;
}

int
banger_relay_steal_b (BangerRelay *relay)
{
  if (relay->ends[1].tag != NULL)
    g_source_remove_unix_fd (&relay->source, relay->ends[1].tag);
  relay->ends[1].tag = NULL;
  return banger_steal_fd (&relay->ends[1].fd);
}

void
banger_relay_free (BangerRelay *relay)
{
  g_source_destroy (&relay->source);
  g_source_unref (&relay->source);
}

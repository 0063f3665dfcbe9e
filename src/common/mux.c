/* The streams of mux.h: one epoll(7), one frame on its way out, one window of each stream at most on its way in.
 * Called by banger-vmm-qemu and banger-guest.
 * Never believes the other end: what it may not say ends all streams. */
#include "common/mux.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"

#define HEADER 8
#define SYNC_BYTES 16
#define MAGIC_BYTES 8
#define GRANTS 4  /* of a window: credit is given in such parts at least */
#define FRAMES 32 /* for each wake-up */
#define PAGES 32  /* likewise */
#define EVENTS 64
#define PORT UINT32_MAX

enum { OPEN = 1, DATA, CREDIT, END, CLOSE, SYNC = 0xb5 };

typedef struct {
  bool used;
  int fd;                 /* -1: none any more */
  uint32_t watched;       /* events; 0: not in the epoll set */
  uint32_t credit;        /* bytes that the other end takes */
  uint32_t room;          /* bytes that it may send */
  uint32_t grant;         /* bytes more, of which it does not know yet */
  char *held;             /* what was not written to @fd yet, a ring of a window; NULL: nothing */
  uint32_t first, count;  /* of it */
  bool readable, hung_up; /* @fd */
  bool say_open, say_end; /* frames that are due */
  bool accepted;
  bool ended;                   /* there is no more of @fd */
  bool other_ended, told_ended; /* END was said by the other end, and @fd was told */
  bool closed, other_closed;    /* CLOSE was said */
} Stream;

struct BangerMux {
  int port, epoll;
  uint32_t port_watched;
  const BangerMuxCalls *calls;
  void *data;
  uint32_t window; /* bytes of each stream that this end holds */
  uint32_t most;   /* that the other one may */
  Stream streams[BANGER_MUX_STREAMS];
  unsigned next; /* whose turn it is */
  bool more;     /* there was more to send than for one turn */
  unsigned char nonce[SYNC_BYTES - MAGIC_BYTES];
  bool synced, say_sync;
  unsigned char in[2 * BANGER_MUX_PAYLOAD]; /* not yet taken */
  size_t in_count;
  uint32_t payload;    /* bytes of DATA that are still to come */
  unsigned payload_of; /* stream */
  unsigned char out[HEADER + BANGER_MUX_PAYLOAD];
  size_t out_first, out_count;
};

static bool
is_opener (const BangerMux *mux)
{
  return mux->calls->accepted != NULL;
}

static void
watch (BangerMux *mux, int fd, uint32_t id, uint32_t events, uint32_t *watched)
{
  struct epoll_event event = { .events = events, .data.u32 = id };
  if (events == *watched)
    return;
  int what = *watched == 0 ? EPOLL_CTL_ADD : events == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
  epoll_ctl (mux->epoll, what, fd, &event);
  *watched = events;
}

/* A hang-up is reported without being asked for, and for ever. */
static void
watch_stream (BangerMux *mux, Stream *stream)
{
  uint32_t events = EPOLLERR;
  if (stream->fd < 0)
    return;
  if (stream->accepted && !stream->readable && !stream->ended)
    events |= EPOLLIN;
  if (stream->count > 0)
    events |= EPOLLOUT;
  if (stream->hung_up)
    events = 0;
  watch (mux, stream->fd, (uint32_t)(stream - mux->streams), events, &stream->watched);
}

static void
drop_held (Stream *stream)
{
  free (stream->held);
  stream->held = NULL;
  stream->first = stream->count = 0;
}

/* Nothing of ours is at this end any more. */
static void
let_go (BangerMux *mux, Stream *stream)
{
  if (stream->fd >= 0)
    watch (mux, stream->fd, 0, 0, &stream->watched);
  banger_clear_fd (&stream->fd);
  drop_held (stream);
}

static void
forget_streams (BangerMux *mux)
{
  for (Stream *stream = mux->streams; stream < mux->streams + BANGER_MUX_STREAMS; stream++) {
    if (!stream->used)
      continue;
    let_go (mux, stream);
    *stream = (Stream){ .fd = -1 };
  }
  mux->payload = 0;
}

/* To @fd */

/* Returns: how many bytes it took; -1: it takes no more, ever. */
static ssize_t
give (int fd, const void *bytes, size_t length)
{
  ssize_t n = send (fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
  return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : n;
}

static void
flush_held (BangerMux *mux, Stream *stream)
{
  while (stream->fd >= 0 && stream->count > 0) {
    uint32_t length = mux->window - stream->first;
    ssize_t n = give (stream->fd, stream->held + stream->first, length < stream->count ? length : stream->count);
    if (n < 0)
      let_go (mux, stream);
    if (n <= 0)
      return;
    stream->first = (stream->first + (uint32_t)n) % mux->window;
    stream->count -= (uint32_t)n;
    stream->grant += (uint32_t)n;
  }
  if (stream->fd < 0)
    return;
  drop_held (stream);
  if ((stream->other_ended || stream->other_closed) && !stream->told_ended) {
    shutdown (stream->fd, SHUT_WR);
    stream->told_ended = true;
  }
}

/* Returns: -1 without memory. */
static int
hold (const BangerMux *mux, Stream *stream, const unsigned char *bytes, uint32_t length)
{
  if (length == 0)
    return 0;
  if (!stream->held && !(stream->held = malloc (mux->window)))
    return -1;
  for (uint32_t done = 0; done < length;) {
    uint32_t at = (stream->first + stream->count) % mux->window, room = mux->window - at;
    uint32_t part = length - done < room ? length - done : room;
    memcpy (stream->held + at, bytes + done, part);
    stream->count += part;
    done += part;
  }
  return 0;
}

static void
take_payload (BangerMux *mux, Stream *stream, const unsigned char *bytes, uint32_t length)
{
  if (stream->fd < 0)
    return;
  ssize_t n = stream->count == 0 ? give (stream->fd, bytes, length) : 0;
  if (n >= 0) {
    stream->grant += (uint32_t)n;
    n = hold (mux, stream, bytes + n, length - (uint32_t)n);
  }
  if (n < 0)
    let_go (mux, stream);
}

/* The number is free when both ends are done with it. */
static void
settle (Stream *stream)
{
  if (stream->closed && stream->other_closed)
    *stream = (Stream){ .fd = -1 };
}

/* From the port. Each returns: -1 if the other end may not say that. */

static int
take_open (BangerMux *mux, Stream *stream, uint32_t length)
{
  if (is_opener (mux) || stream->used || length != 0)
    return -1;
  *stream = (Stream){ .used = true, .accepted = true, .credit = BANGER_MUX_WINDOW, .grant = mux->window };
  stream->fd = mux->calls->opened (mux->data);
  return 0;
}

static int
take_data (BangerMux *mux, Stream *stream, uint32_t length)
{
  if (length == 0 || length > BANGER_MUX_PAYLOAD || length > stream->room || stream->other_ended
      || stream->other_closed)
    return -1;
  stream->room -= length;
  mux->payload = length;
  mux->payload_of = (unsigned)(stream - mux->streams);
  return 0;
}

static int
take_credit (BangerMux *mux, Stream *stream, uint32_t length)
{
  if (stream->other_closed || length == 0 || length > mux->most - stream->credit || stream->say_open)
    return -1;
  stream->credit += length;
  if (stream->accepted || stream->fd < 0)
    return 0;
  stream->accepted = true;
  mux->calls->accepted (stream->fd, mux->data);
  return 0;
}

static int
take_end (BangerMux *mux, Stream *stream, uint32_t length)
{
  if (length != 0 || stream->other_ended || stream->other_closed)
    return -1;
  stream->other_ended = true;
  flush_held (mux, stream);
  return 0;
}

static int
take_close (BangerMux *mux, Stream *stream, uint32_t length)
{
  if (length != 0 || stream->other_closed || stream->say_open)
    return -1;
  stream->other_closed = true;
  if (!stream->accepted)
    let_go (mux, stream);
  flush_held (mux, stream);
  settle (stream);
  return 0;
}

static int
take_frame (BangerMux *mux, const unsigned char *head)
{
  static int (*const takers[]) (BangerMux *, Stream *, uint32_t) = {
    [OPEN] = take_open, [DATA] = take_data, [CREDIT] = take_credit, [END] = take_end, [CLOSE] = take_close
  };
  unsigned id = head[2] | (unsigned)head[3] << 8;
  uint32_t length = head[4] | (uint32_t)head[5] << 8 | (uint32_t)head[6] << 16 | (uint32_t)head[7] << 24;
  if (head[0] < OPEN || head[0] > CLOSE || head[1] != 0 || id >= BANGER_MUX_STREAMS)
    return -1;
  Stream *stream = &mux->streams[id];
  if (head[0] != OPEN && !stream->used)
    return -1;
  return takers[head[0]](mux, stream, length);
}

static void
take_sync (BangerMux *mux, const unsigned char *nonce)
{
  bool same = memcmp (nonce, mux->nonce, sizeof mux->nonce) == 0;
  if (is_opener (mux)) {
    mux->synced = mux->synced || same;
    return;
  }
  if (!same || !mux->synced)
    forget_streams (mux);
  memcpy (mux->nonce, nonce, sizeof mux->nonce);
  mux->synced = mux->say_sync = true;
}

/* Returns: how many bytes are of no more use, before the opener's mark or up to where it may begin. */
static size_t
look_for_sync (BangerMux *mux)
{
  unsigned char *found = memmem (mux->in, mux->in_count, BANGER_MUX_MAGIC, MAGIC_BYTES);
  size_t before = found                         ? (size_t)(found - mux->in)
                  : mux->in_count < MAGIC_BYTES ? 0
                                                : mux->in_count - (MAGIC_BYTES - 1);
  if (!found || mux->in_count - before < SYNC_BYTES)
    return before;
  take_sync (mux, found + MAGIC_BYTES);
  return before + SYNC_BYTES;
}

/* What the other end may not say: all streams go, and nothing is believed until both have begun anew. */
static void
lose_sync (BangerMux *mux)
{
  forget_streams (mux);
  mux->synced = false;
  if (!is_opener (mux))
    return;
  mux->nonce[0]++; /* an answer to the old one may be on its way */
  mux->say_sync = true;
}

/* Returns: how many bytes at the beginning were taken; 0: the rest of them is still to come. */
static size_t
take_some (BangerMux *mux, const unsigned char *bytes, size_t count)
{
  if (mux->payload > 0) {
    uint32_t length = count < mux->payload ? (uint32_t)count : mux->payload;
    Stream *stream = &mux->streams[mux->payload_of];
    mux->payload -= length;
    take_payload (mux, stream, bytes, length);
    return length;
  }
  if (bytes[0] == SYNC && count < SYNC_BYTES)
    return 0;
  if (bytes[0] == SYNC && memcmp (bytes, BANGER_MUX_MAGIC, MAGIC_BYTES) == 0) {
    take_sync (mux, bytes + MAGIC_BYTES);
    return SYNC_BYTES;
  }
  if (count < HEADER)
    return 0;
  if (take_frame (mux, bytes) < 0)
    lose_sync (mux);
  return HEADER;
}

static void
take_all (BangerMux *mux)
{
  size_t done = 0, n = 1;
  while (n > 0 && done < mux->in_count && mux->synced) {
    n = take_some (mux, mux->in + done, mux->in_count - done);
    done += n;
  }
  mux->in_count -= done;
  memmove (mux->in, mux->in + done, mux->in_count);
  while (!mux->synced && (n = look_for_sync (mux)) > 0) {
    mux->in_count -= n;
    memmove (mux->in, mux->in + n, mux->in_count);
    if (mux->synced)
      take_all (mux);
  }
}

/* A virtio port gives a page at a time: what else there is comes with this turn, and goes on in one piece. Returns: -1:
 * at its end. */
static int
read_port (BangerMux *mux)
{
  int reason = 0;
  ssize_t n = 1;
  for (int i = 0; i < PAGES && n > 0; i++) {
    n = read (mux->port, mux->in + mux->in_count, sizeof mux->in - mux->in_count);
    reason = n < 0 ? errno : 0;
    mux->in_count += n > 0 ? (size_t)n : 0;
    if (mux->in_count == sizeof mux->in)
      take_all (mux);
  }
  take_all (mux);
  errno = reason;
  return n > 0 || reason == EAGAIN || reason == EINTR ? 0 : -1;
}

/* To the port */

static void
put_frame (BangerMux *mux, const Stream *stream, unsigned type, uint32_t length)
{
  unsigned id = (unsigned)(stream - mux->streams);
  unsigned char head[HEADER] = { (unsigned char)type,
                                 0,
                                 (unsigned char)id,
                                 (unsigned char)(id >> 8),
                                 (unsigned char)length,
                                 (unsigned char)(length >> 8),
                                 (unsigned char)(length >> 16),
                                 (unsigned char)(length >> 24) };
  memcpy (mux->out, head, HEADER);
  mux->out_first = 0;
  mux->out_count = HEADER + (type == DATA ? length : 0);
}

/* Returns: whether there is a frame now. */
static bool
put_data (BangerMux *mux, Stream *stream)
{
  uint32_t most = stream->credit < BANGER_MUX_PAYLOAD ? stream->credit : BANGER_MUX_PAYLOAD;
  if (stream->fd < 0 || !stream->readable || stream->ended || most == 0 || stream->other_closed)
    return false;
  ssize_t n = read (stream->fd, mux->out + HEADER, most);
  if (n > 0) {
    stream->credit -= (uint32_t)n;
    put_frame (mux, stream, DATA, (uint32_t)n);
    return true;
  }
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
    stream->readable = false;
    return false;
  }
  stream->ended = stream->say_end = true;
  return false;
}

/* Whether nothing can come of it at this end any more. */
static bool
is_done (const Stream *stream)
{
  if (stream->fd < 0 || (!stream->accepted && stream->hung_up))
    return true;
  if (stream->other_closed) /* it takes nothing: when all that it sent is delivered */
    return stream->told_ended;
  return stream->ended && (stream->hung_up || stream->told_ended);
}

/* Returns: whether there is a frame now. */
static bool
put_of (BangerMux *mux, Stream *stream)
{
  if (!stream->used || stream->closed)
    return false;
  if (stream->say_open) {
    stream->say_open = false;
    put_frame (mux, stream, OPEN, 0);
    return true;
  }
  if (is_done (stream)) {
    let_go (mux, stream);
    stream->closed = true;
    put_frame (mux, stream, CLOSE, 0);
    settle (stream);
    return true;
  }
  if (stream->grant >= mux->window / GRANTS && !stream->other_ended && !stream->other_closed) {
    put_frame (mux, stream, CREDIT, stream->grant);
    stream->room += stream->grant;
    stream->grant = 0;
    return true;
  }
  if (put_data (mux, stream))
    return true;
  if (stream->say_end && !stream->other_closed) {
    stream->say_end = false;
    put_frame (mux, stream, END, 0);
    return true;
  }
  return false;
}

/* Returns: whether there is a frame now. */
static bool
next_frame (BangerMux *mux)
{
  if (mux->say_sync) {
    mux->say_sync = false;
    memcpy (mux->out, BANGER_MUX_MAGIC, MAGIC_BYTES);
    memcpy (mux->out + MAGIC_BYTES, mux->nonce, sizeof mux->nonce);
    mux->out_first = 0;
    mux->out_count = SYNC_BYTES;
    return true;
  }
  for (unsigned i = 0; i < BANGER_MUX_STREAMS && mux->synced; i++) {
    unsigned id = (mux->next + i) % BANGER_MUX_STREAMS;
    if (!put_of (mux, &mux->streams[id]))
      continue;
    mux->next = id + 1;
    return true;
  }
  return false;
}

/* Returns: -1: it has failed. */
static int
write_port (BangerMux *mux)
{
  mux->more = false;
  for (int i = 0; i < FRAMES; i++) {
    if (mux->out_count == 0 && !next_frame (mux))
      return 0;
    ssize_t n = write (mux->port, mux->out + mux->out_first, mux->out_count);
    if (n < 0)
      return errno == EAGAIN || errno == EINTR ? 0 : -1;
    mux->out_first += (size_t)n;
    mux->out_count -= (size_t)n;
  }
  mux->more = true;
  return 0;
}

/* Returns: whether the port has something to read, or to say. */
static bool
look_at_streams (BangerMux *mux)
{
  struct epoll_event events[EVENTS];
  bool port = false;
  int n = epoll_wait (mux->epoll, events, EVENTS, 0);
  for (int i = 0; i < n; i++) {
    if (events[i].data.u32 == PORT) {
      port = (events[i].events & ~(uint32_t)EPOLLOUT) != 0;
      continue;
    }
    Stream *stream = &mux->streams[events[i].data.u32];
    if (events[i].events & (EPOLLHUP | EPOLLERR)) {
      stream->hung_up = true;
      drop_held (stream);
    }
    if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
      stream->readable = true;
    if (events[i].events & EPOLLOUT)
      flush_held (mux, stream);
  }
  return port;
}

int
banger_mux_run (BangerMux *mux)
{
  /* First the streams: what the port says may give a number to another. */
  int r = look_at_streams (mux) ? read_port (mux) : 0;
  if (r == 0)
    r = write_port (mux);
  for (Stream *stream = mux->streams; stream < mux->streams + BANGER_MUX_STREAMS; stream++)
    if (stream->used)
      watch_stream (mux, stream);
  uint32_t events = EPOLLIN;
  if (mux->out_count > 0 || mux->more)
    events |= EPOLLOUT;
  watch (mux, mux->port, PORT, events, &mux->port_watched);
  return r;
}

BangerMux *
banger_mux_new (int port, const BangerMuxCalls *calls, void *data)
{
  BangerMux *mux = calloc (1, sizeof *mux);
  if (!mux)
    return NULL;
  *mux = (BangerMux){ .port = port, .calls = calls, .data = data };
  mux->window = is_opener (mux) ? BANGER_MUX_WINDOW : BANGER_MUX_ACCEPTED;
  mux->most = is_opener (mux) ? BANGER_MUX_ACCEPTED : BANGER_MUX_WINDOW;
  for (int i = 0; i < BANGER_MUX_STREAMS; i++)
    mux->streams[i].fd = -1;
  mux->epoll = epoll_create1 (EPOLL_CLOEXEC);
  if (mux->epoll < 0) {
    free (mux);
    return NULL;
  }
  watch (mux, port, PORT, EPOLLIN, &mux->port_watched);
  return mux;
}

void
banger_mux_free (BangerMux *mux)
{
  if (!mux)
    return;
  forget_streams (mux);
  close (mux->epoll);
  free (mux);
}

int
banger_mux_fd (const BangerMux *mux)
{
  return mux->epoll;
}

int
banger_mux_open (BangerMux *mux, int fd)
{
  for (Stream *stream = mux->streams; stream < mux->streams + BANGER_MUX_STREAMS; stream++) {
    if (stream->used)
      continue;
    *stream = (Stream){ .used = true, .fd = fd, .say_open = true, .room = BANGER_MUX_WINDOW };
    mux->more = true;
    watch_stream (mux, stream);
    watch (mux, mux->port, PORT, EPOLLIN | EPOLLOUT, &mux->port_watched);
    return 0;
  }
  errno = EAGAIN;
  return -1;
}

void
banger_mux_sync (BangerMux *mux, uint64_t nonce)
{
  forget_streams (mux);
  memcpy (mux->nonce, &nonce, sizeof mux->nonce);
  mux->synced = false;
  banger_mux_sync_again (mux);
}

int
banger_mux_sync_again (BangerMux *mux)
{
  if (mux->synced)
    return 0;
  mux->say_sync = true;
  watch (mux, mux->port, PORT, EPOLLIN | EPOLLOUT, &mux->port_watched);
  return 1;
}

unsigned
banger_mux_streams (const BangerMux *mux)
{
  unsigned count = 0;
  for (int i = 0; i < BANGER_MUX_STREAMS; i++)
    count += mux->streams[i].used;
  return count;
}

/* Both ends of a mux over a socket pair, with streams that nobody reads, that end and that lie.
 * Never waits: what has not come after so many turns does not come. */
#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/mux.h"

#define TURNS 2000
#define OPEN 1
#define DATA 2
#define CREDIT 3
#define CLOSE 5

typedef struct {
  BangerMux *opener, *acceptor;
  int port[2];
  GArray *opened; /* our ends of what was accepted at the far end, in turn */
  guint accepted;
  gboolean refuse;
} Pair;

static void
socket_pair (int *fds)
{
  g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), ==, 0);
}

static void
on_accepted (int fd, void *data)
{
  ((Pair *)data)->accepted++;
}

static int
on_opened (void *data)
{
  Pair *pair = data;
  int fds[2];
  if (pair->refuse)
    return -1;
  socket_pair (fds);
  g_array_append_val (pair->opened, fds[0]);
  return fds[1];
}

static const BangerMuxCalls opener_calls = { .accepted = on_accepted };
static const BangerMuxCalls acceptor_calls = { .opened = on_opened };

static void
turn (Pair *pair)
{
  if (pair->opener)
    banger_mux_run (pair->opener);
  if (pair->acceptor)
    banger_mux_run (pair->acceptor);
}

static void
turns (Pair *pair)
{
  for (int i = 0; i < 50; i++)
    turn (pair);
}

static void
begin (Pair *pair, gboolean both)
{
  *pair = (Pair){ .opened = g_array_new (FALSE, FALSE, sizeof (int)) };
  socket_pair (pair->port);
  pair->acceptor = banger_mux_new (pair->port[1], &acceptor_calls, pair);
  if (!both)
    return;
  pair->opener = banger_mux_new (pair->port[0], &opener_calls, pair);
  banger_mux_sync (pair->opener, 1);
}

static void
end (Pair *pair)
{
  banger_mux_free (pair->opener);
  banger_mux_free (pair->acceptor);
  for (guint i = 0; i < pair->opened->len; i++)
    close (g_array_index (pair->opened, int, i));
  g_array_unref (pair->opened);
  close (pair->port[0]);
  close (pair->port[1]);
}

/* Returns: our end of a new stream; @ret_far: the guest's. */
static int
open_stream (Pair *pair, int *ret_far)
{
  int fds[2];
  guint before = pair->opened->len;
  socket_pair (fds);
  g_assert_cmpint (banger_mux_open (pair->opener, fds[1]), ==, 0);
  for (int i = 0; i < TURNS && pair->opened->len == before; i++)
    turn (pair);
  turn (pair);
  g_assert_cmpuint (pair->opened->len, ==, before + 1);
  if (ret_far)
    *ret_far = g_array_index (pair->opened, int, before);
  return fds[0];
}

static void
expect (Pair *pair, int fd, const char *text)
{
  char got[64] = "";
  gsize count = 0;
  for (int i = 0; i < TURNS && count < strlen (text); i++) {
    turn (pair);
    ssize_t n = read (fd, got + count, sizeof got - 1 - count);
    count += n > 0 ? (gsize)n : 0;
  }
  g_assert_cmpstr (got, ==, text);
}

static void
expect_end (Pair *pair, int fd)
{
  char byte;
  ssize_t n = -1;
  for (int i = 0; i < TURNS && n < 0; i++) {
    turn (pair);
    n = read (fd, &byte, 1);
  }
  g_assert_cmpint (n, ==, 0);
}

static void
expect_streams (Pair *pair, guint count)
{
  turns (pair);
  g_assert_cmpuint (banger_mux_streams (pair->opener), ==, count);
  g_assert_cmpuint (banger_mux_streams (pair->acceptor), ==, count);
}

static void
put (int fd, const char *text)
{
  g_assert_cmpint (write (fd, text, strlen (text)), ==, (gssize)strlen (text));
}

/* Returns: how much went in before nothing more did. */
static gsize
fill (Pair *pair, int fd)
{
  static const char block[4096];
  gsize total = 0;
  for (int idle = 0; idle < 20;) {
    ssize_t n = write (fd, block, sizeof block);
    idle = n > 0 ? 0 : idle + 1;
    total += n > 0 ? (gsize)n : 0;
    turn (pair);
  }
  return total;
}

static void
test_both_ways (void)
{
  Pair pair;
  begin (&pair, TRUE);
  int far, near = open_stream (&pair, &far);
  g_assert_cmpuint (pair.accepted, ==, 1);
  put (near, "to the guest");
  expect (&pair, far, "to the guest");
  put (far, "to the host");
  expect (&pair, near, "to the host");
  expect_streams (&pair, 1);
  close (near);
  expect_end (&pair, far);
  expect_streams (&pair, 0);
  end (&pair);
}

/* The end of one direction leaves the other: `sort` says nothing before its input ends. */
static void
test_half_closed (void)
{
  Pair pair;
  begin (&pair, TRUE);
  int far, near = open_stream (&pair, &far);
  put (near, "input");
  shutdown (near, SHUT_WR);
  expect (&pair, far, "input");
  expect_end (&pair, far);
  put (far, "output");
  expect (&pair, near, "output");
  expect_streams (&pair, 1);
  shutdown (far, SHUT_WR);
  expect_end (&pair, near);
  expect_streams (&pair, 0);
  close (near);
  end (&pair);
}

/* What was sent before the end arrives, however late it is read. */
static void
test_rest_after_the_end (void)
{
  Pair pair;
  begin (&pair, TRUE);
  int far, near = open_stream (&pair, &far);
  g_autofree char *block = g_malloc0 (BANGER_MUX_WINDOW / 2), *got = g_malloc (BANGER_MUX_WINDOW);
  g_assert_cmpint (write (far, block, BANGER_MUX_WINDOW / 2), ==, BANGER_MUX_WINDOW / 2);
  close (far);
  g_array_set_size (pair.opened, 0);
  turns (&pair);
  gsize total = 0;
  for (int i = 0; i < TURNS && total < BANGER_MUX_WINDOW / 2; i++) {
    ssize_t n = read (near, got, BANGER_MUX_WINDOW);
    total += n > 0 ? (gsize)n : 0;
    turn (&pair);
  }
  g_assert_cmpuint (total, ==, BANGER_MUX_WINDOW / 2);
  expect_end (&pair, near);
  close (near);
  expect_streams (&pair, 0);
  end (&pair);
}

/* In both directions, with as much as goes in: the others are served, and what is held has a bound. */
static void
test_nobody_reads (void)
{
  Pair pair;
  begin (&pair, TRUE);
  int stuck_far[4], stuck[4];
  for (int i = 0; i < 4; i++)
    stuck[i] = open_stream (&pair, &stuck_far[i]);
  int far, near = open_stream (&pair, &far);
  for (int i = 0; i < 4; i++) {
    g_assert_cmpuint (fill (&pair, stuck_far[i]), <, 1 << 20);
    g_assert_cmpuint (fill (&pair, stuck[i]), <, 1 << 20);
  }
  put (near, "question");
  expect (&pair, far, "question");
  put (far, "answer");
  expect (&pair, near, "answer");
  close (stuck[0]);
  expect_streams (&pair, 5); /* what its client sent before it went is on its way */
  for (int i = 1; i < 4; i++)
    close (stuck[i]);
  close (near);
  end (&pair);
}

static void
test_much (void)
{
  Pair pair;
  begin (&pair, TRUE);
  int far, near = open_stream (&pair, &far);
  g_autofree guint8 *sent = g_malloc (8 << 20), *got = g_malloc (8 << 20);
  for (gsize i = 0; i < 8 << 20; i++)
    sent[i] = (guint8)(i * 2654435761u >> 13);
  gsize in = 0, out = 0;
  for (int i = 0; i < 100000 && out < 8 << 20; i++) {
    ssize_t n = in < 8 << 20 ? write (far, sent + in, (8 << 20) - in) : 0;
    in += n > 0 ? (gsize)n : 0;
    turn (&pair);
    n = read (near, got + out, (8 << 20) - out);
    out += n > 0 ? (gsize)n : 0;
  }
  g_assert_cmpuint (out, ==, 8 << 20);
  g_assert_cmpint (memcmp (sent, got, 8 << 20), ==, 0);
  close (near);
  end (&pair);
}

static void
test_refused (void)
{
  Pair pair;
  begin (&pair, TRUE);
  pair.refuse = TRUE;
  int fds[2];
  socket_pair (fds);
  g_assert_cmpint (banger_mux_open (pair.opener, fds[1]), ==, 0);
  expect_end (&pair, fds[0]);
  g_assert_cmpuint (pair.accepted, ==, 0);
  expect_streams (&pair, 0);
  close (fds[0]);
  end (&pair);
}

/* A client that does not wait for the guest gives its number back. */
static void
test_gone_before_it_was_accepted (void)
{
  Pair pair;
  begin (&pair, TRUE);
  turns (&pair);
  for (int i = 0; i < 2 * BANGER_MUX_STREAMS; i++) {
    int fds[2];
    socket_pair (fds);
    g_assert_cmpint (banger_mux_open (pair.opener, fds[1]), ==, 0);
    close (fds[0]);
    turns (&pair);
    for (guint j = 0; j < pair.opened->len; j++)
      close (g_array_index (pair.opened, int, j));
    g_array_set_size (pair.opened, 0);
  }
  expect_streams (&pair, 0);
  end (&pair);
}

static void
test_as_many_as_there_are_numbers (void)
{
  Pair pair;
  int near[BANGER_MUX_STREAMS], fds[2];
  begin (&pair, TRUE);
  for (int i = 0; i < BANGER_MUX_STREAMS; i++)
    near[i] = open_stream (&pair, NULL);
  socket_pair (fds);
  g_assert_cmpint (banger_mux_open (pair.opener, fds[1]), ==, -1);
  g_assert_cmpint (errno, ==, EAGAIN);
  close (fds[0]);
  close (fds[1]);
  for (int i = 0; i < BANGER_MUX_STREAMS; i++) {
    put (g_array_index (pair.opened, int, i), "x");
    expect (&pair, near[i], "x");
    close (near[i]);
  }
  expect_streams (&pair, 0);
  end (&pair);
}

/* A host that was started anew, in front of an agent that was not: what is left of before is dropped by both. */
static void
test_begun_anew (void)
{
  Pair pair;
  begin (&pair, TRUE);
  int far, near = open_stream (&pair, &far);
  g_clear_pointer (&pair.opener, banger_mux_free);
  put (far, "not any more");
  turns (&pair);
  pair.opener = banger_mux_new (pair.port[0], &opener_calls, &pair);
  banger_mux_sync (pair.opener, 2);
  expect_end (&pair, far);
  expect_streams (&pair, 0);
  close (near);
  near = open_stream (&pair, &far);
  put (far, "new");
  expect (&pair, near, "new");
  g_assert_false (banger_mux_sync_again (pair.opener));
  close (near);
  end (&pair);
}

/* An answer that was asked for twice does not take what began after the first. */
static void
test_asked_twice (void)
{
  Pair pair;
  begin (&pair, TRUE);
  banger_mux_run (pair.opener);
  g_assert_true (banger_mux_sync_again (pair.opener));
  banger_mux_run (pair.opener);
  int far, near = open_stream (&pair, &far);
  put (near, "here");
  expect (&pair, far, "here");
  expect_streams (&pair, 1);
  close (near);
  end (&pair);
}

static void
put_frame (int fd, guint8 type, guint8 id, guint32 length)
{
  guint8 head[8] = { type, 0, id, 0, (guint8)length, (guint8)(length >> 8), (guint8)(length >> 16), 0 };
  g_assert_cmpint (write (fd, head, sizeof head), ==, sizeof head);
}

/* What a hostile end may say: all streams go, nothing else happens, and it can begin anew. */
static void
test_lies (void)
{
  static const struct {
    guint8 type, id;
    guint32 length;
  } lies[] = {
    { OPEN, 0, 0 },                      /* it is open */
    { DATA, 0, BANGER_MUX_PAYLOAD + 1 }, /* longer than any */
    { DATA, 0, 0 },                      /* nothing */
    { DATA, 7, 5 },                      /* of no stream */
    { CREDIT, 0, BANGER_MUX_ACCEPTED + 1 },
    { CREDIT, 0, 1 }, /* more than a window in all */
    { CREDIT, 7, 1 },
    { CLOSE, 7, 0 },
    { 0, 0, 0 },
    { 9, 0, 0 },
    { 255, 255, 0 },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (lies); i++) {
    Pair pair;
    char answer[16];
    begin (&pair, FALSE);
    g_assert_cmpint (write (pair.port[0], BANGER_MUX_MAGIC "12345678", 16), ==, 16);
    put_frame (pair.port[0], OPEN, 0, 0);
    turns (&pair);
    g_assert_cmpuint (banger_mux_streams (pair.acceptor), ==, 1);
    put_frame (pair.port[0], lies[i].type, lies[i].id, lies[i].length);
    turns (&pair);
    g_assert_cmpuint (banger_mux_streams (pair.acceptor), ==, 0);
    put_frame (pair.port[0], OPEN, 1, 0); /* not believed any more */
    g_assert_cmpint (write (pair.port[0], BANGER_MUX_MAGIC "abcdefgh", 16), ==, 16);
    put_frame (pair.port[0], OPEN, 2, 0);
    turns (&pair);
    g_assert_cmpuint (banger_mux_streams (pair.acceptor), ==, 1);
    while (read (pair.port[0], answer, sizeof answer) > 0)
      continue;
    end (&pair);
  }
}

/* To the VMM: a guest opens nothing, answers for nobody and sends no more than it may. */
static void
test_guest_lies (void)
{
  Pair pair;
  begin (&pair, TRUE);
  g_clear_pointer (&pair.acceptor, banger_mux_free);
  guint8 sync[16];
  banger_mux_run (pair.opener);
  g_assert_cmpint (read (pair.port[1], sync, sizeof sync), ==, sizeof sync);
  int fds[2];
  socket_pair (fds);
  g_assert_cmpint (banger_mux_open (pair.opener, fds[1]), ==, 0);
  g_assert_cmpint (write (pair.port[1], BANGER_MUX_MAGIC "no-nonce", 16), ==, 16);
  turns (&pair);
  put_frame (pair.port[1], CREDIT, 0, 100); /* behind an answer that is none */
  turns (&pair);
  g_assert_cmpuint (pair.accepted, ==, 0);
  g_assert_cmpint (write (pair.port[1], sync, 16), ==, 16);
  turns (&pair);
  put_frame (pair.port[1], CREDIT, 0, 100);
  turns (&pair);
  g_assert_cmpuint (pair.accepted, ==, 1);
  put_frame (pair.port[1], OPEN, 3, 0);
  turns (&pair);
  g_assert_cmpuint (banger_mux_streams (pair.opener), ==, 0);
  expect_end (&pair, fds[0]);
  close (fds[0]);
  end (&pair);
}

static void
test_port_ends (void)
{
  Pair pair;
  begin (&pair, TRUE);
  close (open_stream (&pair, NULL));
  shutdown (pair.port[1], SHUT_RDWR);
  g_assert_cmpint (banger_mux_run (pair.opener), ==, -1);
  end (&pair);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/mux/both-ways", test_both_ways);
  g_test_add_func ("/mux/half-closed", test_half_closed);
  g_test_add_func ("/mux/rest-after-the-end", test_rest_after_the_end);
  g_test_add_func ("/mux/nobody-reads", test_nobody_reads);
  g_test_add_func ("/mux/much", test_much);
  g_test_add_func ("/mux/refused", test_refused);
  g_test_add_func ("/mux/gone-before-it-was-accepted", test_gone_before_it_was_accepted);
  g_test_add_func ("/mux/as-many-as-there-are-numbers", test_as_many_as_there_are_numbers);
  g_test_add_func ("/mux/begun-anew", test_begun_anew);
  g_test_add_func ("/mux/asked-twice", test_asked_twice);
  g_test_add_func ("/mux/lies", test_lies);
  g_test_add_func ("/mux/guest-lies", test_guest_lies);
  g_test_add_func ("/mux/port-ends", test_port_ends);
  return g_test_run ();
}

/* Relay: bytes arrive whole and in order, ends are passed on, nothing is lost when a peer is gone.
 * Run by meson.
 * Never touches anything but socket pairs. */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "engine/relay.h"

#define AMOUNT (3 * 1024 * 1024)

typedef struct {
  BangerRelay *relay;
  int left, right; /* our ends */
  gboolean done;
} Fixture;

static void
handle_done (BangerRelay *relay, gpointer user_data)
{
  Fixture *f = user_data;
  f->done = TRUE;
  f->relay = NULL;
  banger_relay_free (relay);
}

static void
set_up (Fixture *f, gconstpointer whole)
{
  int a[2], b[2];
  g_assert_no_errno (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, a));
  g_assert_no_errno (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, b));
  f->left = a[0];
  f->right = b[0];
  f->relay = banger_relay_new (a[1], b[1], "early", 5, GPOINTER_TO_INT (whole), handle_done, f);
}

static void
tear_down (Fixture *f, gconstpointer whole)
{
  g_clear_pointer (&f->relay, banger_relay_free);
  banger_clear_fd (&f->left);
  banger_clear_fd (&f->right);
}

static void
spin (void)
{
  for (int i = 0; i < 64; i++)
    g_main_context_iteration (NULL, FALSE);
}

/* Reads until @want bytes, the end (returns what came) or nothing moves. */
static gsize
collect (int fd, char *buffer, gsize want)
{
  gsize got = 0;
  for (int idle = 0; got < want && idle < 2000;) {
    ssize_t n = read (fd, buffer + got, want - got);
    if (n == 0)
      break;
    if (n > 0) {
      got += (gsize)n;
      idle = 0;
      continue;
    }
    g_assert_cmpint (errno, ==, EAGAIN);
    idle++;
    g_main_context_iteration (NULL, FALSE);
  }
  return got;
}

static void
test_early (Fixture *f, gconstpointer whole)
{
  char text[16] = "";
  g_assert_cmpuint (collect (f->right, text, 5), ==, 5);
  g_assert_cmpstr (text, ==, "early");
}

static void
test_bulk (Fixture *f, gconstpointer whole)
{
  g_autofree char *sent = g_malloc (AMOUNT);
  g_autofree char *got = g_malloc (AMOUNT + 5);
  for (gsize i = 0; i < AMOUNT; i++)
    sent[i] = (char)(i * 31 + i / 251);
  gsize out = 0, in = 0;
  for (int turns = 0; in < AMOUNT + 5 && turns < 1000000; turns++) {
    ssize_t n = out < AMOUNT ? send (f->left, sent + out, AMOUNT - out, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
    out += n > 0 ? (gsize)n : 0;
    g_main_context_iteration (NULL, FALSE);
    n = read (f->right, got + in, AMOUNT + 5 - in);
    in += n > 0 ? (gsize)n : 0;
  }
  g_assert_cmpuint (in, ==, AMOUNT + 5);
  g_assert_cmpint (memcmp (got + 5, sent, AMOUNT), ==, 0);
}

static void
test_half_close (Fixture *f, gconstpointer whole)
{
  char text[32] = "";
  g_assert_no_errno (shutdown (f->left, SHUT_WR));
  g_assert_cmpuint (collect (f->right, text, sizeof text), ==, 5);
  g_assert_false (f->done);
  /* The other direction still works. */
  g_assert_cmpint (send (f->right, "answer", 6, MSG_NOSIGNAL), ==, 6);
  g_assert_cmpuint (collect (f->left, text, 6), ==, 6);
  g_assert_cmpint (memcmp (text, "answer", 6), ==, 0);
  g_assert_no_errno (shutdown (f->right, SHUT_WR));
  spin ();
  g_assert_true (f->done);
}

/* More than the relay's buffer is on the way when the writer disappears and the reader is slow. */
static void
test_gone_writer (Fixture *f, gconstpointer whole)
{
  g_autofree char *block = g_malloc0 (AMOUNT);
  g_autofree char *got = g_malloc (AMOUNT);
  gsize out = 0;
  for (int idle = 0; idle < 50;) {
    ssize_t n = send (f->left, block, 65536, MSG_DONTWAIT | MSG_NOSIGNAL);
    out += n > 0 ? (gsize)n : 0;
    idle = n > 0 ? 0 : idle + 1;
    g_main_context_iteration (NULL, FALSE);
    g_assert_cmpuint (out, <, AMOUNT);
  }
  banger_clear_fd (&f->left);
  spin ();
  g_assert_cmpuint (collect (f->right, got, AMOUNT), ==, out + 5);
}

static void
test_gone_reader (Fixture *f, gconstpointer whole)
{
  banger_clear_fd (&f->right);
  g_assert_cmpint (send (f->left, "x", 1, MSG_NOSIGNAL), ==, 1);
  spin ();
  g_assert_true (f->done);
}

static void
test_whole (Fixture *f, gconstpointer whole)
{
  char text[16] = "";
  g_assert_no_errno (shutdown (f->left, SHUT_WR));
  spin ();
  g_assert_true (f->done);
  g_assert_cmpuint (collect (f->right, text, sizeof text), ==, 5);
}

static void
test_steal (Fixture *f, gconstpointer whole)
{
  int stolen = banger_relay_steal_b (f->relay);
  g_clear_pointer (&f->relay, banger_relay_free);
  g_assert_cmpint (write (stolen, "kept", 4), ==, 4);
  char text[16] = "";
  g_assert_cmpuint (collect (f->right, text, 4), ==, 4);
  g_assert_cmpstr (text, ==, "kept");
  close (stolen);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
#define ADD(name, whole, test) g_test_add (name, Fixture, GINT_TO_POINTER (whole), set_up, test, tear_down)
  ADD ("/relay/early", FALSE, test_early);
  ADD ("/relay/bulk", FALSE, test_bulk);
  ADD ("/relay/half-close", FALSE, test_half_close);
  ADD ("/relay/gone-writer", FALSE, test_gone_writer);
  ADD ("/relay/gone-reader", FALSE, test_gone_reader);
  ADD ("/relay/whole", TRUE, test_whole);
  ADD ("/relay/steal", TRUE, test_steal);
  return g_test_run ();
}

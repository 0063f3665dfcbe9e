/* What comes out of a guest's serial port, and what comes into it: frames of any kind to both ends of a mux.
 * Run as replay.c says.
 * Never takes what it was given for more than a window of each stream. */
#include <glib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/mux.h"
#include "fuzz.h"

static int
opened (void *data)
{
  int fds[2];
  if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
    return -1;
  *(int *)data = *(int *)data ^ 1;
  if (*(int *)data) /* nobody reads the other half of them */
    g_assert_cmpint (write (fds[0], "hello", 5), ==, 5);
  close (fds[0]);
  return fds[1];
}

static void
accepted (int fd, void *data)
{
  g_assert_cmpint (fd, >=, 0);
}

static void
feed (const BangerMuxCalls *calls, const uint8_t *data, size_t size)
{
  char drain[4096];
  int state = 0, port[2], stream[2];
  g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, port), ==, 0);
  BangerMux *mux = banger_mux_new (port[1], calls, &state);
  if (calls->accepted) {
    uint64_t nonce = 0;
    g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, stream), ==, 0);
    banger_mux_sync (mux, nonce);
    g_assert_cmpint (banger_mux_open (mux, stream[1]), ==, 0);
    g_assert_cmpint (write (stream[0], "to the guest", 12), ==, 12);
  }
  for (size_t done = 0; done < size;) {
    ssize_t n = write (port[0], data + done, MIN (size - done, 100));
    done += n > 0 ? (size_t)n : 0;
    g_assert_cmpint (banger_mux_run (mux), ==, 0);
    while (read (port[0], drain, sizeof drain) > 0)
      continue;
  }
  banger_mux_run (mux);
  g_assert_cmpuint (banger_mux_streams (mux), <=, BANGER_MUX_STREAMS);
  banger_mux_free (mux);
  if (calls->accepted)
    close (stream[0]);
  close (port[0]);
  close (port[1]);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static const BangerMuxCalls guest = { .opened = opened }, host = { .accepted = accepted };
  if (size > 1 << 18)
    return 0;
  feed (&guest, data, size);
  feed (&host, data, size);
  return 0;
}

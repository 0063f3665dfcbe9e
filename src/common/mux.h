/* Many streams over one port that has no connections of its own: the virtio-serial port of a guest.
 * Both ends: banger-vmm-qemu opens streams, banger-guest accepts them (no GLib, as the agent has none).
 * Never holds more than a window of a stream, and never lets one that nobody reads hold up another. */
#pragma once

#include <stdint.h>

#define BANGER_MUX_STREAMS 256
#define BANGER_MUX_WINDOW 65536         /* bytes of a stream that the opener holds */
#define BANGER_MUX_ACCEPTED (256 << 10) /* likewise the accepting end, since it knows: before it was a window, too */
#define BANGER_MUX_PAYLOAD 32768        /* of one frame, at most */

/* A frame: type, 0, stream (16 bits), length (32 bits), all little-endian; after DATA come as many bytes as it says.
 *   OPEN    of the opener's: a stream by this number, which must be free
 *   DATA    no more than what the other end has given credit for; an accepting end has BANGER_MUX_WINDOW at first
 *   CREDIT  its length is how many bytes more may be sent; the first one says that the stream was accepted
 *   END     this end sends no more data
 *   CLOSE   this end is done: it sends nothing more of this stream, and what comes for it is dropped. A number is free
 *           again when both have said so.
 * Before all that, and again whenever there may be something else in the port: SYNC, 16 bytes of which the first eight
 * are BANGER_MUX_MAGIC. The opener makes up the other eight, the accepting end drops all streams and repeats them, and
 * either drops what comes before. */
#define BANGER_MUX_MAGIC "\xb5mux\x01\r\n\xb5"

typedef struct BangerMux BangerMux;

typedef struct {
  /* Opener: the other end has accepted @fd. Nothing was written to it so far. */
  void (*accepted) (int fd, void *data);
  /* Accepting end: a stream was opened. Returns: a stream socket, non-blocking, which is taken; -1: refused. */
  int (*opened) (void *data);
} BangerMuxCalls;

/**
 * banger_mux_new:
 * @port: non-blocking, borrowed. @calls: the member of the other end is %NULL; so it is known which end this is.
 * Returns: (transfer full): %NULL with errno.
 */
BangerMux *banger_mux_new (int port, const BangerMuxCalls *calls, void *data);
/** banger_mux_free: closes all streams, not the port. */
void banger_mux_free (BangerMux *mux);

/** banger_mux_fd: a descriptor that is readable when banger_mux_run() has something to do. */
int banger_mux_fd (const BangerMux *mux);

/**
 * banger_mux_run:
 * Never waits. Returns: 0; -1 when the port has failed or is at its end (errno 0).
 */
int banger_mux_run (BangerMux *mux);

/** banger_mux_open: @fd: a stream socket, non-blocking, taken. Returns: 0; -1 with errno (EAGAIN: all numbers are
 * taken), and @fd is still the caller's. */
int banger_mux_open (BangerMux *mux, int fd);

/** banger_mux_sync: (opener) drops all streams and asks the other end to do the same. @nonce: never used before. */
void banger_mux_sync (BangerMux *mux, uint64_t nonce);
/** banger_mux_sync_again: (opener) asks once more if there was no answer. Returns: whether that was so. */
int banger_mux_sync_again (BangerMux *mux);

/** banger_mux_streams: how many there are. */
unsigned banger_mux_streams (const BangerMux *mux);

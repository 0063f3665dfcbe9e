/* lzop's framing as lib/decompress_unlzo.c of the kernel reads it, and the decoder of LZO1X.
 * Called for a bzImage alone.
 * Never trusts a length: each is held against what is left on both sides. */
#include "intake/lzo.h"

#include <string.h>

#include "common/error.h"

#define MAGIC "\x89LZO\0\r\n\x1a\n"
#define MAGIC_BYTES 9
#define VERSION_WITH_LEVEL 0x0940
#define HAS_FILTER 0x800u
#define ADLER32_OF_CONTENT 0x1u
#define OTHER_CHECKSUMS 0x302u /* nobody who builds kernels asks for these */
#define BLOCK_MAX (256u << 10)
#define LITERALS_BEHIND 4 /* the state after a run of literals that was not short */

typedef struct {
  const guint8 *at, *end;
  guint8 *out_begin, *out, *out_end;
  gboolean bad;
} Stream;

static guint
next_byte (Stream *stream)
{
  if (stream->at < stream->end)
    return *stream->at++;
  stream->bad = TRUE;
  return 0;
}

static guint
next_little16 (Stream *stream)
{
  guint low = next_byte (stream);
  return low | next_byte (stream) << 8;
}

/* @bits of the instruction; 0: zeros and a byte follow. */
static gsize
run_length (Stream *stream, guint bits, guint mask)
{
  gsize length = bits & mask;
  if (length > 0)
    return length;
  for (length = mask; !stream->bad; length += 255) {
    guint byte = next_byte (stream);
    if (byte != 0)
      return length + byte;
    if (length > BLOCK_MAX)
      stream->bad = TRUE;
  }
  return 0;
}

static void
copy_literals (Stream *stream, gsize length)
{
  if (length > (gsize)(stream->end - stream->at) || length > (gsize)(stream->out_end - stream->out)) {
    stream->bad = TRUE;
    return;
  }
  memcpy (stream->out, stream->at, length);
  stream->out += length;
  stream->at += length;
}

/* Source and target may overlap: byte by byte, that repeats. */
static void
copy_match (Stream *stream, gsize distance, gsize length)
{
  if (distance > (gsize)(stream->out - stream->out_begin) || length > (gsize)(stream->out_end - stream->out)) {
    stream->bad = TRUE;
    return;
  }
  for (; length > 0; length--, stream->out++)
    *stream->out = *(stream->out - distance);
}

/* One instruction with its literals. Returns: the next state, -1 at the end of the stream. */
static int
step (Stream *stream, int state)
{
  guint code = next_byte (stream), tail = code;
  gsize distance, length;
  if (code < 16 && state == 0) {
    copy_literals (stream, run_length (stream, code, 15) + 3);
    return LITERALS_BEHIND;
  }
  if (code < 16) {
    gboolean far = state == LITERALS_BEHIND;
    distance = (far ? 0x801 : 1) + (code >> 2) + (next_byte (stream) << 2);
    length = far ? 3 : 2;
  } else if (code >= 64) {
    distance = 1 + ((code >> 2) & 7) + (next_byte (stream) << 3);
    length = (code >> 5) + 1;
  } else {
    length = run_length (stream, code, code >= 32 ? 31 : 7) + 2;
    tail = next_little16 (stream);
    distance = (code >= 32 ? 1 : (gsize)(code & 8) << 11) + (tail >> 2);
    if (code < 32 && distance == 0)
      return -1;
    distance += code < 32 ? 0x4000 : 0;
  }
  copy_match (stream, distance, length);
  copy_literals (stream, tail & 3);
  return (int)(tail & 3);
}

gboolean
banger_lzo_block (const guint8 *in, gsize in_length, guint8 *out, gsize out_length)
{
  Stream stream = { in, in + in_length, out, out, out + out_length, FALSE };
  int state = 0;
  if (in_length > 0 && *in > 17) {
    guint literals = next_byte (&stream) - 17;
    copy_literals (&stream, literals);
    state = literals < 4 ? (int)literals : LITERALS_BEHIND;
  }
  while (!stream.bad && state >= 0)
    state = step (&stream, state);
  return !stream.bad && stream.at == stream.end && stream.out == stream.out_end;
}

static guint32
adler32 (const guint8 *data, gsize length) /* RFC 1950, section 8.2 */
{
  guint32 a = 1, b = 0;
  for (gsize i = 0; i < length; i++) {
    a = (a + data[i]) % 65521;
    b = (b + a) % 65521;
  }
  return b << 16 | a;
}

static guint32
next_big (Stream *stream, gsize bytes)
{
  guint32 value = 0;
  for (gsize i = 0; i < bytes; i++)
    value = value << 8 | next_byte (stream);
  return value;
}

static void
skip (Stream *stream, gsize bytes)
{
  if (bytes <= (gsize)(stream->end - stream->at))
    stream->at += bytes;
  else
    stream->bad = TRUE;
}

static gboolean
read_head (Stream *stream)
{
  if (stream->end - stream->at < MAGIC_BYTES || memcmp (stream->at, MAGIC, MAGIC_BYTES) != 0)
    return FALSE;
  skip (stream, MAGIC_BYTES);
  gboolean level = next_big (stream, 2) >= VERSION_WITH_LEVEL;
  skip (stream, level ? 6 : 5); /* two versions, method, level */
  guint32 flags = next_big (stream, 4);
  skip (stream, (flags & HAS_FILTER ? 4 : 0) + (level ? 12 : 8)); /* filter, mode, time */
  skip (stream, next_byte (stream));                              /* file name */
  skip (stream, 4);                                               /* checksum of this */
  return !stream->bad && (flags & ADLER32_OF_CONTENT) != 0 && (flags & OTHER_CHECKSUMS) == 0;
}

/* Returns: 1 with a block more in @content, 0 at the end, -1. */
static int
read_block (Stream *stream, GByteArray *content, gsize max)
{
  gsize length = next_big (stream, 4), done = content->len;
  if (length == 0)
    return stream->bad ? -1 : 0;
  gsize packed = next_big (stream, 4);
  guint32 checksum = next_big (stream, 4);
  if (stream->bad || length > BLOCK_MAX || packed == 0 || packed > length || packed > (gsize)(stream->end - stream->at)
      || length > max - done)
    return -1;
  g_byte_array_set_size (content, (guint)(done + length));
  guint8 *out = content->data + done;
  gboolean ok = packed < length && banger_lzo_block (stream->at, packed, out, length);
  if (packed == length) { /* stored */
    memcpy (out, stream->at, length);
    ok = TRUE;
  }
  skip (stream, packed);
  return ok && adler32 (out, length) == checksum ? 1 : -1;
}

GBytes *
banger_lzo_unpack (const guint8 *data, gsize length, gsize max, GError **error)
{
  Stream stream = { data, data + length, NULL, NULL, NULL, FALSE };
  g_autoptr (GByteArray) content = g_byte_array_new ();
  int more = read_head (&stream) ? 1 : -1;
  while (more > 0)
    more = read_block (&stream, content, max);
  if (more == 0)
    return g_byte_array_free_to_bytes (g_steal_pointer (&content));
  banger_set_error (error, BANGER_ERROR_INVALID_KERNEL,
                    "cannot decompress the kernel in the bzImage: its lzo data is damaged");
  return NULL;
}

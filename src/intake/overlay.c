/* The exceptions of a persistent snapshot in a table, and an io_manager of libext2fs over it.
 * Never believes a number of either without a bound, never writes. */
#include "intake/overlay.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "common/bytes.h"
#include "common/error.h"

#define MAGIC 0x70416e53u /* "SnAp" */
#define VERSION 1u
#define SECTOR 512u
#define MIN_CHUNK 4096u
#define MAX_CHUNK (1u << 20)
#define MAX_EXCEPTIONS (1u << 25) /* 128 GiB of 4 KiB each: half a GiB of memory */

/* On the disk, little-endian. */
typedef struct {
  guint32 magic, valid, version, chunk_sectors;
} Header;
typedef struct {
  guint64 old_chunk, new_chunk;
} Exception;

struct BangerOverlay {
  int base_fd, cow_fd;
  guint64 size, cow_size;
  guint32 chunk;      /* bytes */
  GArray *exceptions; /* Exception, by old_chunk */
};

static gboolean
bad (GError **error, const char *why)
{
  return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "what was written over the image cannot be read: %s",
                           why);
}

static int
compare (gconstpointer a, gconstpointer b)
{
  guint64 left = ((const Exception *)a)->old_chunk, right = ((const Exception *)b)->old_chunk;
  return left < right ? -1 : left > right;
}

/* Returns: whether the area was full, so that another one follows; -1 with @error. */
static int
read_area (BangerOverlay *overlay, Exception *area, guint64 number, GError **error)
{
  guint32 per_area = overlay->chunk / (guint32)sizeof (Exception);
  guint64 at = (1 + number * ((guint64)per_area + 1)) * overlay->chunk;
  if (at > overlay->cow_size || overlay->chunk > overlay->cow_size - at)
    return 0; /* it is full to its end */
  if (banger_read_exactly (overlay->cow_fd, area, overlay->chunk, (off_t)at) < 0) {
    bad (error, g_strerror (errno));
    return -1;
  }
  for (guint32 i = 0; i < per_area; i++) {
    Exception one = { GUINT64_FROM_LE (area[i].old_chunk), GUINT64_FROM_LE (area[i].new_chunk) };
    if (one.new_chunk == 0)
      return 0;
    if (one.new_chunk >= overlay->cow_size / overlay->chunk || one.old_chunk > overlay->size / overlay->chunk
        || overlay->exceptions->len >= MAX_EXCEPTIONS)
    {
      bad (error, "it leads out of its file, or is too much");
      return -1;
    }
    g_array_append_val (overlay->exceptions, one);
  }
  return 1;
}

static gboolean
read_exceptions (BangerOverlay *overlay, GError **error)
{
  g_autofree Exception *area = g_malloc (overlay->chunk);
  int more = 1;
  for (guint64 number = 0; more == 1; number++)
    more = read_area (overlay, area, number, error);
  if (more < 0)
    return FALSE;
  g_array_sort (overlay->exceptions, compare);
  for (guint i = 1; i < overlay->exceptions->len; i++)
    if (g_array_index (overlay->exceptions, Exception, i).old_chunk
        == g_array_index (overlay->exceptions, Exception, i - 1).old_chunk)
      return bad (error, "it has two versions of one place");
  return TRUE;
}

static gboolean
read_cow (BangerOverlay *overlay, GError **error)
{
  Header header;
  if (overlay->cow_size < MIN_CHUNK)
    return bad (error, "it is too short");
  if (banger_read_exactly (overlay->cow_fd, &header, sizeof header, 0) < 0)
    return bad (error, g_strerror (errno));
  if (GUINT32_FROM_LE (header.magic) == 0) /* nothing was ever written */
    return TRUE;
  guint64 chunk = (guint64)GUINT32_FROM_LE (header.chunk_sectors) * SECTOR;
  if (GUINT32_FROM_LE (header.magic) != MAGIC || GUINT32_FROM_LE (header.version) != VERSION)
    return bad (error, "it is no snapshot");
  if (GUINT32_FROM_LE (header.valid) != 1)
    return bad (error, "the kernel gave it up when it was full");
  if (chunk < MIN_CHUNK || chunk > MAX_CHUNK || (chunk & (chunk - 1)) != 0)
    return bad (error, "its chunks have no size that there is");
  overlay->chunk = (guint32)chunk;
  return read_exceptions (overlay, error);
}

static gboolean
size_of (int fd, guint64 *ret_size, GError **error)
{
  struct stat st;
  if (fstat (fd, &st) < 0 || !S_ISREG (st.st_mode))
    return bad (error, "a disk is no file");
  *ret_size = (guint64)st.st_size;
  return TRUE;
}

BangerOverlay *
banger_overlay_new (int base_fd, int cow_fd, GError **error)
{
  g_autoptr (BangerOverlay) overlay = g_new0 (BangerOverlay, 1);
  *overlay = (BangerOverlay){ .base_fd = base_fd, .cow_fd = cow_fd, .chunk = MIN_CHUNK };
  overlay->exceptions = g_array_new (FALSE, FALSE, sizeof (Exception));
  if (!size_of (base_fd, &overlay->size, error))
    return NULL;
  if (cow_fd >= 0 && (!size_of (cow_fd, &overlay->cow_size, error) || !read_cow (overlay, error)))
    return NULL;
  return g_steal_pointer (&overlay);
}

void
banger_overlay_free (BangerOverlay *overlay)
{
  if (!overlay)
    return;
  g_array_unref (overlay->exceptions);
  g_free (overlay);
}

guint64
banger_overlay_size (const BangerOverlay *overlay)
{
  return overlay->size;
}

/* Returns: the number of the first exception that is not before @chunk. */
static guint
find (const BangerOverlay *overlay, guint64 chunk)
{
  guint low = 0, high = overlay->exceptions->len;
  while (low < high) {
    guint middle = low + (high - low) / 2;
    if (g_array_index (overlay->exceptions, Exception, middle).old_chunk < chunk)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

gboolean
banger_overlay_read (const BangerOverlay *overlay, void *buffer, gsize length, guint64 offset)
{
  guint8 *to = buffer;
  while (length > 0) {
    guint64 chunk = offset / overlay->chunk, inside = offset % overlay->chunk;
    guint at = find (overlay, chunk);
    const Exception *next = at < overlay->exceptions->len ? &g_array_index (overlay->exceptions, Exception, at) : NULL;
    gboolean over = next && next->old_chunk == chunk;
    guint64 end = over ? overlay->chunk - inside : next ? next->old_chunk * overlay->chunk - offset : G_MAXUINT64;
    gsize part = (gsize)MIN (length, end);
    int fd = over ? overlay->cow_fd : overlay->base_fd;
    if (banger_read_exactly (fd, to, part, (off_t)(over ? next->new_chunk * overlay->chunk + inside : offset)) < 0)
      return FALSE;
    to += part;
    offset += part;
    length -= part;
  }
  return TRUE;
}

/* libext2fs */

static const BangerOverlay *opening; /* its open() gets a name alone */
static struct struct_io_manager overlay_io;

static errcode_t
io_open (const char *name, int flags, io_channel *ret_channel)
{
  io_channel channel = NULL;
  errcode_t code = ext2fs_get_memzero (sizeof *channel, &channel);
  if (code == 0)
    code = ext2fs_get_memzero (strlen (name) + 1, &channel->name);
  if (code != 0)
    return code;
  memcpy (channel->name, name, strlen (name) + 1);
  channel->magic = EXT2_ET_MAGIC_IO_CHANNEL;
  channel->block_size = 1024;
  channel->refcount = 1;
  channel->private_data = (gpointer)opening;
  channel->manager = &overlay_io;
  *ret_channel = channel;
  return 0;
}

static errcode_t
io_close (io_channel channel)
{
  if (--channel->refcount > 0)
    return 0;
  (void)ext2fs_free_mem (&channel->name);
  (void)ext2fs_free_mem (&channel);
  return 0;
}

static errcode_t
io_set_blksize (io_channel channel, int size)
{
  channel->block_size = size;
  return 0;
}

/* A negative count is of bytes. */
static errcode_t
io_read64 (io_channel channel, unsigned long long block, int count, void *buffer)
{
  gsize length = count < 0 ? (gsize)-count : (gsize)count * (gsize)channel->block_size;
  return banger_overlay_read (channel->private_data, buffer, length, block * (guint64)channel->block_size)
             ? 0
             : EXT2_ET_SHORT_READ;
}

static errcode_t
io_read (io_channel channel, unsigned long block, int count, void *buffer)
{
  return io_read64 (channel, block, count, buffer);
}

static errcode_t
io_write (io_channel channel, unsigned long block, int count, const void *buffer)
{
  return EXT2_ET_RO_FILSYS;
}

static errcode_t
io_flush (io_channel channel)
{
  return 0;
}

static struct struct_io_manager overlay_io = {
  .magic = EXT2_ET_MAGIC_IO_MANAGER,
  .name = "overlay",
  .open = io_open,
  .close = io_close,
  .set_blksize = io_set_blksize,
  .read_blk = io_read,
  .write_blk = io_write,
  .flush = io_flush,
  .read_blk64 = io_read64,
};

errcode_t
banger_overlay_fs_open (const BangerOverlay *overlay, ext2_filsys *ret_fs)
{
  opening = overlay;
  errcode_t code = ext2fs_open2 ("overlay", NULL, EXT2_FLAG_64BITS, 0, 0, &overlay_io, ret_fs);
  opening = NULL;
  return code;
}

/* Stamps of files, programs and the processor.
 * Never follows a link to a file, and never believes one that is not ours. */
#include "manager/disk/stamp.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/safe-path.h"

#define SMALL (16 << 20)
#define CHUNK (64 << 10)

static char *
digest (int fd, const char *name, GError **error)
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
  g_autofree guchar *chunk = g_malloc (CHUNK);
  off_t at = 0;
  for (ssize_t n; (n = banger_read_at (fd, chunk, CHUNK, at)) != 0; at += n) {
    if (n < 0) {
      banger_set_error_errno (error, BANGER_ERROR_STATE_CORRUPT, errno, "cannot read %s", name);
      return NULL;
    }
    g_checksum_update (sum, chunk, n);
  }
  return g_strdup (g_checksum_get_string (sum));
}

static gboolean
add_file (GString *line, int dir_fd, const char *name, gboolean sync, GError **error)
{
  struct stat st;
  g_autoptr (GError) why = NULL;
  banger_autofd int fd = openat (dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) {
    g_string_append_printf (line, "%s%s -", line->len > 0 ? "; " : "", name);
    return TRUE;
  }
  if (fd < 0)
    return banger_set_error_errno (error, BANGER_ERROR_STATE_CORRUPT, errno, "%s", name);
  if (!banger_safe_check_regular (fd, geteuid (), 0, name, &st, &why))
    return banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "%s", why->message);
  if (sync && (fsync (fd) < 0 || fstat (fd, &st) < 0))
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot write %s to the disk", name);
  g_autofree char *sum = st.st_size <= SMALL ? digest (fd, name, error) : g_strdup ("-");
  if (sum)
    g_string_append_printf (line, "%s%s %jd %jd.%09ld %s", line->len > 0 ? "; " : "", name, (intmax_t)st.st_size,
                            (intmax_t)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, sum);
  return sum != NULL;
}

char *
banger_stamp_files (int dir_fd, const char *const *names, gboolean sync, GError **error)
{
  g_autoptr (GString) line = g_string_new (NULL);
  for (; *names; names++)
    if (!add_file (line, dir_fd, *names, sync, error))
      return NULL;
  return g_string_free (g_steal_pointer (&line), FALSE);
}

char *
banger_stamp_programs (const char *const *paths)
{
  g_autoptr (GString) line = g_string_new (NULL);
  for (; *paths; paths++) {
    struct stat st = { 0 };
    gboolean there = stat (*paths, &st) == 0;
    g_string_append_printf (line, "%s%s %jd %jd.%09ld", line->len > 0 ? "; " : "", *paths,
                            there ? (intmax_t)st.st_size : -1, (intmax_t)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
  }
  return g_string_free (g_steal_pointer (&line), FALSE);
}

char *
banger_stamp_processor (void)
{
  g_autofree char *text = NULL;
  if (!g_file_get_contents ("/proc/cpuinfo", &text, NULL, NULL))
    return g_strdup ("?");
  const char *at = strstr (text, "model name");
  const char *colon = at ? strchr (at, ':') : NULL;
  if (!colon)
    return g_strdup ("?");
  g_autofree char *line = g_strndup (colon + 1, strcspn (colon + 1, "\n"));
  return g_strdup (g_strstrip (line));
}

/* Written beside it, then renamed over it.
 * Called by what writes a FILE that was named. */
#include "cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <glib/gstdio.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"

void
banger_output_clear (BangerOutput *output)
{
  if (output->temporary)
    g_unlink (output->temporary);
  if (output->path)
    banger_clear_fd (&output->fd);
  g_free (output->path);
  g_free (output->temporary);
}

static gboolean
failed (const char *path, GError **error)
{
  int reason = errno;
  g_autofree char *shown = banger_log_escape (path, PATH_MAX);
  return banger_set_error_errno (error, BANGER_ERROR_FAILED, reason, _ ("cannot write '%s'"), shown);
}

gboolean
banger_output_open (BangerOutput *output, const char *path, GError **error)
{
  struct stat st;
  output->path = g_strdup (path);
  if (stat (path, &st) == 0 && !S_ISREG (st.st_mode)) {
    output->fd = open (path, O_WRONLY | O_CLOEXEC);
    return output->fd >= 0 || failed (path, error);
  }
  g_autofree char *temporary = g_strconcat (path, ".XXXXXX", NULL);
  output->fd = g_mkstemp_full (temporary, O_WRONLY | O_CLOEXEC, 0666);
  if (output->fd < 0)
    return failed (path, error);
  output->temporary = g_steal_pointer (&temporary);
  return TRUE;
}

gboolean
banger_output_finish (BangerOutput *output, GError **error)
{
  if (!output->temporary)
    return TRUE;
  if (fsync (output->fd) < 0 || g_rename (output->temporary, output->path) < 0)
    return failed (output->path, error);
  g_clear_pointer (&output->temporary, g_free);
  return TRUE;
}

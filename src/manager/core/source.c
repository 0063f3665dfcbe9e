/* What images and kernels are made from: a row for each way to name it.
 * Never waits on the main loop: a file may be on a mount that hangs. */
#include "manager/core/source.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"
#include "manager/core/work.h"

gpointer
banger_source_new (const BangerSources *sources)
{
  BangerSource *source = g_malloc0 (sources->size);
  source->sources = sources;
  source->fd = -1;
  return source;
}

void
banger_source_free (BangerSource *source)
{
  if (source->sources->clear)
    source->sources->clear (source);
  banger_clear_fd (&source->fd);
  g_free (source->name);
  g_free (source);
}

void
banger_source_choose (BangerSource *source, const char *word, const char *name)
{
  char *own = g_strdup (name); /* it may be a part of the one of before */
  source->row = source->sources->rows;
  while (!g_str_equal (source->row->word, word))
    source->row++;
  g_free (source->name);
  source->name = own;
}

void
banger_source_choose_text (BangerSource *source, const char *text)
{
  for (const BangerSourceRow *row = source->sources->rows; row->word; row++) {
    gsize length = strlen (row->word);
    if (row->named && g_str_has_prefix (text, row->word) && text[length] == ':') {
      banger_source_choose (source, row->word, text + length + 1);
      return;
    }
  }
  banger_source_choose (source, BANGER_SOURCE_FILE, text);
}

static gboolean
check (gpointer data, GCancellable *cancellable, GError **error)
{
  BangerSource *source = data;
  return source->row->check (source, error);
}

void
banger_source_check_async (BangerSource *source, GAsyncReadyCallback callback, gpointer user_data)
{
  static const BangerWork checking = { "check-source", check, NULL, NULL };
  banger_work_async (&checking, source, NULL, callback, user_data);
}

gboolean
banger_source_check_finish (GAsyncResult *result, GError **error)
{
  return banger_work_finish (result, error);
}

gboolean
banger_source_open (BangerSource *source, GError **error)
{
  struct stat st;
  g_autofree char *shown = banger_log_escape (source->name, PATH_MAX);
  if (!g_path_is_absolute (source->name))
    return banger_set_error (error, BANGER_ERROR_INVALID_PATH, "path \"%s\" is not absolute", shown);
  /* Not blocking: a FIFO without a writer is waited for where cancelling works. */
  banger_autofd int fd = open (source->name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0 || fstat (fd, &st) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, errno, "cannot open %s", shown);
  if (!S_ISREG (st.st_mode) && !S_ISFIFO (st.st_mode))
    return banger_set_error (error, BANGER_ERROR_INVALID_PATH, "%s is neither a file nor a pipe", shown);
  source->fd = banger_steal_fd (&fd);
  return TRUE;
}

char *
banger_source_say_name (const BangerSource *source)
{
  return g_strdup (source->name);
}

char *
banger_source_say_word (const BangerSource *source)
{
  return g_strdup (source->row->word);
}

char *
banger_source_say_both (const BangerSource *source)
{
  return g_strconcat (source->row->word, ":", source->name, NULL);
}

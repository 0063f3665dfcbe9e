/* The guest's console on its way from QEMU to the VMM's standard output, which never grows without end.
 * Never stands between QEMU and a standard output that is no regular file. */
#include "engine/console.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/fd.h"
#include "engine/body.h"

struct BangerConsole {
  int fd; /* of the pipe */
  guint source;
  GString *recent; /* the last that went through, and a little more */
};

static const char note[] = "[banger: what was here before is cut away, the log had become too long]\n";

/* A full disk never stops the VMM. */
static void
put (const char *data, gsize length)
{
  (void)banger_write_all (STDOUT_FILENO, data, length);
}

static void
cut (BangerConsole *console)
{
  struct stat st;
  if (fstat (STDOUT_FILENO, &st) < 0 || st.st_size <= BANGER_CONSOLE_MAX || ftruncate (STDOUT_FILENO, 0) < 0)
    return;
  lseek (STDOUT_FILENO, 0, SEEK_SET); /* where it is not opened with O_APPEND */
  const char *end = console->recent->str + console->recent->len;
  const char *from = end - MIN (console->recent->len, BANGER_CONSOLE_KEEP);
  const char *line = memchr (from, '\n', (gsize)(end - from));
  from = line ? line + 1 : from;
  put (note, strlen (note));
  put (from, (gsize)(end - from));
}

static void
take (BangerConsole *console, const char *data, gsize length)
{
  put (data, length);
  g_string_append_len (console->recent, data, (gssize)length);
  /* QEMU writes byte by byte: not each of them moves the rest. */
  if (console->recent->len > 2 * BANGER_CONSOLE_KEEP)
    g_string_erase (console->recent, 0, (gssize)(console->recent->len - BANGER_CONSOLE_KEEP));
  cut (console);
}

/* Returns: FALSE when there is nothing to read now, or ever. */
static gboolean
pump (BangerConsole *console)
{
  char buffer[65536];
  ssize_t n = read (console->fd, buffer, sizeof buffer);
  if (n > 0)
    take (console, buffer, (gsize)n);
  return n > 0 || (n < 0 && errno == EINTR);
}

static gboolean
handle_output (int fd, GIOCondition condition, gpointer data)
{
  BangerConsole *console = data;
  if (pump (console) || (condition & G_IO_IN) != 0)
    return G_SOURCE_CONTINUE;
  console->source = 0;
  return G_SOURCE_REMOVE;
}

BangerConsole *
banger_console_new (int *ret_fd, GError **error)
{
  struct stat st;
  int ends[2];
  *ret_fd = STDOUT_FILENO;
  if (fstat (STDOUT_FILENO, &st) < 0 || !S_ISREG (st.st_mode))
    return NULL;
  if (!g_unix_open_pipe (ends, FD_CLOEXEC, error))
    return NULL;
  BangerConsole *console = g_new0 (BangerConsole, 1);
  console->fd = ends[0];
  console->recent = g_string_sized_new (2 * BANGER_CONSOLE_KEEP);
  g_unix_set_fd_nonblocking (console->fd, TRUE, NULL);
  console->source = g_unix_fd_add (console->fd, G_IO_IN | G_IO_HUP, handle_output, console);
  *ret_fd = ends[1];
  return console;
}

void
banger_console_free (BangerConsole *console)
{
  while (pump (console))
    ;
  if (console->source != 0)
    g_source_remove (console->source);
  banger_clear_fd (&console->fd);
  g_string_free (console->recent, TRUE);
  g_free (console);
}

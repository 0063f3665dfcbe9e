/* The VMM's own log lines, as PUT /logger directs them.
 * Never writes a guest's or client's control characters. */
#include "engine/engine-log.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/fd.h"

#define LINE_MAX_BYTES 2048

static const char *const level_names[] = { "OFF", "ERROR", "WARN", "INFO", "DEBUG", "TRACE" };

static struct {
  char *id;
  int fd;
  BangerVmmLogLevel level;
  gboolean show_level;
} target = { .fd = STDOUT_FILENO, .level = BANGER_VMM_LOG_INFO };

void
banger_vmm_log_init (const char *id)
{
  g_free (target.id);
  target.id = g_strdup (id);
}

static gboolean
parse_level (const char *word, BangerVmmLogLevel *ret)
{
  static const struct {
    const char *word;
    BangerVmmLogLevel level;
  } rows[] = {
    { "Off", BANGER_VMM_LOG_OFF },      { "Error", BANGER_VMM_LOG_ERROR }, { "Warning", BANGER_VMM_LOG_WARNING },
    { "Warn", BANGER_VMM_LOG_WARNING }, { "Info", BANGER_VMM_LOG_INFO },   { "Debug", BANGER_VMM_LOG_DEBUG },
    { "Trace", BANGER_VMM_LOG_TRACE },
  };
  for (size_t i = 0; i < G_N_ELEMENTS (rows); i++)
    if (g_ascii_strcasecmp (word, rows[i].word) == 0) {
      *ret = rows[i].level;
      return TRUE;
    }
  return FALSE;
}

gboolean
banger_vmm_log_configure (const BangerLoggerConfig *logger, GError **error)
{
  BangerVmmLogLevel level = BANGER_VMM_LOG_INFO;
  if (logger->level && !parse_level (logger->level, &level)) {
    g_set_error (
        error, BANGER_VMM_ERROR, BANGER_VMM_ERROR_REQUEST,
        "An error occurred when deserializing the json body of a request: unknown variant `%s`, expected one of "
        "`Error`, `Warning`, `Info`, `Debug`, `Trace`, `Off`.",
        logger->level);
    return FALSE;
  }
  if (logger->log_path) {
    int fd = open (logger->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);
    if (fd < 0) {
      g_set_error (error, BANGER_VMM_ERROR, BANGER_VMM_ERROR_HOST, "Logger error: Failed to open target file: %s: %s",
                   logger->log_path, g_strerror (errno));
      return FALSE;
    }
    if (target.fd > STDERR_FILENO)
      banger_clear_fd (&target.fd);
    target.fd = fd;
  }
  target.level = level;
  if (logger->show_level >= 0)
    target.show_level = logger->show_level;
  return TRUE;
}

void
banger_vmm_log (BangerVmmLogLevel level, const char *format, ...)
{
  if (level > target.level)
    return;
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  g_autofree char *printable = g_strescape (text, "\"\\");
  g_autoptr (GDateTime) now = g_date_time_new_now_utc ();
  g_autofree char *stamp = g_date_time_format (now, "%Y-%m-%dT%H:%M:%S");
  g_autofree char *line = g_strdup_printf ("%s.%09d [%s:main%s%s] %.*s\n", stamp,
                                           g_date_time_get_microsecond (now) * 1000,
                                           target.id ? target.id : "anonymous-instance", target.show_level ? ":" : "",
                                           target.show_level ? level_names[level] : "", LINE_MAX_BYTES, printable);
  /* A full or broken log never stops the VMM. */
  ssize_t n = write (target.fd, line, strlen (line));
  (void)n;
}

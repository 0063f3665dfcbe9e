/* Kernel log, console and watchdog of report.h.
 * Never blocks for long: the serial line is drained at most once, before the restart. */
#include "guest/report.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 512

static const char *const *watched_step;

long long
guest_now_ms (void)
{
  struct timespec now = { 0 };
  clock_gettime (CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static int
write_to (const char *path, const char *text, size_t length)
{
  int fd = open (path, O_WRONLY | O_NOCTTY | O_CLOEXEC);
  if (fd < 0)
    return -1;
  ssize_t written = write (fd, text, length);
  close (fd);
  return written == (ssize_t)length ? 0 : -1;
}

static void
say (int on_console, const char *format, va_list arguments)
{
  char message[LINE_MAX_BYTES], line[LINE_MAX_BYTES + 64];
  vsnprintf (message, sizeof message, format, arguments);
  int length = snprintf (line, sizeof line, "<6>banger-guest: %s\n", message);
  write_to ("/dev/kmsg", line, (size_t)length);
  if (!on_console)
    return;
  length = snprintf (line, sizeof line, "banger-guest: %s\r\n", message);
  if (write_to ("/dev/console", line, (size_t)length) < 0 && write (STDERR_FILENO, line, (size_t)length) < 0)
    return;
}

void
guest_note (const char *format, ...)
{
  char text[LINE_MAX_BYTES];
  va_list arguments;
  va_start (arguments, format);
  vsnprintf (text, sizeof text, format, arguments);
  va_end (arguments);

  char line[LINE_MAX_BYTES + 64];
  int length = snprintf (line, sizeof line, "<6>banger-guest: %lld ms: %s\n", guest_now_ms (), text);
  write_to ("/dev/kmsg", line, (size_t)length);
}

void
guest_warn (const char *format, ...)
{
  va_list arguments;
  va_start (arguments, format);
  say (1, format, arguments);
  va_end (arguments);
}

static void
restart (void)
{
  int console = open ("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC);
  if (console >= 0)
    tcdrain (console);
  sync ();
  reboot (RB_AUTOBOOT);
}

void
guest_die (const char *format, ...)
{
  va_list arguments;
  va_start (arguments, format);
  say (1, format, arguments);
  va_end (arguments);

  guest_warn ("the guest cannot start; restarting to end this VM");
  restart ();
  /* As the first process this panics the kernel, which restarts as well (panic=-1). */
  _exit (1);
}

static void
on_alarm (int number)
{
  static const char head[] = "banger-guest: starting took too long while ", tail[] = "; restarting to end this VM\r\n";
  int console = open ("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC);
  if (console >= 0) {
    ssize_t ignored = write (console, head, sizeof head - 1);
    ignored += write (console, *watched_step, strlen (*watched_step));
    ignored += write (console, tail, sizeof tail - 1);
    (void)ignored;
    tcdrain (console);
  }
  reboot (RB_AUTOBOOT);
  _exit (1);
}

void
guest_start_watchdog (unsigned seconds, const char *const *what)
{
  watched_step = what;
  signal (SIGALRM, on_alarm);
  alarm (seconds);
}

void
guest_stop_watchdog (void)
{
  alarm (0);
  signal (SIGALRM, SIG_DFL);
}

/* Progress lines on stderr.
 * Never leaves half a line behind on a terminal. */
#include "cli/progress.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/terminal.h"

#define TICK_USEC (200 * 1000)
#define PLAIN_STEP 0.25 /* of a stage, between two plain lines */

struct BangerProgressView {
  BangerProgressStyle style;
  char *label;
  char *stage;
  double fraction;
  double printed; /* fraction of the last plain line */
  gint64 began;
  gboolean drawn;
};

BangerProgressStyle
banger_progress_style (gboolean quiet)
{
  const char *term = g_getenv ("TERM");
  if (quiet)
    return BANGER_PROGRESS_QUIET;
  if (!isatty (STDERR_FILENO) || !term || strcmp (term, "dumb") == 0)
    return BANGER_PROGRESS_PLAIN;
  return BANGER_PROGRESS_LIVE;
}

BangerProgressView *
banger_progress_view_new (BangerProgressStyle style, const char *label)
{
  BangerProgressView *view = g_new0 (BangerProgressView, 1);
  view->style = style;
  view->label = g_strdup (label);
  view->fraction = view->printed = -1;
  view->began = g_get_monotonic_time ();
  return view;
}

static void
erase (BangerProgressView *view)
{
  if (view->drawn)
    fputs ("\r\033[K", stderr);
  view->drawn = FALSE;
  fflush (stderr);
}

void
banger_progress_view_free (BangerProgressView *view)
{
  if (!view)
    return;
  erase (view);
  g_free (view->label);
  g_free (view->stage);
  g_free (view);
}

char *
banger_progress_format (const char *label, const char *stage, double fraction, gint64 elapsed, guint width)
{
  g_autoptr (GString) tail = g_string_new (NULL);
  if (fraction >= 0)
    g_string_append_printf (tail, " %3d%%", (int)floor (CLAMP (fraction, 0, 1) * 100));
  if (elapsed >= 0)
    g_string_append_printf (tail, " %.1f s", (double)elapsed / G_USEC_PER_SEC);

  g_autofree char *head = g_strdup_printf ("%s: %s", label, stage);
  glong room = (glong)width - (glong)tail->len;
  if (g_utf8_strlen (head, -1) > room) {
    g_autofree char *cut = g_utf8_substring (head, 0, MAX (room - 3, 0));
    return g_strconcat (cut, "...", tail->str, NULL);
  }
  return g_strconcat (head, tail->str, NULL);
}

static guint
terminal_width (void)
{
  struct winsize size;
  if (ioctl (STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 20)
    return size.ws_col - 1U;
  return 79;
}

static void
draw (BangerProgressView *view)
{
  gint64 elapsed = g_get_monotonic_time () - view->began;
  g_autofree char *stage = banger_terminal_line (STDERR_FILENO, view->stage);
  g_autofree char *line = banger_progress_format (view->label, stage, view->fraction, elapsed, terminal_width ());
  fprintf (stderr, "\r\033[K%s", line);
  fflush (stderr);
  view->drawn = TRUE;
}

static void
print_plain (BangerProgressView *view)
{
  g_autofree char *stage = banger_terminal_line (STDERR_FILENO, view->stage);
  g_autofree char *line = banger_progress_format (view->label, stage, view->fraction, -1, G_MAXINT);
  fprintf (stderr, "%s\n", line);
  view->printed = view->fraction;
}

/* 100% is not: the next line, or the last one, says as much. A job's end makes any stage complete. */
static gboolean
worth_a_line (const BangerProgressView *view)
{
  return view->fraction < 1 && view->fraction >= MAX (view->printed, 0) + PLAIN_STEP;
}

void
banger_progress_view_set (BangerProgressView *view, const char *stage, double fraction)
{
  gboolean changed = g_strcmp0 (stage, view->stage) != 0;
  if (changed) {
    g_free (view->stage);
    view->stage = g_strdup (stage);
    view->printed = -1;
  }
  view->fraction = fraction;
  if (!stage || stage[0] == '\0')
    return;
  if (view->style == BANGER_PROGRESS_LIVE)
    draw (view);
  else if (view->style == BANGER_PROGRESS_PLAIN && (changed || worth_a_line (view)))
    print_plain (view);
}

gint64
banger_progress_view_tick (BangerProgressView *view)
{
  if (view->style != BANGER_PROGRESS_LIVE || !view->stage || view->stage[0] == '\0')
    return -1;
  draw (view);
  return TICK_USEC;
}

void
banger_progress_view_done (BangerProgressView *view, const char *text)
{
  erase (view);
  if (!text || view->style == BANGER_PROGRESS_QUIET)
    return;
  fprintf (stderr, "%s (%.1f s)\n", text, (double)(g_get_monotonic_time () - view->began) / G_USEC_PER_SEC);
}

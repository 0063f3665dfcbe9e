/* What a person sees of a long operation: a live line on a terminal, plain lines in a pipe, nothing with --quiet.
 * Never writes to stdout, which belongs to results. */
#pragma once

#include <glib.h>

typedef enum {
  BANGER_PROGRESS_QUIET,
  BANGER_PROGRESS_PLAIN,
  BANGER_PROGRESS_LIVE,
} BangerProgressStyle;

typedef struct BangerProgressView BangerProgressView;

/** banger_progress_style: of stderr: live on a terminal that can erase a line. */
BangerProgressStyle banger_progress_style (gboolean quiet);

/** banger_progress_view_new: @label: what the operation is about, "web". */
BangerProgressView *banger_progress_view_new (BangerProgressStyle style, const char *label);
void banger_progress_view_free (BangerProgressView *view); /* erases a live line */
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerProgressView, banger_progress_view_free)

/** banger_progress_view_set: @stage: "copying root disk"; @fraction: 0..1, negative: unknown. */
void banger_progress_view_set (BangerProgressView *view, const char *stage, double fraction);
/** banger_progress_view_tick: draws the elapsed time anew. Returns: µs until it wants to be called again, -1: never. */
gint64 banger_progress_view_tick (BangerProgressView *view);
/** banger_progress_view_done: the last line, "web is ready (1.2 s)"; @text may be %NULL for none. */
void banger_progress_view_done (BangerProgressView *view, const char *text);

/** banger_progress_format: Returns: (transfer full): one line of at most @width columns. @elapsed: µs, negative: none.
 */
char *banger_progress_format (const char *label, const char *stage, double fraction, gint64 elapsed, guint width);

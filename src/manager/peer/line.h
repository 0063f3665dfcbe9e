/* A line of a guest's agent, on a connection whose next bytes are somebody else's.
 * Never reads behind its end. */
#pragma once

#include <glib.h>

#define BANGER_LINE_BYTES 256

/** banger_line_read: @line: BANGER_LINE_BYTES, of which @used are there. Returns: (transfer none): the line without its
 * end; %NULL: not yet, or @ret_failed (errno 0: the other end closed it, or it is too long). */
const char *banger_line_read (int fd, char *line, gsize *used, gboolean *ret_failed);

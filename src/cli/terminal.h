/* What a terminal shows of words that others wrote: guests, their consoles, programs of theirs.
 * Called by main.c and whoever writes to stdout or stderr by other ways than g_print().
 * Never changes what goes into a file or a pipe, nor what a session's guest writes. */
#pragma once

#include <glib.h>

/** banger_terminal_guard: from here on g_print() and g_printerr() write control characters as \xNN where a terminal
 * reads them. */
void banger_terminal_guard (void);

/**
 * banger_terminal_escape:
 * @length: of @text, in bytes; NUL is one of them
 * @ret_used: (nullable): how much of @text was taken; a character or end of line that is not whole yet is left. %NULL: all.
 *
 * @text with what is not printable as \xNN, but for tabs and ends of lines.
 * Returns: (transfer full): valid UTF-8.
 */
char *banger_terminal_escape (const char *text, gsize length, gsize *ret_used);

/** banger_terminal_json: @json, which is valid, with the same characters as \uNNNN: it means what it meant. */
char *banger_terminal_json (const char *json);

/** banger_terminal_line: @text for one line of @fd: as it is, or without anything that moves a terminal's cursor. */
char *banger_terminal_line (int fd, const char *text);

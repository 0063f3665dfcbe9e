/* `guest head BYTES`: for a script that reads its input in parts.
 * Never reads a byte more than it passes on, as head(1) of busybox does. */
#pragma once

/** guest_head_main: Returns: exit status: 1 where the input ended before, or the output took nothing. */
int guest_head_main (char **arguments);
/** guest_head_pass: @bytes: how many, decimal, of stdin to @to. Returns: likewise. */
int guest_head_pass (const char *bytes, int to);

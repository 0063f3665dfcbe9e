/* A file that takes the place of another when it is whole.
 * Never leaves half of one, nor touches what is there before that. */
#pragma once

#include <glib.h>

typedef struct {
  char *path, *temporary;
  int fd; /* closed with it if there is a path */
} BangerOutput;

/** banger_output_open: @path: a device or a pipe is written as it is. */
gboolean banger_output_open (BangerOutput *output, const char *path, GError **error);
/** banger_output_finish: it is on the disk, under its name. */
gboolean banger_output_finish (BangerOutput *output, GError **error);
/** banger_output_clear: what was not finished is gone. */
void banger_output_clear (BangerOutput *output);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (BangerOutput, banger_output_clear)

/* Builds or imports an image into a directory, with progress on stderr: for looking at results and times without the
 * services. Called by people and by tests/unit/image. Never installed. */
#include "manager/image-build.h"

#include "common/fd.h"
#include "common/size.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static void
show_progress (double fraction, gpointer data)
{
  gint64 *start = data;
  fprintf (stderr, "%6.2f s %5.1f %%\n", (double)(g_get_monotonic_time () - *start) / 1e6, fraction * 100);
}

static void
show_stage (const char *stage, gpointer data)
{
  gint64 *start = data;
  fprintf (stderr, "%6.2f s %s\n", (double)(g_get_monotonic_time () - *start) / 1e6, stage);
}

int
main (int argc, char **argv)
{
  gint64 start = g_get_monotonic_time ();
  if (argc < 3) {
    fprintf (stderr, "usage: image-make DIR build [PACKAGE...] | DIR import FILE|- [SIZE]\n");
    return 2;
  }
  g_autoptr (GError) error = NULL;
  g_auto (BangerImageInfo) info = { 0 };
  banger_autofd int dir = open (argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  BangerImageBuildOptions options = { .stage = show_stage, .stage_data = &start };
  gboolean build = strcmp (argv[2], "build") == 0;
  if (build)
    options.packages = (const char *const *)argv + 3;
  else if (argc == 5 && !banger_size_parse (argv[4], &options.size_bytes, &error))
    return 2;
  const char *path = build || strcmp (argv[3], "-") == 0 ? NULL : argv[3];
  if (!(build ? banger_image_build (dir, &options, show_progress, &start, NULL, &info, &error)
              : banger_image_import (path, 0, dir, &options, show_progress, &start, NULL, &info, &error)))
  {
    fprintf (stderr, "%s\n", error->message);
    return 1;
  }
  printf ("size %" G_GUINT64_FORMAT ", used %" G_GUINT64_FORMAT ", seed %" G_GUINT64_FORMAT ", %s, %.2f s\n",
          info.size_bytes, info.used_bytes, info.seed_bytes, info.digest,
          (double)(g_get_monotonic_time () - start) / 1e6);
  return 0;
}

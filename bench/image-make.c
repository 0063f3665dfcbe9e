/* Builds or imports an image into a directory, with progress on stderr: for looking at results and times without the
 * services. Called by people and by tests/unit/manager/image. Never installed. */
#include "manager/fetch/registry.h"
#include "manager/image/commit.h"
#include "manager/image/containerfile.h"
#include "manager/image/pull.h"

#include "common/error.h"
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

static int
print (const BangerImageInfo *info, gint64 start)
{
  printf ("size %" G_GUINT64_FORMAT ", used %" G_GUINT64_FORMAT ", seed %" G_GUINT64_FORMAT ", %s, %.2f s\n",
          info->size_bytes, info->used_bytes, info->seed_bytes, info->digest,
          (double)(g_get_monotonic_time () - start) / 1e6);
  for (guint kind = 0; kind < BANGER_N_INTAKE_SETTINGS; kind++)
    for (char **text = info->settings[kind]; text && *text; text++)
      printf ("setting %u %s\n", kind, *text);
  for (char **text = info->warnings; text && *text; text++)
    printf ("warning %s\n", *text);
  return 0;
}

static void
show_pulled (guint64 bytes, guint64 rate, gpointer data)
{
  gint64 *start = data;
  fprintf (stderr, "%6.2f s pulled %" G_GUINT64_FORMAT " rate %" G_GUINT64_FORMAT "\n",
           (double)(g_get_monotonic_time () - *start) / 1e6, bytes, rate);
}

static int
pull (const char *transport, const char *reference, int dir, const BangerImageBuildOptions *options, gint64 *start)
{
  g_autoptr (GError) error = NULL;
  g_auto (BangerImageInfo) info = { 0 };
  gboolean registry = strcmp (transport, "docker") == 0;
  const BangerImagePull pull = { transport, reference, !registry, show_pulled };
  if ((registry ? banger_registry_check (reference, &error) : banger_storage_check (reference, &error))
      && banger_image_pull (&pull, dir, options, show_progress, start, NULL, &info, &error))
    return print (&info, *start);
  fprintf (stderr, "%s: %s\n", banger_error_dbus_name ((BangerError)error->code), error->message);
  return 1;
}

/* @paths: root disk, what is over it, work disk; "-": there is none. */
static int
commit (char **paths, int dir, const BangerImageBuildOptions *options, gint64 *start)
{
  g_autoptr (GError) error = NULL;
  g_auto (BangerImageInfo) info = { 0 };
  int fds[3];
  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    fds[i] = strcmp (paths[i], "-") == 0 ? -1 : open (paths[i], O_RDONLY | O_CLOEXEC);
  const BangerImageDisks disks = { fds[0], fds[1], fds[2] };
  gboolean done = banger_image_commit (&disks, dir, options, show_progress, start, NULL, &info, &error);
  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    banger_clear_fd (&fds[i]);
  if (done)
    return print (&info, *start);
  fprintf (stderr, "%s: %s\n", banger_error_dbus_name ((BangerError)error->code), error->message);
  return 1;
}

static int
containerfile (char **paths, int dir, const BangerImageBuildOptions *options, gint64 *start)
{
  g_autoptr (GError) error = NULL;
  g_auto (BangerImageInfo) info = { 0 };
  g_autoptr (BangerJobProgress) progress = banger_job_progress_new (NULL);
  const BangerContainerfile recipe = { paths[0], paths[1], progress };
  if (banger_containerfile_check (paths[0], paths[1], &error)
      && banger_containerfile_build (&recipe, dir, options, NULL, &info, &error))
    return print (&info, *start);
  fprintf (stderr, "%s: %s\n", banger_error_dbus_name ((BangerError)error->code), error->message);
  return 1;
}

int
main (int argc, char **argv)
{
  gint64 start = g_get_monotonic_time ();
  if (argc < 3) {
    fprintf (
        stderr,
        "usage: image-make DIR build [PACKAGE...] | DIR pull //REFERENCE [TRANSPORT] | DIR import FILE|FOLDER|- [SIZE [REFERENCE]] | DIR commit ROOT OVER|- WORK|- | DIR containerfile FILE CONTEXT\n");
    return 2;
  }
  g_autoptr (GError) error = NULL;
  g_auto (BangerImageInfo) info = { 0 };
  banger_autofd int dir = open (argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  BangerImageBuildOptions options = { .stage = show_stage, .stage_data = &start };
  gboolean build = strcmp (argv[2], "build") == 0;
  if (build)
    options.packages = (const char *const *)argv + 3;
  else if (strcmp (argv[2], "import") == 0 && argc >= 5 && *argv[4] != '\0'
           && !banger_size_parse (argv[4], &options.size_bytes, &error))
    return 2;
  if (strcmp (argv[2], "pull") == 0)
    return pull (argc > 4 ? argv[4] : "docker", argv[3], dir, &options, &start);
  if (strcmp (argv[2], "containerfile") == 0 && argc == 5)
    return containerfile (argv + 3, dir, &options, &start);
  if (strcmp (argv[2], "commit") == 0 && argc == 6)
    return commit (argv + 3, dir, &options, &start);
  options.reference = !build && argc > 5 ? argv[5] : NULL;
  banger_autofd int file = build || strcmp (argv[3], "-") == 0 ? -1 : open (argv[3], O_RDONLY | O_CLOEXEC);
  if (!(build ? banger_image_build (dir, &options, show_progress, &start, NULL, &info, &error)
              : banger_image_import (file < 0 ? 0 : file, dir, &options, show_progress, &start, NULL, &info, &error)))
  {
    fprintf (stderr, "%s\n", error->message);
    return 1;
  }
  return print (&info, start);
}

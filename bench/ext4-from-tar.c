/* A tar on stdin into an ext4 file: time of the writer alone, and a tool for looking at its results.
 * Called by bench/images and by people.
 * Never installed. */
#include "intake/ext4-tar.h"

#include "common/fd.h"
#include "common/size.h"

#include <fcntl.h>
#include <stdio.h>

int
main (int argc, char **argv)
{
  if (argc < 2 || argc > 3) {
    fprintf (stderr, "usage: ext4-from-tar FILE [SIZE] < TAR\n");
    return 2;
  }
  g_autoptr (GError) error = NULL;
  BangerExt4Options options = { .time = 1700000000,
                                .uuid = "6f1d3c6e-0d0a-4f6b-9d55-0a5a3c1f2b10",
                                .hash_seed = "0b6f7d1c-52a1-4b5e-8a53-4e1d7c9e8f20" };
  BangerExt4Info info;
  banger_autofd int fd = open (argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if ((argc == 3 && !banger_size_parse (argv[2], &options.size_bytes, &error))
      || !banger_ext4_from_tar (0, fd, &options, NULL, NULL, NULL, &info, &error))
  {
    fprintf (stderr, "%s\n", error->message);
    return 1;
  }
  printf ("%" G_GUINT64_FORMAT " entries, size %" G_GUINT64_FORMAT ", used %" G_GUINT64_FORMAT ", %s\n", info.entries,
          info.size_bytes, info.used_bytes, info.digest);
  return 0;
}

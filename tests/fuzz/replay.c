/* Runs a fuzz target over a folder of inputs, over their beginnings and over copies with a byte changed: always the
 * same ones.
 * Linked with each target where libFuzzer is not used; run by meson test.
 * Never makes an input that it could not make again. */
#include <glib.h>
#include <stdio.h>
#include <string.h>

#include "fuzz.h"

#define ROUNDS 300 /* of each input */

static guint32
next (guint32 *state)
{
  *state ^= *state << 13;
  *state ^= *state >> 17;
  *state ^= *state << 5;
  return *state;
}

/* A buffer of the exact size, so that a sanitizer sees a read behind its end. */
static void
feed (const char *data, size_t size)
{
  g_autofree guint8 *copy = g_memdup2 (data, MAX (size, 1));
  (void)LLVMFuzzerTestOneInput (copy, size);
}

static void
feed_all (const char *data, size_t size)
{
  guint32 state = 2463534242u;
  g_autofree char *changed = g_memdup2 (data, size + 1);
  feed (data, size);
  for (int i = 0; i < ROUNDS && size > 0; i++) {
    feed (data, next (&state) % size);
    size_t where = next (&state) % size;
    changed[where] = (char)next (&state);
    feed (changed, size);
    changed[where] = data[where];
  }
}

int
main (int argc, char **argv)
{
  unsigned count = 0;
  g_autoptr (GError) error = NULL;
  const char *name;
  g_autoptr (GDir) dir = g_dir_open (argc > 1 ? argv[1] : "", 0, &error);
  if (!dir) {
    fprintf (stderr, "a folder of inputs is needed: %s\n", error->message);
    return 2;
  }
  feed ("", 0);
  while ((name = g_dir_read_name (dir))) {
    g_autofree char *path = g_build_filename (argv[1], name, NULL), *data = NULL;
    size_t size;
    if (!g_file_get_contents (path, &data, &size, NULL))
      return 2;
    feed_all (data, size);
    printf ("ok %u - %s\n", ++count, name);
  }
  printf ("1..%u\n", count);
  return count > 0 ? 0 : 1;
}

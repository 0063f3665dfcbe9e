/* Loops of banger's: their numbers, and that nobody looks inside. Needs root and loop devices. */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "privileged/loop.h"

#define BYTES (4 << 20)

/* A file with a partition table that the kernel would read: one Linux partition of a megabyte. */
static int
partitioned_file (void)
{
  const guint8 table[512] = { [446 + 4] = 0x83, [446 + 9] = 0x08, [446 + 13] = 0x08, [510] = 0x55, [511] = 0xaa };
  int fd = memfd_create ("partitioned", MFD_CLOEXEC);
  g_assert_cmpint (ftruncate (fd, BYTES), ==, 0);
  g_assert_cmpint (pwrite (fd, table, sizeof table, 0), ==, sizeof table);
  return fd;
}

static char *
sysfs (guint number, const char *name)
{
  return g_strdup_printf ("/sys/block/loop%u/%s", number, name);
}

/* Numbers that the kernel never chooses; no partitions of what an owner calls a disk; gone when nobody has it. */
static void
test_attach (void)
{
  g_autoptr (GError) error = NULL;
  banger_autofd int file = partitioned_file ();
  dev_t device = 0;
  int loop = banger_loop_attach (file, FALSE, &device, &error);
  if (loop < 0) {
    g_test_skip ("needs root and loop devices");
    return;
  }
  g_autofree char *link = g_strdup_printf ("/sys/dev/block/%u:%u", major (device), minor (device));
  g_autofree char *target = g_file_read_link (link, NULL), *name = g_path_get_basename (target);
  guint64 number = 0;
  g_assert_true (
      g_ascii_string_to_unsigned (name + strlen ("loop"), 10, BANGER_LOOP_FIRST, BANGER_LOOP_LAST, &number, &error));
  g_autofree char *folder = sysfs ((guint)number, ""), *partscan = sysfs ((guint)number, "loop/partscan");
  g_autofree char *part = g_strdup_printf ("%s/%sp1", folder, name), *text = NULL;
  g_assert_true (g_file_get_contents (partscan, &text, NULL, &error));
  g_assert_cmpstr (text, ==, "0\n");
  g_assert_false (g_file_test (part, G_FILE_TEST_EXISTS));
  banger_loop_sweep ();
  g_assert_true (g_file_test (folder, G_FILE_TEST_EXISTS)); /* in use */
  close (loop);
  banger_loop_sweep ();
  g_assert_false (g_file_test (folder, G_FILE_TEST_EXISTS));
}

static void
test_probe (void)
{
  g_autoptr (GError) error = NULL;
  if (!banger_loop_add_probe (&error)) {
    g_test_skip ("needs root and loop devices");
    return;
  }
  g_assert_true (g_file_test ("/sys/block/" BANGER_LOOP_PROBE, G_FILE_TEST_EXISTS));
  g_assert_true (banger_loop_add_probe (&error)); /* of a helper that was ended */
  banger_loop_remove_probe ();
  g_assert_false (g_file_test ("/sys/block/" BANGER_LOOP_PROBE, G_FILE_TEST_EXISTS));
}

/* udev's rule names the numbers, the default folder and the devices that the code makes. */
static void
test_rule (void)
{
  g_autofree char *path = g_build_filename (g_getenv ("BANGER_SOURCE"), "udev", "05-banger.rules.in", NULL);
  g_autofree char *text = NULL, *first = g_strdup_printf ("loop%d", BANGER_LOOP_FIRST);
  g_autofree char *last = g_strdup_printf ("loop%d", BANGER_LOOP_LAST);
  g_autoptr (GError) error = NULL;
  g_assert_true (g_file_get_contents (path, &text, NULL, &error));
  const char *names[] = { first, last, BANGER_LOOP_PROBE };
  g_autoptr (GRegex) rule = g_regex_new ("KERNEL==\"(loop[^\"*]+)\"", 0, 0, &error);
  g_autoptr (GMatchInfo) match = NULL;
  g_assert_true (g_regex_match (rule, text, 0, &match));
  g_autofree char *pattern = g_match_info_fetch (match, 1), *anchored = g_strconcat ("^", pattern, "$", NULL);
  for (guint i = 0; i < G_N_ELEMENTS (names); i++)
    g_assert_true (g_regex_match_simple (anchored, names[i], 0, 0));
  g_assert_false (g_regex_match_simple (anchored, "loop0", 0, 0));
  g_assert_false (g_regex_match_simple (anchored, "loop61000", 0, 0));
  g_assert_false (g_regex_match_simple (anchored, "loop6000", 0, 0));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/loop/attach", test_attach);
  g_test_add_func ("/loop/probe", test_probe);
  g_test_add_func ("/loop/rule", test_rule);
  return g_test_run ();
}

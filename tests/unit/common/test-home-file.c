/* Files of a home folder: accept, refuse, boundary, and links that are swapped in; with openat2 and without.
 * Run by meson test.
 * Never leaves its temporary folder. */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/home-file.h"
#include "common/safe-path.h"

#define SWAPS 2000

static char *top, *home;
static int top_fd = -1;

static void
link_to (const char *target, const char *at)
{
  g_assert_cmpint (symlinkat (target, top_fd, at), ==, 0);
}

static void
write_to (const char *at, const char *text)
{
  g_autofree char *path = g_build_filename (top, at, NULL);
  g_assert_true (g_file_set_contents (path, text, -1, NULL));
}

static void
set_up (void)
{
  top = g_dir_make_tmp ("banger-home-XXXXXX", NULL);
  home = g_build_filename (top, "u", NULL);
  top_fd = open (top, O_PATH | O_DIRECTORY | O_CLOEXEC);
  for (const char *const *folder = (const char *const[]){ "u", "u/d", "u/d/e", "other", NULL }; *folder; folder++)
    g_assert_cmpint (mkdirat (top_fd, *folder, 0700), ==, 0);
  write_to ("u/d/f", "mine");
  write_to ("other/f", "theirs");
  g_assert_cmpint (mkfifoat (top_fd, "u/fifo", 0600), ==, 0);
  link_to ("d/f", "u/relative");
  link_to ("../../other/f", "u/d/out");
  link_to ("../other", "u/folder");
  link_to ("/etc/passwd", "u/absolute");
  link_to ("loop", "u/loop");
  g_autofree char *back = g_build_filename (home, "d/f", NULL), *up = g_build_filename (home, "../other/f", NULL);
  link_to (back, "u/back");
  link_to (up, "u/up");
}

static void
tear_down (void)
{
  g_autofree char *name = g_path_get_basename (top), *parent = g_path_get_dirname (top);
  banger_autofd int dir = open (parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
  g_assert_true (banger_safe_remove_tree (dir, name, NULL));
  close (top_fd);
  g_free (top);
  g_free (home);
}

static gboolean
links_are_followed (void)
{
  banger_autofd int fd = banger_home_open (home, "relative", NULL, NULL);
  return fd >= 0; /* without openat2 none is */
}

static void
test_opened (void)
{
  static const struct {
    const char *below, *real;
    gboolean link;
  } rows[] = { { "d/f", "d/f", FALSE }, { "d", "d", FALSE }, { "relative", "d/f", TRUE }, { "back", "d/f", TRUE } };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autofree char *real = NULL;
    g_autoptr (GError) error = NULL;
    if (rows[i].link && !links_are_followed ())
      continue;
    banger_autofd int fd = banger_home_open (home, rows[i].below, &real, &error);
    g_assert_no_error (error);
    g_assert_cmpint (fd, >=, 0);
    g_assert_cmpstr (real, ==, rows[i].real);
  }
}

static void
test_refused (void)
{
  static const char *const rows[] = { "d/out", "folder/f", "folder", "absolute", "loop", "up", "fifo" };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GError) error = NULL;
    banger_autofd int fd = banger_home_open (home, rows[i], NULL, &error);
    g_assert_cmpint (fd, <, 0);
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_PATH);
  }
  g_autoptr (GError) error = NULL;
  g_assert_cmpint (banger_home_open (home, "none", NULL, &error), <, 0);
  g_assert_cmpint (banger_home_open (home, "d/f/none", NULL, &error), <, 0);
  g_assert_no_error (error);
  g_assert_cmpint (banger_home_open ("/none", "d", NULL, &error), <, 0);
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_PATH);
}

static void
test_text (void)
{
  static const struct {
    const char *bytes;
    gsize length;
    gboolean good;
  } rows[] = { { "1234", 4, TRUE }, { "12345", 5, FALSE }, { "", 0, FALSE }, { "1\0002", 3, FALSE } };
  g_autofree char *path = g_build_filename (home, "d/text", NULL);
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GError) error = NULL;
    g_assert_true (g_file_set_contents (path, rows[i].bytes, (gssize)rows[i].length, NULL));
    g_autofree char *text = banger_home_read_text (home, "d/text", 4, &error);
    g_assert_cmpstr (text, ==, rows[i].good ? rows[i].bytes : NULL);
    g_assert_true (rows[i].good || g_error_matches (error, BANGER_ERROR, BANGER_ERROR_INVALID_PATH));
  }
  g_unlink (path);
  static const char *const others[] = { "d", "none", "fifo", "d/out" };
  for (guint i = 0; i < G_N_ELEMENTS (others); i++) {
    g_autoptr (GError) error = NULL;
    g_assert_null (banger_home_read_text (home, others[i], 4, &error));
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_PATH);
  }
}

/* As Samba has it of what its client writes to: it is waited for, but not long. */
static void
test_leased (void)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *path = g_build_filename (home, "d/f", NULL);
  banger_autofd int holder = open (path, O_RDWR | O_CLOEXEC);
  signal (SIGIO, SIG_IGN);
  if (fcntl (holder, F_SETLEASE, F_WRLCK) < 0) {
    g_test_skip ("this file system has no leases");
    return;
  }
  gint64 begun = g_get_monotonic_time ();
  g_assert_cmpint (banger_home_open (home, "d/f", NULL, &error), <, 0);
  g_assert_cmpint (g_get_monotonic_time () - begun, <, 10 * G_USEC_PER_SEC);
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_PATH);
  g_assert_cmpint (fcntl (holder, F_SETLEASE, F_UNLCK), ==, 0);
  banger_autofd int fd = banger_home_open (home, "d/f", NULL, NULL);
  g_assert_cmpint (fd, >=, 0);
}

static gint swapping;

static gpointer
swap (gpointer data)
{
  link_to ("../../other", "u/d/trap");
  while (g_atomic_int_get (&swapping))
    g_assert_cmpint (renameat2 (top_fd, "u/d/e", top_fd, "u/d/trap", RENAME_EXCHANGE), ==, 0);
  return NULL;
}

/* What is opened is mine, or nothing is. */
static void
test_swapped (void)
{
  write_to ("u/d/e/f", "mine");
  g_atomic_int_set (&swapping, TRUE);
  GThread *thread = g_thread_new ("swap", swap, NULL);
  guint opened = 0;
  for (guint i = 0; i < SWAPS; i++) {
    char text[16] = "";
    banger_autofd int fd = banger_home_open (home, "d/e/f", NULL, NULL);
    if (fd < 0)
      continue;
    opened++;
    g_assert_cmpint (read (fd, text, sizeof text - 1), ==, 4);
    g_assert_cmpstr (text, ==, "mine");
  }
  g_atomic_int_set (&swapping, FALSE);
  g_thread_join (thread);
  g_test_message ("%u of %d were opened", opened, SWAPS);
}

static void
test_links (void)
{
  static const struct {
    const char *real, *target;
    gboolean stays;
  } rows[] = {
    { "a", "b", TRUE },
    { "a", ".", TRUE },
    { "a", "..", FALSE },
    { "d/a", "..", TRUE },
    { "d/a", "../..", FALSE },
    { "d/a", "../../u", FALSE },
    { "d/a", "x/../../b", TRUE },
    { "a", "/etc/passwd", FALSE },
    { "a", "/home/u/x", TRUE },
    { "a", "/home/u", TRUE },
    { "a", "/home/ux", FALSE },
    { "a", "/home/u/../x", FALSE },
    { "a", "/home/u/x/..", TRUE },
  };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++)
    if (banger_home_link_stays ("/home/u", rows[i].real, rows[i].target) != rows[i].stays)
      g_error ("%s -> %s", rows[i].real, rows[i].target);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  set_up ();
  g_test_add_func ("/home-file/opened", test_opened);
  g_test_add_func ("/home-file/refused", test_refused);
  g_test_add_func ("/home-file/text", test_text);
  g_test_add_func ("/home-file/links", test_links);
  g_test_add_func ("/home-file/leased", test_leased);
  g_test_add_func ("/home-file/swapped", test_swapped);
  int r = g_test_run ();
  tear_down ();
  return r;
}

/* Console logs are cut: when, to what, and that their writer goes on.
 * Run by meson test.
 * Never writes outside of a temporary folder. */
#include "manager/vm/console.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"

typedef struct {
  char *path;
  int dir_fd, log_fd; /* the log as a VMM has it */
} Folder;

static void
folder_up (Folder *folder, gconstpointer data)
{
  folder->path = g_dir_make_tmp ("console-XXXXXX", NULL);
  folder->dir_fd = open (folder->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  folder->log_fd = openat (folder->dir_fd, "log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  g_assert_cmpint (folder->log_fd, >=, 0);
}

static void
folder_down (Folder *folder, gconstpointer data)
{
  close (folder->log_fd);
  unlinkat (folder->dir_fd, "log", 0);
  unlinkat (folder->dir_fd, "other", 0);
  close (folder->dir_fd);
  g_assert_cmpint (g_rmdir (folder->path), ==, 0);
  g_free (folder->path);
}

static void
write_lines (Folder *folder, guint from, guint to)
{
  for (guint i = from; i < to; i++)
    g_assert_cmpint (dprintf (folder->log_fd, "line %04u\n", i), ==, 10);
}

static char *
content (Folder *folder)
{
  g_autofree char *path = g_build_filename (folder->path, "log", NULL);
  char *text = NULL;
  g_assert_true (g_file_get_contents (path, &text, NULL, NULL));
  return text;
}

static void
test_cut (Folder *folder, gconstpointer data)
{
  g_autoptr (GError) error = NULL;
  write_lines (folder, 0, 100);
  g_assert_true (banger_console_bound (folder->dir_fd, "log", 1000, 35, &error)); /* just as much as it may have */
  g_autofree char *whole = content (folder);
  g_assert_cmpuint (strlen (whole), ==, 1000);
  write_lines (folder, 100, 101);
  g_assert_true (banger_console_bound (folder->dir_fd, "log", 1000, 35, &error));
  g_assert_no_error (error);
  write_lines (folder, 101, 102);
  g_autofree char *text = content (folder);
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  g_assert_true (g_str_has_prefix (lines[0], "[banger: "));
  g_assert_cmpstr (lines[1], ==, "line 0098"); /* whole lines alone */
  g_assert_cmpstr (lines[2], ==, "line 0099");
  g_assert_cmpstr (lines[3], ==, "line 0100");
  g_assert_cmpstr (lines[4], ==, "line 0101"); /* written through the old descriptor */
  g_assert_cmpstr (lines[5], ==, "");
}

static void
test_one_endless_line (Folder *folder, gconstpointer data)
{
  g_autofree char *line = g_strnfill (5000, 'x');
  g_assert_cmpint (write (folder->log_fd, line, 5000), ==, 5000);
  g_assert_true (banger_console_bound (folder->dir_fd, "log", 1000, 35, NULL));
  g_autofree char *text = content (folder);
  g_assert_cmpuint (strlen (text), <, 200);
  g_assert_true (g_str_has_suffix (text, "xxxxx"));
}

static void
test_what_is_no_log (Folder *folder, gconstpointer data)
{
  g_autoptr (GError) error = NULL;
  g_assert_true (banger_console_bound (folder->dir_fd, "missing", 1000, 35, &error));
  write_lines (folder, 0, 101);
  g_assert_cmpint (symlinkat ("log", folder->dir_fd, "other"), ==, 0);
  g_assert_false (banger_console_bound (folder->dir_fd, "other", 1000, 35, &error));
  g_clear_error (&error);
  g_assert_cmpint (unlinkat (folder->dir_fd, "other", 0) | mkfifoat (folder->dir_fd, "other", 0600), ==, 0);
  g_assert_false (banger_console_bound (folder->dir_fd, "other", 1000, 35, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_UNSAFE_FILE);
  g_autofree char *text = content (folder);
  g_assert_cmpuint (strlen (text), ==, 1010);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
#define ADD(name, func) g_test_add ("/console/" name, Folder, NULL, folder_up, func, folder_down)
  ADD ("cut", test_cut);
  ADD ("one-endless-line", test_one_endless_line);
  ADD ("what-is-no-log", test_what_is_no_log);
  return g_test_run ();
}

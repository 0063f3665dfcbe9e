/* State files: whole or not at all.
 * Run by meson test.
 * Never leaves its temporary folder. */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/safe-path.h"
#include "common/state-file.h"

static char *path;
static int dir;

static void
test_round_trip (void)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (JsonObject) object = json_object_new (), back = NULL;
  struct stat st;
  json_object_set_string_member (object, "name", "web");
  g_assert_true (banger_state_write_json (dir, "r.json", object, 0600, &error));
  g_assert_true (banger_state_write_json (dir, "r.json", object, 0600, &error));
  g_assert_cmpint (fstatat (dir, "r.json", &st, 0), ==, 0);
  g_assert_cmpuint (st.st_mode & 07777, ==, 0600);
  back = banger_state_read_json (dir, "r.json", NULL, &error);
  g_assert_no_error (error);
  g_assert_cmpstr (json_object_get_string_member (back, "name"), ==, "web");
  g_assert_cmpint (faccessat (dir, ".r.json.tmp", F_OK, 0), <, 0);
  g_assert_true (banger_state_remove (dir, "r.json", &error));
  g_assert_true (banger_state_remove (dir, "r.json", &error));
}

static void
test_bad (void)
{
  gboolean missing = FALSE;
  g_assert_null (banger_state_read_json (dir, "none.json", &missing, NULL));
  g_assert_true (missing);
  const char *bad[] = { "", "{", "[]", "1", "{\"a\":1} x" };
  for (size_t i = 0; i < G_N_ELEMENTS (bad); i++) {
    g_autoptr (GError) error = NULL;
    g_assert_true (banger_state_write (dir, "bad.json", bad[i], strlen (bad[i]), 0600, NULL));
    g_assert_null (banger_state_read_json (dir, "bad.json", &missing, &error));
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_STATE_CORRUPT);
    g_assert_false (missing);
  }
  g_assert_true (banger_state_write (dir, "bad.json", "{}\0x", 4, 0600, NULL));
  g_assert_null (banger_state_read_json (dir, "bad.json", NULL, NULL));
  /* Nested as deeply as a file is long: a parser that calls itself ends the program. */
  g_autofree char *deep = g_strnfill (1024 * 1024 - 5, '[');
  memcpy (deep, "{\"a\":", 5);
  g_assert_true (banger_state_write (dir, "bad.json", deep, strlen (deep), 0600, NULL));
  g_autoptr (GError) too_deep = NULL;
  g_assert_null (banger_state_read_json (dir, "bad.json", NULL, &too_deep));
  g_assert_error (too_deep, BANGER_ERROR, BANGER_ERROR_STATE_CORRUPT);
  static const char quoted[]
      = "{\"a\":\"[[[[\\\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\",\"b\":[[1],[2]]}";
  g_assert_true (banger_state_write (dir, "good.json", quoted, strlen (quoted), 0600, NULL));
  g_autoptr (JsonObject) good = banger_state_read_json (dir, "good.json", NULL, &too_deep);
  g_assert_nonnull (good);
  g_autofree char *big = g_strnfill (1024 * 1024 + 1, ' ');
  g_assert_true (banger_state_write (dir, "bad.json", big, 1024 * 1024 + 1, 0600, NULL));
  g_assert_null (banger_state_read (dir, "bad.json", NULL, NULL, NULL));
}

static void
test_kinds (void)
{
  g_autoptr (GError) error = NULL;
  g_assert_cmpint (symlinkat ("/etc/passwd", dir, "link.json"), ==, 0);
  g_assert_null (banger_state_read (dir, "link.json", NULL, NULL, NULL));
  g_assert_cmpint (mkfifoat (dir, "fifo.json", 0600), ==, 0);
  g_assert_null (banger_state_read (dir, "fifo.json", NULL, NULL, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_UNSAFE_FILE);
  /* Writing over a link replaces the link; a planted temporary is not followed. */
  g_assert_cmpint (symlinkat ("/nonexistent/x", dir, ".link.json.tmp"), ==, 0);
  g_assert_true (banger_state_write (dir, "link.json", "{}", 2, 0600, NULL));
  struct stat st;
  g_assert_cmpint (fstatat (dir, "link.json", &st, AT_SYMLINK_NOFOLLOW), ==, 0);
  g_assert_true (S_ISREG (st.st_mode));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  path = g_dir_make_tmp ("banger-state-XXXXXX", NULL);
  dir = open (path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  g_test_add_func ("/state-file/round-trip", test_round_trip);
  g_test_add_func ("/state-file/bad", test_bad);
  g_test_add_func ("/state-file/kinds", test_kinds);
  int status = g_test_run ();
  g_autofree char *name = g_path_get_basename (path), *parent = g_path_get_dirname (path);
  int above = open (parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
  g_assert_true (banger_safe_remove_tree (above, name, NULL));
  close (above);
  close (dir);
  g_free (path);
  return status;
}

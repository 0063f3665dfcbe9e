/* Records: what is saved is what is read; what cannot be read is refused and set aside, never lost.
 * Run by meson test.
 * Never touches anything outside a temporary directory. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/state-file.h"
#include "manager/core/record.h"

/* A folder whose listing breaks off, in place of libc's. */
static gboolean listing_breaks;

struct dirent *
readdir (DIR *dir)
{
  struct dirent *(*real) (DIR *) = (struct dirent * (*)(DIR *)) dlsym (RTLD_NEXT, "readdir64");
  if (!listing_breaks)
    return real (dir);
  errno = EIO;
  return NULL;
}

static const char *const words[] = { "building", "ready", NULL };

typedef struct {
  char *name;
  guint64 big;
  guint32 small;
  gboolean flag;
  int state;
} Thing;

static const BangerRecordField fields[] = {
  { "name", BANGER_RECORD_STRING, G_STRUCT_OFFSET (Thing, name), NULL, TRUE },
  { "big", BANGER_RECORD_UINT64, G_STRUCT_OFFSET (Thing, big) },
  { "small", BANGER_RECORD_UINT32, G_STRUCT_OFFSET (Thing, small) },
  { "flag", BANGER_RECORD_BOOL, G_STRUCT_OFFSET (Thing, flag) },
  { "state", BANGER_RECORD_WORD, G_STRUCT_OFFSET (Thing, state), words, TRUE },
  { NULL },
};

typedef struct {
  char *path;
  int fd;
} Dir;

static void
set_up (Dir *dir, gconstpointer data)
{
  dir->path = g_dir_make_tmp ("banger-record-XXXXXX", NULL);
  dir->fd = open (dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  g_assert_cmpint (dir->fd, >=, 0);
}

static void
tear_down (Dir *dir, gconstpointer data)
{
  g_autofree char *command = g_strdup_printf ("rm -rf '%s'", dir->path);
  g_assert_true (g_spawn_command_line_sync (command, NULL, NULL, NULL, NULL));
  banger_clear_fd (&dir->fd);
  g_free (dir->path);
}

/* What is not listed would be taken for gone. */
static void
test_listing_breaks (Dir *dir, gconstpointer data)
{
  g_autoptr (GError) error = NULL;
  g_auto (GStrv) ids = banger_record_list (dir->fd, &error);
  g_assert_nonnull (ids);
  listing_breaks = TRUE;
  g_auto (GStrv) broken = banger_record_list (dir->fd, &error);
  listing_breaks = FALSE;
  g_assert_null (broken);
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_FAILED);
}

typedef struct {
  gboolean done, ok;
  GError *error;
} End;

static void
on_end (GObject *source, GAsyncResult *result, gpointer user_data)
{
  End *end = user_data;
  end->ok = banger_writer_finish (result, &end->error);
  end->done = TRUE;
}

static gboolean
wait_for (End *end, GError **error)
{
  while (!end->done)
    g_main_context_iteration (NULL, TRUE);
  if (end->error)
    g_propagate_error (error, end->error);
  return end->ok;
}

static gboolean
put (Dir *dir, const Thing *thing, GError **error)
{
  g_autoptr (BangerWriter) writer = banger_writer_new ();
  End end = { 0 };
  banger_record_put (writer, NULL, dir->fd, "thing", fields, thing, on_end, &end);
  return wait_for (&end, error);
}

static gboolean
add (Dir *dir, const char *id, GError **error)
{
  static const Thing thing = { (char *)"a", 1, 1, TRUE, 1 };
  g_autoptr (BangerWriter) writer = banger_writer_new ();
  End end = { 0 };
  banger_record_add (writer, dir->fd, id, "thing", fields, &thing, on_end, &end);
  return wait_for (&end, error);
}

static void
test_round_trip (Dir *dir, gconstpointer data)
{
  Thing in = { (char *)"n \"ä\"\n", G_GUINT64_CONSTANT (1) << 53, G_MAXUINT32, TRUE, 1 };
  Thing out = { 0 };
  g_autoptr (GError) error = NULL;
  g_assert_true (put (dir, &in, &error));
  g_assert_no_error (error);
  g_assert_true (banger_record_load (dir->fd, "thing", fields, &out, NULL, &error));
  g_assert_no_error (error);
  g_assert_cmpstr (out.name, ==, in.name);
  g_assert_cmpuint (out.big, ==, in.big);
  g_assert_cmpuint (out.small, ==, in.small);
  g_assert_cmpint (out.flag, ==, in.flag);
  g_assert_cmpint (out.state, ==, in.state);
  struct stat st;
  g_assert_cmpint (fstatat (dir->fd, "record.json", &st, 0), ==, 0);
  g_assert_cmpuint (st.st_mode & 07777, ==, 0600);
  banger_record_clear (fields, &out);
}

static void
test_missing (Dir *dir, gconstpointer data)
{
  Thing out = { 0 };
  gboolean missing = FALSE;
  g_autoptr (GError) error = NULL;
  g_assert_false (banger_record_load (dir->fd, "thing", fields, &out, &missing, &error));
  g_assert_true (missing);
}

static void
test_refused (Dir *dir, gconstpointer data)
{
  static const char *const texts[] = {
    "",
    "{",
    "[]",
    "{}",
    "{\"version\":2,\"kind\":\"thing\",\"name\":\"a\",\"state\":\"ready\"}",
    "{\"version\":\"1\",\"kind\":\"thing\",\"name\":\"a\",\"state\":\"ready\"}",
    "{\"version\":1,\"kind\":\"other\",\"name\":\"a\",\"state\":\"ready\"}",
    "{\"version\":1,\"name\":\"a\",\"state\":\"ready\"}",
    "{\"version\":1,\"kind\":\"thing\",\"state\":\"ready\"}",
    "{\"version\":1,\"kind\":\"thing\",\"name\":\"a\"}",
    "{\"version\":1,\"kind\":\"thing\",\"name\":\"a\",\"state\":\"half\"}",
    "{\"version\":1,\"kind\":\"thing\",\"name\":\"a\",\"state\":1}",
    "{\"version\":1,\"kind\":\"thing\",\"name\":7,\"state\":\"ready\"}",
    "{\"version\":1,\"kind\":\"thing\",\"name\":[],\"state\":\"ready\"}",
    "{\"version\":1,\"kind\":\"thing\",\"name\":\"a\",\"state\":\"ready\",\"big\":-1}",
    "{\"version\":1,\"kind\":\"thing\",\"name\":\"a\",\"state\":\"ready\",\"big\":1.5}",
    "{\"version\":1,\"kind\":\"thing\",\"name\":\"a\",\"state\":\"ready\",\"big\":9007199254740993}",
    "{\"version\":1,\"kind\":\"thing\",\"name\":\"a\",\"state\":\"ready\",\"small\":4294967296}",
    "{\"version\":1,\"kind\":\"thing\",\"name\":\"a\",\"state\":\"ready\",\"flag\":1}",
  };
  for (guint i = 0; i < G_N_ELEMENTS (texts); i++) {
    Thing out = { 0 };
    gboolean missing = TRUE;
    g_autoptr (GError) error = NULL;
    g_assert_true (banger_state_write (dir->fd, "record.json", texts[i], strlen (texts[i]), 0600, NULL));
    gboolean ok = banger_record_load (dir->fd, "thing", fields, &out, &missing, &error);
    if (ok)
      g_test_message ("accepted: %s", texts[i]);
    g_assert_false (ok);
    g_assert_false (missing);
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_STATE_CORRUPT);
    banger_record_clear (fields, &out);
  }
}

static void
test_newer_keys (Dir *dir, gconstpointer data)
{
  static const char text[]
      = "{\"version\":1,\"kind\":\"thing\",\"name\":\"a\",\"state\":\"ready\",\"big\":5,\"later\":{\"x\":1}}";
  Thing out = { 0 };
  g_assert_true (banger_state_write (dir->fd, "record.json", text, strlen (text), 0600, NULL));
  g_assert_true (banger_record_load (dir->fd, "thing", fields, &out, NULL, NULL));
  g_assert_cmpuint (out.big, ==, 5);
  banger_record_clear (fields, &out);
}

static void
test_list (Dir *dir, gconstpointer data)
{
  static const char *const names[] = { "0123456789ab", "aabbccddeeff", "0123456789ab.unreadable", "x", "ABCDEF012345" };
  for (guint i = 0; i < G_N_ELEMENTS (names); i++)
    g_assert_cmpint (mkdirat (dir->fd, names[i], 0700), ==, 0);
  g_assert_cmpint (symlinkat (names[0], dir->fd, "ffffffffffff"), ==, 0);
  g_assert_true (banger_state_write (dir->fd, "eeeeeeeeeeee", "", 0, 0600, NULL));
  g_auto (GStrv) ids = banger_record_list (dir->fd, NULL);
  g_autofree char *joined = g_strjoinv (" ", ids);
  g_assert_cmpstr (joined, ==, "0123456789ab aabbccddeeff");
}

static void
test_set_aside (Dir *dir, gconstpointer data)
{
  for (guint i = 1; i <= 3; i++) {
    g_assert_true (add (dir, "0123456789ab", NULL));
    g_autofree char *name = banger_record_set_aside (dir->fd, "0123456789ab", NULL);
    g_autofree char *wanted = i == 1 ? g_strdup ("0123456789ab.unreadable")
                                     : g_strdup_printf ("0123456789ab.unreadable-%u", i);
    g_assert_cmpstr (name, ==, wanted);
    g_autofree char *kept = g_build_filename (dir->path, wanted, "record.json", NULL);
    g_assert_true (g_file_test (kept, G_FILE_TEST_IS_REGULAR));
  }
}

static void
test_remove (Dir *dir, gconstpointer data)
{
  g_autoptr (GError) error = NULL;
  g_assert_true (add (dir, "0123456789ab", &error));
  g_assert_no_error (error);
  g_assert_false (add (dir, "0123456789ab", NULL)); /* and the first is not touched */
  g_assert_true (banger_record_is_there (dir->fd, "0123456789ab"));
  banger_autofd int fd = banger_record_open_dir (dir->fd, "0123456789ab", &error);
  g_assert_no_error (error);
  g_assert_cmpint (mkdirat (fd, "modules", 0700), ==, 0);
  g_assert_true (banger_record_remove (dir->fd, "0123456789ab", &error));
  g_assert_no_error (error);
  g_assert_cmpint (faccessat (dir->fd, "0123456789ab", F_OK, 0), !=, 0);
  g_assert_false (banger_record_is_there (dir->fd, "0123456789ab"));
  g_assert_true (banger_record_remove (dir->fd, "0123456789ab", &error));
}

#define ADD(path, func) g_test_add (path, Dir, NULL, set_up, func, tear_down)

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  ADD ("/record/round-trip", test_round_trip);
  ADD ("/record/missing", test_missing);
  ADD ("/record/refused", test_refused);
  ADD ("/record/newer-keys", test_newer_keys);
  ADD ("/record/list", test_list);
  ADD ("/record/listing-breaks", test_listing_breaks);
  ADD ("/record/set-aside", test_set_aside);
  ADD ("/record/remove", test_remove);
  return g_test_run ();
}

/* How what images and kernels are made from is named, and what opening it says.
 * Run by meson test. */
#include "manager/core/source.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"

typedef struct {
  BangerSource source;
  char *own;
} Thing;

static void
clear (BangerSource *source)
{
  g_free (((Thing *)source)->own);
}

static gboolean
refuse (BangerSource *source, GError **error)
{
  return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "%s is refused", source->name);
}

static const BangerSourceRow rows[] = {
  { "made", FALSE, refuse, banger_source_say_word, NULL },
  { "apt", TRUE, refuse, banger_source_say_both, NULL },
  { BANGER_SOURCE_FILE, FALSE, banger_source_open, banger_source_say_name, NULL },
  { NULL },
};
static const BangerSources things = { rows, sizeof (Thing), clear };

static BangerSource *
chosen (const char *text)
{
  Thing *thing = banger_source_new (&things);
  thing->own = g_strdup ("something");
  banger_source_choose_text (&thing->source, text);
  return &thing->source;
}

static void
test_words (void)
{
  static const struct {
    const char *text, *word, *name, *said;
  } texts[] = {
    { "apt:linux", "apt", "linux", "apt:linux" },
    { "apt:", "apt", "", "apt:" },
    { "apt:a:b", "apt", "a:b", "apt:a:b" },
    /* Only what has a row that may be named is a word; the rest is a path. */
    { "apt", "file", "apt", "apt" },
    { "aptly:x", "file", "aptly:x", "aptly:x" },
    { "made:x", "file", "made:x", "made:x" },
    { "file:/x", "file", "file:/x", "file:/x" },
    { "/apt:x", "file", "/apt:x", "/apt:x" },
    { "", "file", "", "" },
  };
  for (guint i = 0; i < G_N_ELEMENTS (texts); i++) {
    g_autoptr (BangerSource) source = chosen (texts[i].text);
    g_autofree char *said = source->row->describe (source);
    g_assert_cmpstr (source->row->word, ==, texts[i].word);
    g_assert_cmpstr (source->name, ==, texts[i].name);
    g_assert_cmpstr (said, ==, texts[i].said);
    g_assert_cmpint (source->fd, ==, -1);
  }
  g_autoptr (BangerSource) made = banger_source_new (&things);
  banger_source_choose (made, "made", NULL);
  g_autofree char *said = made->row->describe (made);
  g_assert_cmpstr (said, ==, "made");
}

static void
test_open (void)
{
  g_autofree char *dir = g_dir_make_tmp ("source-XXXXXX", NULL);
  g_autofree char *file = g_build_filename (dir, "caf\xe9", NULL), *fifo = g_build_filename (dir, "fifo", NULL);
  g_assert_true (g_file_set_contents (file, "x", 1, NULL));
  g_assert_cmpint (mkfifo (fifo, 0600), ==, 0);
  const struct {
    const char *path, *problem; /* NULL: there is none */
  } paths[] = {
    { file, NULL },
    { fifo, NULL }, /* without waiting for a writer */
    { "/dev/null", "/dev/null is neither a file nor a pipe" },
    { dir, "is neither a file nor a pipe" },
    { "/nonexistent/root.tar", "cannot open /nonexistent/root.tar: No such file" },
    { "root\xe9.tar", "path \"root\\xe9.tar\" is not absolute" },
    { "", "path \"\" is not absolute" },
  };
  for (guint i = 0; i < G_N_ELEMENTS (paths); i++) {
    g_autoptr (GError) error = NULL;
    g_autoptr (BangerSource) source = chosen (paths[i].path);
    g_assert_cmpint (source->row->check (source, &error), ==, paths[i].problem == NULL);
    g_assert_cmpint (source->fd >= 0, ==, paths[i].problem == NULL);
    if (!paths[i].problem)
      continue;
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_PATH);
    g_assert_nonnull (strstr (error->message, paths[i].problem));
  }
  g_assert_cmpint (unlink (file), ==, 0);
  g_assert_cmpint (unlink (fifo), ==, 0);
  g_assert_cmpint (rmdir (dir), ==, 0);
}

static void
on_checked (GObject *object, GAsyncResult *result, gpointer user_data)
{
  g_autoptr (GError) error = NULL;
  g_assert_false (banger_source_check_finish (result, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_ARGS);
  g_assert_cmpstr (error->message, ==, "linux is refused");
  g_main_loop_quit (user_data);
}

static void
test_check (void)
{
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  g_autoptr (BangerSource) source = chosen ("apt:linux");
  banger_source_check_async (source, on_checked, loop);
  g_main_loop_run (loop);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/source/words", test_words);
  g_test_add_func ("/source/open", test_open);
  g_test_add_func ("/source/check", test_check);
  return g_test_run ();
}

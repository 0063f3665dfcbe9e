/* The table that images and kernels share: made or not at all, found by name and id, deleted when nobody rests on it, and
 * what a start finds of the last one. The class is a word in a file.
 * Run by meson test. */
#include "manager/core/asset.h"

#include <fcntl.h>
#include <string.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/op-id.h"

typedef struct {
  BangerAsset asset;
  char *word;
} Thing;

static const char *const states[] = { "making", "ready", NULL };
static const BangerRecordField fields[] = {
  BANGER_ASSET_FIELDS (states),
  { "word", BANGER_RECORD_STRING, G_STRUCT_OFFSET (Thing, word), NULL, TRUE, "Word", TRUE },
  { "tags", BANGER_RECORD_STRV, G_STRUCT_OFFSET (Thing, asset.tags), NULL, FALSE, "Tags", TRUE },
  { NULL },
};

static gboolean
may_be_named (BangerSource *source, GError **error)
{
  return TRUE;
}

static gboolean
make (BangerSource *source, int dir_fd, BangerJobProgress *progress, GCancellable *cancellable, GError **error)
{
  banger_autofd int fd = openat (dir_fd, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  g_assert_cmpint (fd, >=, 0);
  return !g_str_equal (source->name, "bad")
         || banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "it is made of %s", source->name);
}

static const BangerSourceRow rows[] = {
  { "word", TRUE, may_be_named, banger_source_say_both, make },
  { NULL },
};
static const BangerSources sources = { rows, sizeof (BangerSource), NULL };

static void
take (gpointer asset, BangerSource *source)
{
  banger_asset_set_string (&((Thing *)asset)->word, source->name);
}

static const BangerAssetClass class = { BANGER_OBJECT_IMAGE,
                                        "thing",
                                        "a thing",
                                        sizeof (Thing),
                                        fields,
                                        states,
                                        "being made",
                                        "make one",
                                        BANGER_ERROR_IMAGE_EXISTS,
                                        BANGER_ERROR_NO_SUCH_IMAGE,
                                        &sources,
                                        take };

typedef struct {
  char *folder;
  int dir_fd;
  BangerWriter *writer;
  BangerJobs *jobs;
  BangerAssets *assets;
  GString *told;
  const char *users;
  gboolean ended;
  GError *error;
} World;

static void
on_added (BangerObjectKind kind, const char *id, gpointer data)
{
  g_string_append (((World *)data)->told, "added ");
}

static void
on_removed (BangerObjectKind kind, const char *id, gpointer data)
{
  g_string_append (((World *)data)->told, "removed ");
}

static void
on_changed (BangerObjectKind kind, const char *id, const char *const *properties, gpointer data)
{
  g_autofree char *all = g_strjoinv (",", (char **)properties);
  g_string_append_printf (((World *)data)->told, "changed:%s ", all);
}

static char *
users_of (const char *id, gpointer data)
{
  return g_strdup (((World *)data)->users);
}

static void
on_set_aside (BangerObjectKind kind, const char *name, const GError *why, gpointer data)
{
  g_string_append (((World *)data)->told, "set-aside ");
}

static void
on_job (BangerJob *job, gpointer data)
{
}

static void
on_job_object (BangerObjectKind kind, const char *id, gpointer data)
{
}

static void
on_job_changed (BangerObjectKind kind, const char *id, const char *const *properties, gpointer data)
{
}

static const BangerAssetsHouse house = { { on_added, on_removed, on_changed }, users_of, on_set_aside };
static const BangerJobObserver jobs_observer = { { on_job_object, on_job_object, on_job_changed }, on_job, on_job };

static void
world_load (World *world)
{
  g_autoptr (GError) error = NULL;
  world->assets = banger_assets_new (&class, &house, world);
  g_assert_true (banger_assets_load (world->assets, world->dir_fd, world->writer, &error));
  g_assert_no_error (error);
}

static void
world_up (World *world, gconstpointer unused)
{
  world->folder = g_dir_make_tmp ("banger-asset-XXXXXX", NULL);
  world->dir_fd = open (world->folder, O_DIRECTORY | O_CLOEXEC);
  world->writer = banger_writer_new ();
  world->told = g_string_new (NULL);
  world->jobs = banger_jobs_new (&jobs_observer, world);
  world_load (world);
}

static void
world_down (World *world, gconstpointer unused)
{
  banger_assets_free (world->assets);
  banger_jobs_free (world->jobs);
  banger_writer_free (world->writer);
  banger_clear_fd (&world->dir_fd);
  g_autofree char *remove = g_strdup_printf ("rm -r %s", world->folder);
  g_assert_cmpint (system (remove), ==, 0);
  g_string_free (world->told, TRUE);
  g_free (world->folder);
  g_clear_error (&world->error);
}

static void
on_ended (GObject *source, GAsyncResult *result, gpointer data)
{
  World *world = data;
  world->ended = TRUE;
  g_clear_error (&world->error);
  g_task_propagate_boolean (G_TASK (result), &world->error);
}

static void
wait_until_ended (World *world)
{
  while (!world->ended)
    g_main_context_iteration (NULL, TRUE);
  world->ended = FALSE;
}

static void
on_job_ended (BangerJob *job, const GError *error, gpointer data)
{
  World *world = data;
  world->ended = TRUE;
  g_clear_error (&world->error);
  world->error = error ? g_error_copy (error) : NULL;
}

/* Returns: (transfer none): the thing while it is made. */
static Thing *
begin (World *world, const char *name, const char *what)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *op_id = banger_op_id_new ();
  const BangerJobSpec spec = { .kind = "make-thing", .op_id = op_id, .cancelable = TRUE };
  BangerSource *source = banger_source_new (&sources);
  banger_source_choose (source, "word", what);
  BangerJob *job = banger_asset_job_new (world->assets, name, source, world->jobs, &spec, &error);
  g_assert_no_error (error);
  banger_job_keep (job, on_job_ended, world);
  banger_job_begin (job);
  return banger_assets_find_id (world->assets, job->object_id);
}

static void
made (World *world, const char *name, const char *what)
{
  begin (world, name, what);
  wait_until_ended (world);
}

static void
deleted (World *world, const char *name)
{
  banger_asset_delete_async (banger_asset_find (world->assets, name, NULL), on_ended, world);
  wait_until_ended (world);
}

static guint
folders (const World *world)
{
  g_autoptr (GDir) dir = g_dir_open (world->folder, 0, NULL);
  guint n = 0;
  while (g_dir_read_name (dir))
    n++;
  return n;
}

static void
test_made (World *world, gconstpointer unused)
{
  g_autoptr (GError) error = NULL;
  int fd = -1;
  g_string_truncate (world->told, 0);
  Thing *thing = begin (world, "web", "good");
  g_assert_null (banger_asset_find_ready (world->assets, "web", &fd, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_WRONG_STATE);
  g_assert_nonnull (strstr (error->message, "being made"));
  g_assert_cmpint (fd, ==, -1);
  g_clear_error (&error);
  deleted (world, "web");
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_WRONG_STATE);
  wait_until_ended (world);
  g_assert_no_error (world->error);
  g_assert_true (banger_asset_find (world->assets, "web", NULL) == thing);
  g_assert_true (banger_asset_find (world->assets, thing->asset.id, NULL) == thing);
  g_assert_true (banger_asset_find_ready (world->assets, "web", &fd, &error) == thing);
  g_assert_no_error (error);
  g_assert_cmpint (faccessat (fd, "file", F_OK, 0), ==, 0);
  banger_clear_fd (&fd);
  g_assert_cmpstr (thing->word, ==, "good");
  g_assert_cmpstr (thing->asset.source, ==, "word:good");
  g_assert_nonnull (strstr (world->told->str, "added "));
  g_assert_nonnull (strstr (world->told->str, "changed:Name,State,"));
}

static void
test_names (World *world, gconstpointer unused)
{
  g_autoptr (GError) error = NULL;
  made (world, "web", "good");
  g_assert_true (banger_asset_check_name (world->assets, "other", &error));
  g_assert_false (banger_asset_check_name (world->assets, "web", &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_IMAGE_EXISTS);
  g_clear_error (&error);
  g_assert_false (banger_asset_check_name (world->assets, "../web", &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_NAME);
  g_clear_error (&error);
  g_assert_null (banger_asset_find (world->assets, "nobody", &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_NO_SUCH_IMAGE);
  g_assert_nonnull (strstr (error->message, "nobody"));
}

static void
keep_result (GObject *source, GAsyncResult *result, gpointer data)
{
  *(GAsyncResult **)data = g_object_ref (result);
}

/* Returns: the code of its error, -1: there was none. */
static int
tagged (World *world, const char *name, const char *tag, gboolean add)
{
  g_autoptr (GAsyncResult) result = NULL;
  g_autoptr (GError) error = NULL;
  banger_asset_tag_async (banger_asset_find (world->assets, name, NULL), tag, add, keep_result, &result);
  while (!result)
    g_main_context_iteration (NULL, TRUE);
  return banger_asset_tag_finish (result, &error) ? -1 : error->code;
}

/* A name is nobody else's as soon as it is asked for, is in the record, and keeps its asset. */
static void
test_tags (World *world, gconstpointer unused)
{
  made (world, "web", "good");
  made (world, "db", "good");
  Thing *thing = banger_asset_find (world->assets, "web", NULL);
  g_string_truncate (world->told, 0);
  g_autoptr (GAsyncResult) result = NULL;
  banger_asset_tag_async (&thing->asset, "one", TRUE, keep_result, &result);
  g_assert_false (banger_asset_check_name (world->assets, "one", NULL));
  deleted (world, "web");
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_WRONG_STATE);
  while (!result)
    g_main_context_iteration (NULL, TRUE);
  g_assert_true (banger_asset_tag_finish (result, NULL));
  g_assert_nonnull (strstr (world->told->str, "changed:Tags"));
  g_assert_cmpint (tagged (world, "one", "two", TRUE), ==, -1);
  const struct {
    const char *name, *tag;
    int code;
  } refused[] = { { "web", "db", BANGER_ERROR_IMAGE_EXISTS },
                  { "db", "two", BANGER_ERROR_IMAGE_EXISTS },
                  { "db", "../x", BANGER_ERROR_INVALID_NAME } };
  for (guint i = 0; i < G_N_ELEMENTS (refused); i++)
    g_assert_cmpint (tagged (world, refused[i].name, refused[i].tag, TRUE), ==, refused[i].code);
  deleted (world, "web");
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_IN_USE);
  g_assert_nonnull (strstr (world->error->message, "one, two"));
  g_assert_cmpint (tagged (world, "web", "one", FALSE), ==, -1);
  g_assert_null (banger_asset_find (world->assets, "one", NULL));
  banger_assets_free (world->assets);
  world_load (world);
  g_assert_null (banger_asset_find (world->assets, "one", NULL));
  g_assert_true (banger_asset_find (world->assets, "two", NULL) == banger_asset_find (world->assets, "web", NULL));
  g_assert_cmpint (tagged (world, "two", "two", FALSE), ==, -1);
  deleted (world, "web");
  g_assert_no_error (world->error);
}

/* What fails or is cancelled is in no table and on no disk. */
static void
test_not_made (World *world, gconstpointer unused)
{
  made (world, "web", "bad");
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_INVALID_ARGS);
  g_assert_null (banger_asset_find (world->assets, "web", NULL));
  g_assert_cmpuint (folders (world), ==, 0);
  g_assert_nonnull (strstr (world->told->str, "removed "));
}

static void
test_deleted (World *world, gconstpointer unused)
{
  made (world, "web", "good");
  world->users = "a, b";
  deleted (world, "web");
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_IN_USE);
  g_assert_nonnull (strstr (world->error->message, "a, b"));
  world->users = NULL;
  Thing *thing = banger_asset_find (world->assets, "web", NULL);
  banger_asset_delete_async (&thing->asset, on_ended, world);
  g_assert_cmpuint (banger_assets_going (world->assets), ==, 1);
  int fd = -1;
  g_assert_null (banger_asset_find_ready (world->assets, "web", &fd, NULL));
  wait_until_ended (world);
  g_assert_no_error (world->error);
  g_assert_null (banger_asset_find (world->assets, "web", NULL));
  g_assert_cmpuint (folders (world), ==, 0);
}

/* The next start: whole ones are there, half-made ones go, unreadable ones are kept and said. */
static void
test_loaded (World *world, gconstpointer unused)
{
  made (world, "web", "good");
  made (world, "torn", "good");
  made (world, "half", "good");
  g_autofree char *web = g_strdup (((BangerAsset *)banger_asset_find (world->assets, "web", NULL))->id);
  const char *torn = ((BangerAsset *)banger_asset_find (world->assets, "torn", NULL))->id;
  const char *half = ((BangerAsset *)banger_asset_find (world->assets, "half", NULL))->id;
  g_autofree char *torn_record = g_build_filename (world->folder, torn, "record.json", NULL);
  g_autofree char *half_record = g_build_filename (world->folder, half, "record.json", NULL);
  g_autofree char *text = NULL;
  g_assert_true (g_file_set_contents (torn_record, "{", -1, NULL));
  g_assert_true (g_file_get_contents (half_record, &text, NULL, NULL));
  char *state = strstr (text, "\"ready\"");
  g_assert_nonnull (state);
  g_autofree char *making = g_strdup_printf ("%.*s\"making\"%s", (int)(state - text), text,
                                             state + strlen ("\"ready\""));
  g_assert_true (g_file_set_contents (half_record, making, -1, NULL));
  banger_assets_free (world->assets);
  g_string_truncate (world->told, 0);
  world_load (world);
  g_autoptr (GPtrArray) ids = banger_assets_ids (world->assets);
  g_assert_cmpuint (ids->len, ==, 1);
  Thing *thing = banger_assets_find_id (world->assets, web);
  g_assert_cmpstr (thing->asset.name, ==, "web");
  g_assert_cmpstr (thing->word, ==, "good");
  g_assert_cmpstr (world->told->str, ==, "set-aside ");
  while (folders (world) > 2) /* a worker takes the half-made one away */
    g_main_context_iteration (NULL, FALSE);
}

int
main (int argc, char *argv[])
{
  g_test_init (&argc, &argv, NULL);
  static const struct {
    const char *path;
    void (*run) (World *world, gconstpointer unused);
  } tests[] = {
    { "/asset/made", test_made },       { "/asset/names", test_names },   { "/asset/not-made", test_not_made },
    { "/asset/deleted", test_deleted }, { "/asset/loaded", test_loaded }, { "/asset/tags", test_tags },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (tests); i++)
    g_test_add (tests[i].path, World, NULL, world_up, tests[i].run, world_down);
  return g_test_run ();
}

/* config.toml of the owner: accept, refuse, boundary; nothing in it fails as a whole.
 * Run by meson test.
 * Never reads the settings of whoever runs it. */
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/config.h"
#include "common/toml.h"

#define GIB (G_GUINT64_CONSTANT (1) << 30)

static BangerConfig *
parse (const char *text)
{
  return banger_config_parse (text, strlen (text), "c");
}

static char *
value_of (const BangerConfig *config, const char *name)
{
  for (const BangerConfigKey *key = banger_config_keys; key->table; key++)
    if (g_str_equal (key->key, name)) {
      g_autofree char *value = banger_config_value (config, key), *origin = banger_config_origin (config, key);
      return g_strdup_printf ("%s %s", value, origin);
    }
  g_assert_not_reached ();
}

static void
test_defaults (void)
{
  g_autoptr (BangerConfig) config = parse ("");
  g_assert_cmpuint (config->problems->len, ==, 0);
  g_assert_cmpuint (config->vcpus, ==, 2);
  g_assert_cmpuint (config->memory_bytes, ==, GIB);
  g_assert_cmpuint (config->disk_bytes, ==, 8 * GIB);
  g_assert_cmpstr (config->image, ==, "default");
  g_assert_true (config->nat);
}

static void
test_values (void)
{
  g_autoptr (BangerConfig) config = parse ("# mine\n[vm_defaults]\nvcpu = 32\nmemory = \"1.5G\"\n"
                                           "disk-size = \"20000001\"\nimage = \"rust\"\nnat = false\n");
  static const struct {
    const char *key, *shown;
  } rows[] = { { "vcpu", "32 line 3" },
               { "memory", "\"1.5 GiB\" line 4" },
               { "disk-size", "\"20000001\" line 5" }, /* not to be had with one decimal */
               { "image", "\"rust\" line 6" },
               { "nat", "false line 7" } };
  g_assert_cmpuint (config->problems->len, ==, 0);
  g_assert_cmpuint (config->memory_bytes, ==, GIB / 2 * 3);
  g_assert_cmpuint (config->disk_bytes, ==, 20000001);
  g_assert_false (config->nat);
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autofree char *shown = value_of (config, rows[i].key);
    g_assert_cmpstr (shown, ==, rows[i].shown);
  }
}

/* Each is told with its line, and all the rest holds. */
static void
test_problems (void)
{
  static const struct {
    const char *line, *problem;
  } rows[] = {
    { "vcpu = 0", "c, line 4: vm_defaults.vcpu must be from 1 to 32" },
    { "vcpu = 33", "c, line 4: vm_defaults.vcpu must be from 1 to 32" },
    { "vcpu = \"2\"", "c, line 4: vm_defaults.vcpu must be a number" },
    { "memory = 512", "c, line 4: vm_defaults.memory must be a string in double quotes" },
    { "memory = \"127M\"", "c, line 4: vm_defaults.memory must be from 128 MiB to 1 TiB, a multiple of 1 MiB" },
    { "memory = \"1000000000\"", "c, line 4: vm_defaults.memory must be from 128 MiB to 1 TiB, a multiple of 1 MiB" },
    { "memory = \"2T\"", "c, line 4: vm_defaults.memory must be from 128 MiB to 1 TiB, a multiple of 1 MiB" },
    { "memory = \"much\"", "c, line 4: vm_defaults.memory must be from 128 MiB to 1 TiB, a multiple of 1 MiB: *" },
    { "disk-size = \"15M\"", "c, line 4: vm_defaults.disk-size must be from 16 MiB to 16 TiB" },
    { "image = \"../etc\"", "c, line 4: vm_defaults.image: *" },
    { "image = true", "c, line 4: vm_defaults.image must be a string in double quotes" },
    { "nat = \"no\"", "c, line 4: vm_defaults.nat must be true or false" },
    { "shoe = 1", "c, line 4: 'vm_defaults.shoe' is not a known setting" },
  };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autofree char *text = g_strdup_printf ("[vm_defaults]\n\n\n%s\n[other]\nkey = 1\n", rows[i].line);
    g_autoptr (BangerConfig) config = parse (text);
    g_assert_false (config->broken);
    g_assert_cmpuint (config->problems->len, ==, 2);
    if (!g_pattern_match_simple (rows[i].problem, config->problems->pdata[0]))
      g_error ("%s: %s", rows[i].line, (char *)config->problems->pdata[0]);
    g_assert_cmpstr (config->problems->pdata[1], ==, "c, line 6: 'other.key' is not a known setting");
    g_assert_cmpuint (config->vcpus, ==, 2);
    g_assert_cmpuint (config->memory_bytes, ==, GIB);
    g_assert_cmpuint (config->disk_bytes, ==, 8 * GIB);
    g_assert_cmpstr (config->image, ==, "default");
    g_assert_true (config->nat);
  }
}

/* A budget of eight bytes would have every template go as soon as it is made. */
static void
test_budget (void)
{
  static const char tail[] = " must be from 64 MiB to 16 TiB";
  static const struct {
    const char *text, *hint;
  } rows[] = { { "8", "; a number without a unit is bytes, \"8G\" has one" },
               { "67108863", "; a number without a unit is bytes, \"67108863G\" has one" },
               { "63M", "" } };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autofree char *text = g_strdup_printf ("[templates]\nbudget = \"%s\"\n", rows[i].text),
                    *problem = g_strconcat ("c, line 2: templates.budget", tail, rows[i].hint, NULL);
    g_autoptr (BangerConfig) config = parse (text);
    g_assert_cmpuint (config->problems->len, ==, 1);
    g_assert_cmpstr (config->problems->pdata[0], ==, problem);
    g_assert_cmpuint (config->template_bytes, ==, 8 * GIB);
  }
  g_autoptr (BangerConfig) least = parse ("[templates]\nbudget = \"64M\"\n");
  g_assert_cmpuint (least->problems->len, ==, 0);
}

static void
test_warm (void)
{
  g_autoptr (BangerConfig) asked = parse ("[templates]\nwarm = \"off\"\n");
  g_autofree char *shown = value_of (asked, "warm");
  g_assert_cmpstr (shown, ==, "\"off\" line 2");
  g_autoptr (BangerConfig) never = parse ("[templates]\nwarm = \"never\"\n");
  g_assert_cmpstr (never->problems->pdata[0], ==, "c, line 2: templates.warm must be \"auto\" or \"off\"");
  g_assert_cmpstr (never->warm, ==, BANGER_WARM_AUTO);
}

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define KEY56 "RWQVk6x38yb7eNYW6k9tAlJ621jadWK4p81iZWyGtzaHBRHlSrIc1slh"

static void
test_catalogs (void)
{
  g_autoptr (BangerConfig) config = parse ("[[catalog]]\nfile = \"/a\"\nsha256 = \"" HEX64 "\"\n"
                                           "[vm_defaults]\nvcpu = 3\n[[catalog]]\nfile = \"~/b\"\n"
                                           "[[catalog]]\nurl = \"https://example.org/c.json\"\nkey = \"" KEY56 "\"\n");
  g_assert_cmpuint (config->problems->len, ==, 0);
  g_assert_cmpuint (config->vcpus, ==, 3);
  g_assert_cmpuint (config->catalogs->len, ==, 3);
  const BangerConfigCatalog *a = config->catalogs->pdata[0], *b = config->catalogs->pdata[1],
                            *c = config->catalogs->pdata[2];
  g_autofree char *home = g_build_filename (g_get_home_dir (), "b", NULL);
  g_assert_cmpstr (a->sha256, ==, HEX64);
  g_assert_cmpstr (b->file, ==, home);
  g_assert_true (!b->key && !b->sha256 && !b->problem && !c->file);
  g_assert_cmpstr (c->key, ==, KEY56);
}

/* Each is told of, and stays as one that cannot be used: it is not one without its key. */
static void
test_catalogs_refused (void)
{
  static const char *const rows[] = {
    "",
    "key = \"" KEY56 "\"",
    "file = \"/a\"\nurl = \"https://a/\"",
    "file = \"a\"",
    "file = \"~me/a\"",
    "file = \"/a/../b\"",
    "file = 1",
    "url = \"file:///a\"",
    "url = \"https://\"",
    "url = \"https://-a\"",
    "url = \"https://a/ b\"",
    "url = \"https://a/#b\"",
    "file = \"/a\"\nkey = \"RWQ\"",
    "file = \"/a\"\nkey = \"" KEY56 "A\"",
    "file = \"/a\"\nsha256 = \"0123\"",
    "file = \"/a\"\nsha256 = \"0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef\"",
    "file = \"/a\"\nkey = \"" KEY56 "\"\nsha256 = \"" HEX64 "\"",
  };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autofree char *text = g_strdup_printf ("[[catalog]]\n%s\n", rows[i]);
    g_autoptr (BangerConfig) config = parse (text);
    g_assert_cmpuint (config->problems->len, ==, 1);
    g_assert_cmpstr (((const BangerConfigCatalog *)config->catalogs->pdata[0])->problem, ==,
                     config->problems->pdata[0]);
  }
  g_autoptr (BangerConfig) unknown = parse ("[[catalog]]\nfile = \"/a\"\nkeys = 1\n");
  g_assert_cmpstr (unknown->problems->pdata[0], ==, "c, line 3: 'catalog[1].keys' is not a known setting");
}

static void
test_file_sync (void)
{
  const char *home = g_get_home_dir ();
  g_autofree char *text = g_strdup_printf ("[[file_sync]]\nsource = \"~/.//a/./b/\"\n\n[[file_sync]]\nsource = \"x\"\n"
                                           "target = \"/etc//x/\"\nmode = \"0600\"\n[[file_sync]]\nsource = \"%s/y\"\n",
                                           home);
  g_autoptr (BangerConfig) config = parse (text);
  static const BangerFileSync rows[] = { { 1, (char *)"a/b", (char *)"/root/a/b", -1 },
                                         { 2, (char *)"x", (char *)"/etc/x", 0600 },
                                         { 3, (char *)"y", (char *)"/root/y", -1 } };
  g_assert_cmpuint (config->problems->len, ==, 0);
  g_assert_cmpuint (config->file_sync->len, ==, G_N_ELEMENTS (rows));
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    const BangerFileSync *sync = config->file_sync->pdata[i];
    g_assert_cmpuint (sync->number, ==, rows[i].number);
    g_assert_cmpstr (sync->source, ==, rows[i].source);
    g_assert_cmpstr (sync->target, ==, rows[i].target);
    g_assert_cmpint (sync->mode, ==, rows[i].mode);
  }
  g_autoptr (GPtrArray) shown = banger_config_rows (config);
  const BangerConfigRow *row = shown->pdata[shown->len - 2];
  g_assert_cmpstr (row->key, ==, "file_sync[2].mode");
  g_assert_cmpstr (row->value, ==, "\"0600\"");
  g_assert_cmpstr (row->from, ==, "line 7");
}

static void
test_setup (void)
{
  g_autoptr (BangerConfig) config = parse (
      "[[setup]]\nrun = \"a\\nb\"\n[[setup]]\nscript = \"~/s.sh\"\nimages = [\"rust\", "
      "\"debian-??\", \"x*\"]\n");
  g_assert_cmpuint (config->problems->len, ==, 0);
  const BangerSetup *any = config->setup->pdata[0], *some = config->setup->pdata[1];
  g_assert_cmpstr (any->run, ==, "a\nb");
  g_assert_null (any->script);
  g_assert_cmpstr (some->script, ==, "s.sh");
  static const struct {
    const char *name;
    gboolean fits;
  } rows[] = { { "rust", TRUE },      { "rust2", FALSE }, { "debian-12", TRUE },
               { "debian-1", FALSE }, { "x", TRUE },      { "", FALSE } };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_assert_cmpint (banger_config_fits (some->images, rows[i].name), ==, rows[i].fits);
    g_assert_true (banger_config_fits (any->images, rows[i].name));
  }
  g_autoptr (GPtrArray) shown = banger_config_rows (config);
  const BangerConfigRow *row = shown->pdata[shown->len - 3];
  g_assert_cmpstr (row->key, ==, "setup[1].run");
}

static void
test_publish (void)
{
  g_autoptr (BangerConfig) config = parse (
      "[[publish]]\nport = 65535\n[[publish]]\nport = 1\nguest_port = 65535\naddress = \"::1\"\n"
      "names = [\"web\"]\n");
  g_assert_cmpuint (config->problems->len, ==, 0);
  const BangerPublish *plain = config->publish->pdata[0], *all = config->publish->pdata[1];
  g_assert_cmpstr (plain->forward, ==, "127.0.0.1:65535:65535");
  g_assert_null (plain->names);
  g_assert_cmpstr (all->forward, ==, "[::1]:1:65535");
  g_assert_cmpstr (all->names[0], ==, "web");
}

/* The bad one is told with its number, and those beside it hold. */
static void
test_lists_problems (void)
{
  static const struct {
    const char *entry, *problem;
  } rows[] = {
    { "", "c, line 3: file_sync[2]: source is missing*" },
    { "source = 1", "c, line 4: file_sync[2].source must be a string in double quotes" },
    { "source = \"/etc/shadow\"", "c, line 4: file_sync[2].source '/etc/shadow': it is outside of the home folder" },
    { "source = \"~root/x\"", "c, line 4: file_sync[2].source '~root/x': it is outside of the home folder" },
    { "source = \"~/a/../../x\"", "c, line 4: file_sync[2].source '*': it has '..'*" },
    { "source = \"a\\nb\"", "c, line 4: file_sync[2].source '*': it has '..' or a control character*" },
    { "source = \"~\"", "c, line 4: file_sync[2].source '~': it is the whole home folder*" },
    { "source = \"\"", "c, line 4: file_sync[2].source '': it is the whole home folder*" },
    { "source = \"a\"\ntarget = \"etc\"", "c, line 5: file_sync[2].target 'etc': an absolute path*" },
    { "source = \"a\"\ntarget = \"/\"", "c, line 5: file_sync[2].target '/': an absolute path*" },
    { "source = \"a\"\ntarget = \"/a/../b\"", "c, line 5: file_sync[2].target '/a/../b': an absolute path*" },
    { "source = \"a\"\nmode = \"1777\"", "c, line 5: file_sync[2].mode must be from \"0\" to \"0777\"*" },
    { "source = \"a\"\nmode = \"8\"", "c, line 5: file_sync[2].mode must be from *" },
    { "source = \"a\"\nmode = \"\"", "c, line 5: file_sync[2].mode must be from *" },
    { "source = \"a\"\n[[setup]]\nimages = [\"a\"]", "c, line 5: setup[1]: give script*or run*" },
    { "source = \"a\"\n[[setup]]\nrun = \"a\"\nscript = \"b\"", "c, line 5: setup[1]: give script*or run*" },
    { "source = \"a\"\n[[setup]]\nrun = \"\"", "c, line 6: setup[1].run must be from 1 to 65536 bytes" },
    { "source = \"a\"\n[[setup]]\nscript = \"/bin/sh\"", "c, line 6: setup[1].script '/bin/sh': it is outside*" },
    { "source = \"a\"\n[[setup]]\nrun = \"a\"\nimages = \"b\"", "c, line 7: setup[1].images must be a list*" },
    { "source = \"a\"\n[[setup]]\nrun = \"a\"\nimages = [\"A\"]", "c, line 7: setup[1].images 'A': a name is needed*" },
    { "source = \"a\"\n[[setup]]\nrun = \"a\"\nimages = [\"\"]", "c, line 7: setup[1].images '': a name is needed*" },
    { "source = \"a\"\n[[publish]]\nguest_port = 80", "c, line 5: publish[1]: port is missing*" },
    { "source = \"a\"\n[[publish]]\nport = 0", "c, line 6: publish[1].port must be from 1 to 65535" },
    { "source = \"a\"\n[[publish]]\nport = 65536", "c, line 6: publish[1].port must be from 1 to 65535" },
    { "source = \"a\"\n[[publish]]\nport = 1\nguest_port = 0", "c, line 7: publish[1].guest_port must be from 1 *" },
    { "source = \"a\"\n[[publish]]\nport = 1\naddress = \"localhost\"",
      "c, line 7: publish[1].address 'localhost': *" },
    { "source = \"a\"\n[[publish]]\nport = 1\nnames = [\"a/b\"]", "c, line 7: publish[1].names 'a/b': a name is*" },
    { "source = \"a\"\nmode = 600", "c, line 5: file_sync[2].mode must be a string in double quotes" },
  };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autofree char *text = g_strdup_printf ("[[file_sync]]\nsource = \"one\"\n[[file_sync]]\n%s\n[[file_sync]]\n"
                                             "source = \"three\"\n",
                                             rows[i].entry);
    g_autoptr (BangerConfig) config = parse (text);
    g_assert_cmpuint (config->problems->len, ==, 1);
    if (!g_pattern_match_simple (rows[i].problem, config->problems->pdata[0]))
      g_error ("%s: %s", rows[i].entry, (char *)config->problems->pdata[0]);
    gboolean other = strstr (rows[i].entry, "[[") != NULL;
    g_assert_cmpuint (config->file_sync->len, ==, other ? 3 : 2);
    g_assert_cmpuint (((BangerFileSync *)config->file_sync->pdata[other ? 2 : 1])->number, ==, 3);
    g_assert_cmpuint (config->setup->len + config->publish->len, ==, 0);
  }
  g_autoptr (BangerConfig) unknown = parse ("[[file_sync]]\nsource = \"a\"\nsauce = 1\n");
  g_assert_cmpstr (unknown->problems->pdata[0], ==, "c, line 3: 'file_sync[1].sauce' is not a known setting");
  g_autoptr (GString) many = g_string_new (NULL);
  for (guint i = 0; i < 66; i++)
    g_string_append (many, "[[file_sync]]\nsource = \"a\"\n");
  g_autoptr (BangerConfig) over = parse (many->str);
  g_assert_cmpuint (over->file_sync->len, ==, 64);
  g_assert_cmpuint (over->problems->len, ==, 1);
  g_assert_cmpstr (over->problems->pdata[0], ==, "c, line 129: file_sync[65]: more than 64 there cannot be");
}

static void
test_single (void)
{
  g_autoptr (BangerConfig) config = parse ("[setup]\nscript = \"a\"\nrun = \"a\"\n[publish]\n");
  g_assert_cmpuint (config->problems->len, ==, 1);
  g_assert_cmpstr (config->problems->pdata[0], ==,
                   "c, line 2: 'setup.script' is not a known setting: setup is a list, each entry of which begins with "
                   "[[setup]]");
  g_assert_cmpuint (config->setup->len, ==, 0);
}

static void
test_broken (void)
{
  g_autoptr (BangerConfig) config = parse ("[vm_defaults]\nvcpu = 4\nnat = maybe\n");
  g_assert_true (config->broken);
  g_assert_cmpuint (config->problems->len, ==, 1);
  g_assert_true (g_str_has_prefix (config->problems->pdata[0], "c, line 3: "));
  g_assert_cmpuint (config->vcpus, ==, 2);
}

static void
test_files (void)
{
  g_autofree char *dir = g_dir_make_tmp ("banger-config-XXXXXX", NULL), *path = g_build_filename (dir, "c", NULL),
                  *most = g_strnfill (BANGER_TOML_MAX_BYTES, '\n');
  g_autoptr (BangerConfig) none = banger_config_load (path);
  g_assert_cmpuint (none->problems->len, ==, 0);
  g_assert_cmpint (mkfifo (path, 0600), ==, 0); /* nobody writes into it */
  g_autoptr (BangerConfig) pipe = banger_config_load (path);
  g_assert_true (pipe->broken && pipe->problems->len == 1);
  g_unlink (path);
  g_assert_true (g_file_set_contents (path, most, -1, NULL));
  g_autoptr (BangerConfig) full = banger_config_load (path);
  g_assert_cmpuint (full->problems->len, ==, 0);
  g_autofree char *over = g_strconcat (most, "\n", NULL);
  g_assert_true (g_file_set_contents (path, over, -1, NULL));
  g_autoptr (BangerConfig) large = banger_config_load (path);
  g_assert_true (large->broken && large->problems->len == 1);
  g_unlink (path);
  g_rmdir (dir);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/config/defaults", test_defaults);
  g_test_add_func ("/config/values", test_values);
  g_test_add_func ("/config/problems", test_problems);
  g_test_add_func ("/config/budget", test_budget);
  g_test_add_func ("/config/warm", test_warm);
  g_test_add_func ("/config/catalogs", test_catalogs);
  g_test_add_func ("/config/catalogs-refused", test_catalogs_refused);
  g_test_add_func ("/config/file-sync", test_file_sync);
  g_test_add_func ("/config/setup", test_setup);
  g_test_add_func ("/config/publish", test_publish);
  g_test_add_func ("/config/lists-problems", test_lists_problems);
  g_test_add_func ("/config/broken", test_broken);
  g_test_add_func ("/config/single", test_single);
  g_test_add_func ("/config/files", test_files);
  return g_test_run ();
}

/* Catalogs: what is taken, what is refused, at which bound; signatures of the real minisign; files that are none.
 * Run by meson test with the folder of the catalogs that come with banger.
 * Never reads the settings of whoever runs it. */
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/error.h"
#include "common/names.h"
#include "manager/fetch/catalogs.h"
#include "manager/fetch/minisign.h"

/* What minisign 0.11 made: minisign -G -W; minisign -S [-l] -m cat.json -t ... */
#define KEY "RWQVk6x38yb7eNYW6k9tAlJ621jadWK4p81iZWyGtzaHBRHlSrIc1slh"
#define SIGNED "{\"banger-catalog\":1,\"images\":[{\"name\":\"box\",\"source\":\"docker://example.org/box:1\"}]}\n"
#define SIGNED_SHA256 "e7d6d3a3fa2164166c00aa3eb17becf8329243a5a57b37655a0eefbea3276a58"
#define UNTRUSTED "untrusted comment: signature from minisign secret key\n"
#define HASHED "RUQVk6x38yb7ePentyRPN4skBSJ2VjJGI+porvOsO1BEuSzKEE2tAEdIKfccVB6ZoM5cC71hKijWtweu9o0KeDlgpzJoufqtYww=\n"
#define HASHED_GLOBAL "PGDmv4B/79VK9se5vh5XdNFjy9nKKUVdGDFa7unp5B2jJGTfSj77pimZpDlR2ai6QPff1LAR/caJNyaksB+CDA==\n"
#define LEGACY "RWQVk6x38yb7eDOUHptkOVW0tW0Q416jVdsVaSAvvsAHvt5KJb2hY3IdygqOvwLp7e3B9jX6XKL/ipeRN+lLrX/yzt5lha/H2Ac=\n"
#define LEGACY_GLOBAL "h1O5eApML+A0R9+MYs/Qzmi5Gpe5bAr9NgC0MeEA9WLhur5JiZg4TLg1/qTk7H4zIQPWGitqJDNcFFKg4aQHDQ==\n"
#define GOOD UNTRUSTED HASHED "trusted comment: one\n" HASHED_GLOBAL

static GBytes *
bytes_of (const char *text)
{
  return g_bytes_new (text, strlen (text));
}

static gboolean
verify (const char *key, const char *data, const char *signature, GError **error)
{
  g_autoptr (GBytes) of = bytes_of (data), by = bytes_of (signature);
  return banger_minisign_verify (key, of, by, "cat", error);
}

static void
test_signatures (void)
{
  g_autoptr (GError) error = NULL;
  verify (KEY, SIGNED, GOOD, &error);
  g_assert_no_error (error);
  verify (KEY, SIGNED, UNTRUSTED LEGACY "trusted comment: old\n" LEGACY_GLOBAL, &error);
  g_assert_no_error (error);
  verify (KEY, SIGNED, "untrusted comment: \r\n" HASHED "trusted comment: one\n" HASHED_GLOBAL, &error);
  g_assert_no_error (error);
}

static void
test_signatures_refused (void)
{
  static const struct {
    const char *key, *data, *signature, *why;
  } rows[] = {
    { KEY, "", GOOD, "*not of this file*" },
    { KEY, SIGNED " ", GOOD, "*not of this file*" },
    { KEY, SIGNED, UNTRUSTED HASHED "trusted comment: two\n" HASHED_GLOBAL, "*not of this file*" },
    { KEY, SIGNED, UNTRUSTED HASHED "trusted comment: one\n" LEGACY_GLOBAL, "*not of this file*" },
    { KEY, SIGNED, UNTRUSTED LEGACY "trusted comment: one\n" HASHED_GLOBAL, "*not of this file*" },
    /* the other algorithm's letters over the same bytes */
    { KEY, SIGNED,
      UNTRUSTED "RWQVk6x38yb7ePentyRPN4skBSJ2VjJGI+porvOsO1BEuSzKEE2tAEdIKfccVB6ZoM5cC71hKijWtweu9o0KeDlgpzJoufqtYww=\n"
                "trusted comment: one\n" HASHED_GLOBAL,
      "*not of this file*" },
    /* another key id; another key of that id */
    { "RWQWk6x38yb7eNYW6k9tAlJ621jadWK4p81iZWyGtzaHBRHlSrIc1slh", SIGNED, GOOD, "*by another key than*" },
    { "RWQVk6x38yb7eNYW6k9tAlJ621jadWK4p81iZWyGtzaHBRHlSrIc1sli", SIGNED, GOOD, "*not of this file*" },
    /* no point of the curve, and a point of small order */
    { "RWQVk6x38yb7eAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", SIGNED, GOOD, "*not of this file*" },
    { "RWQVk6x38yb7eAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", SIGNED, GOOD, "*not of this file*" },
    { "", SIGNED, GOOD, "*no public key*" },
    { "RUQVk6x38yb7eNYW6k9tAlJ621jadWK4p81iZWyGtzaHBRHlSrIc1slh", SIGNED, GOOD, "*no public key*" },
    { KEY, SIGNED, "", "*none of minisign's" },
    { KEY, SIGNED, UNTRUSTED HASHED, "*none of minisign's" },
    { KEY, SIGNED, UNTRUSTED HASHED "comment: one\n" HASHED_GLOBAL, "*none of minisign's" },
    { KEY, SIGNED, HASHED "trusted comment: one\n" HASHED_GLOBAL, "*none of minisign's" },
    { KEY, SIGNED, GOOD "more\n", "*none of minisign's" },
    { KEY, SIGNED, UNTRUSTED HASHED "trusted comment: one\nPGDm\n", "*none of minisign's" },
    { KEY, SIGNED, UNTRUSTED "=" HASHED "trusted comment: one\n" HASHED_GLOBAL, "*none of minisign's" },
  };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GError) error = NULL;
    g_assert_false (verify (rows[i].key, rows[i].data, rows[i].signature, &error));
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_CATALOG);
    if (!g_pattern_match_simple (rows[i].why, error->message))
      g_error ("row %u: %s", i, error->message);
  }
  g_autofree char *comment = g_strnfill (BANGER_MINISIGN_MAX_BYTES, 'x');
  g_autofree char *large = g_strconcat ("untrusted comment: ", comment, "\n", NULL);
  g_assert_false (verify (KEY, SIGNED, large, NULL));
}

static BangerCatalog *
parse (const char *text, GError **error)
{
  g_autoptr (GBytes) bytes = bytes_of (text);
  return banger_catalog_parse (bytes, "cat", error);
}

static void
test_accept (void)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (BangerCatalog) catalog = parse (
      "{\"banger-catalog\": 1, \"kernels\": [{\"name\": \"k\", \"source\": \"apt:linux-image-amd64\", \"size\": 1}],"
      "\"images\": [{\"name\": \"a-1\", \"source\": \"debian:trixie\", \"summary\": \"caf\xc3\xa9\"},"
      "{\"source\": \"docker://ghcr.io/o/b@sha256:00\", \"name\": \"k\"}]}",
      &error);
  g_assert_no_error (error);
  const BangerCatalogEntry *a = banger_catalog_find (catalog, BANGER_CATALOG_IMAGES, "a-1"),
                           *k = banger_catalog_find (catalog, BANGER_CATALOG_IMAGES, "k"),
                           *kernel = banger_catalog_find (catalog, BANGER_CATALOG_KERNELS, "k");
  g_assert_cmpstr (a->word, ==, "debian");
  g_assert_cmpstr (a->what, ==, "trixie");
  g_assert_cmpstr (a->kind, ==, "mmdebstrap");
  g_assert_cmpstr (a->summary, ==, "caf\xc3\xa9");
  g_assert_cmpuint (a->size_bytes, ==, 0);
  g_assert_cmpstr (k->what, ==, "//ghcr.io/o/b@sha256:00");
  g_assert_cmpstr (kernel->word, ==, "apt");
  g_assert_cmpuint (kernel->size_bytes, ==, 1);
  g_assert_null (banger_catalog_find (catalog, BANGER_CATALOG_KERNELS, "a-1"));
  g_autoptr (BangerCatalog) empty = parse ("{\"banger-catalog\":1}", &error);
  g_assert_no_error (error);
  g_assert_false (banger_catalog_may_name ("debian:bookworm") || banger_catalog_may_name ("ghcr.io/a"));
}

static void
test_refuse (void)
{
#define IMAGES(entries) "{\"banger-catalog\":1,\"images\":[" entries "]}"
#define WITH(more) IMAGES ("{\"name\":\"a\",\"source\":\"debian:trixie\"" more "}")
#define OF(source) IMAGES ("{\"name\":\"a\",\"source\":\"" source "\"}")
  static const char *const rows[] = {
    "",
    "{",
    "[]",
    "\xff",
    "{\"images\":[]}",
    "{\"banger-catalog\":0}",
    "{\"banger-catalog\":2}",
    "{\"banger-catalog\":\"1\"}",
    "{\"banger-catalog\":1.0}",
    "{\"banger-catalog\":1,\"vms\":[]}",
    "{\"banger-catalog\":1,\"images\":{}}",
    IMAGES ("1"),
    IMAGES ("{}"),
    IMAGES ("{\"name\":\"a\"}"),
    IMAGES ("{\"source\":\"debian:trixie\"}"),
    IMAGES ("{\"name\":1,\"source\":\"debian:trixie\"}"),
    IMAGES ("{\"name\":\"A\",\"source\":\"debian:trixie\"}"),
    IMAGES ("{\"name\":\"-a\",\"source\":\"debian:trixie\"}"),
    IMAGES ("{\"name\":\"../a\",\"source\":\"debian:trixie\"}"),
    IMAGES ("{\"name\":\"0123456789abcdef\",\"source\":\"debian:trixie\"}"), /* could be an id */
    IMAGES ("{\"name\":\"a\",\"source\":\"debian:trixie\"},{\"name\":\"a\",\"source\":\"debian:trixie\"}"),
    WITH (",\"sise\":1"),
    WITH (",\"size\":0"),
    WITH (",\"size\":-1"),
    WITH (",\"size\":1e9"),
    WITH (",\"size\":1099511627777"),
    WITH (",\"summary\":1"),
    WITH (",\"summary\":\"\\u001b[2J\""),
    WITH (",\"summary\":\"\\u202e\""),
    WITH (",\"summary\":\"a\\nb\""),
    /* Nothing of this host's, and no word for another program. */
    OF ("/etc/passwd"),
    OF ("file:/etc/passwd"),
    OF ("oci:/home/me/layout"),
    OF ("containers-storage:box"),
    OF ("catalog:a"),
    OF ("apt:linux-image-amd64"),
    OF ("debian:"),
    OF ("debian:--help"),
    OF ("debian:trixie bookworm"),
    OF ("docker:debian"),
    OF ("docker://-o"),
    OF ("docker://a b"),
    "{\"banger-catalog\":1,\"kernels\":[{\"name\":\"a\",\"source\":\"debian:trixie\"}]}",
    "{\"banger-catalog\":1,\"kernels\":[{\"name\":\"a\",\"source\":\"apt:--option\"}]}",
    "{\"banger-catalog\":1,\"kernels\":[{\"name\":\"a\",\"source\":\"apt:/tmp/evil.deb\"}]}",
  };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GError) error = NULL;
    if (parse (rows[i], &error))
      g_error ("taken: %s", rows[i]);
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_CATALOG);
  }
}

static gboolean
is_taken (guint entries, guint pad, guint depth)
{
  g_autoptr (GString) text = g_string_new ("{\"banger-catalog\":1,\"images\":[");
  g_autoptr (GError) error = NULL;
  for (guint i = 0; i < entries; i++)
    g_string_append_printf (text, "%s{\"name\":\"a-%u\",\"source\":\"debian:trixie\"}", i > 0 ? "," : "", i);
  for (guint i = 0; i < depth; i++) /* where no list belongs: the depth is looked at first */
    g_string_append (text, "[");
  for (guint i = 0; i < depth; i++)
    g_string_append (text, "]");
  g_string_append (text, "]}");
  for (; text->len < pad;)
    g_string_append_c (text, ' ');
  g_autoptr (BangerCatalog) catalog = parse (text->str, &error);
  return catalog || (depth > 0 && !strstr (error->message, "deeper"));
}

static void
test_bounds (void)
{
  g_assert_true (is_taken (BANGER_CATALOG_MAX_ENTRIES, 0, 0));
  g_assert_false (is_taken (BANGER_CATALOG_MAX_ENTRIES + 1, 0, 0));
  g_assert_true (is_taken (1, BANGER_CATALOG_MAX_BYTES, 0));
  g_assert_false (is_taken (1, BANGER_CATALOG_MAX_BYTES + 1, 0));
  g_assert_true (is_taken (0, 0, 62));
  g_assert_false (is_taken (0, 0, 63));
  for (guint over = 0; over < 2; over++) {
    g_autofree char *summary = g_strnfill (BANGER_CATALOG_MAX_SUMMARY + over, 's');
    g_autofree char *text = g_strdup_printf (WITH (",\"summary\":\"%s\",\"size\":1099511627776"), summary);
    g_autoptr (BangerCatalog) catalog = parse (text, NULL);
    g_assert_true (!catalog == (over == 1));
  }
}

/* Of the owner's settings, with files in a folder of their own. */
typedef struct {
  char *folder, *file, *signature;
  GPtrArray *own;
} World;

static void
put (const char *path, const char *text)
{
  g_assert_true (g_file_set_contents (path, text, -1, NULL));
}

static void
set_up (World *world, gconstpointer data)
{
  world->folder = g_dir_make_tmp ("banger-catalog-XXXXXX", NULL);
  world->file = g_build_filename (world->folder, "cat.json", NULL);
  world->signature = g_strconcat (world->file, ".minisig", NULL);
  world->own = g_ptr_array_new ();
}

static void
tear_down (World *world, gconstpointer data)
{
  g_unlink (world->file);
  g_unlink (world->signature);
  g_assert_cmpint (g_rmdir (world->folder), ==, 0);
  g_free (world->folder);
  g_free (world->file);
  g_free (world->signature);
  g_ptr_array_unref (world->own);
}

/* Returns: (transfer full): "WORD:WHAT|WARNING" of what @name is, or why not. */
static char *
look_up (World *world, const char *name)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (BangerCatalogFound) found = banger_catalogs_find (world->own, BANGER_CATALOG_IMAGES, name, &error);
  if (found)
    return g_strdup_printf ("%s:%s|%s", found->word, found->what, found->warning ? found->warning : "");
  g_assert_true (g_error_matches (error, BANGER_ERROR, BANGER_ERROR_INVALID_CATALOG)
                 || g_error_matches (error, BANGER_ERROR, BANGER_ERROR_NO_SUCH_IMAGE));
  return g_strdup (error->message);
}

static void
expect (World *world, const char *name, const char *pattern)
{
  g_autofree char *is = look_up (world, name);
  if (!g_pattern_match_simple (pattern, is))
    g_error ("%s: %s", name, is);
}

static void
test_signed_file (World *world, gconstpointer data)
{
  BangerConfigCatalog catalog = { .file = world->file, .key = (char *)KEY };
  g_ptr_array_add (world->own, &catalog);
  put (world->file, SIGNED);
  expect (world, "box", "cannot look for box: cannot open *cat.json.minisig: No such file*");
  put (world->signature, GOOD);
  expect (world, "box", "docker://example.org/box:1|");
  /* Swapped, with a signature that was good of another. */
  put (world->file,
       "{\"banger-catalog\":1,\"images\":[{\"name\":\"box\",\"source\":\"docker://evil.example/box:1\"}]}");
  expect (world, "box", "*not of this file*");
  /* What it would have said is not known: nobody behind it is asked. */
  expect (world, "bookworm", "*not of this file*");
}

static void
test_digest_and_none (World *world, gconstpointer data)
{
  BangerConfigCatalog catalog = { .file = world->file, .sha256 = (char *)SIGNED_SHA256 };
  g_ptr_array_add (world->own, &catalog);
  put (world->file, SIGNED);
  expect (world, "box", "docker://example.org/box:1|");
  put (world->file, SIGNED "\n");
  expect (world, "box", "*its digest is sha256:*");
  catalog.sha256 = NULL;
  expect (world, "box", "docker://example.org/box:1|*unsigned catalog*");
  catalog.problem = (char *)"config.toml, line 3: wrong";
  expect (world, "box", "*config.toml, line 3: wrong");
}

static void
test_installed (World *world, gconstpointer data)
{
  BangerConfigCatalog catalog = { .file = world->file };
  expect (world, "bookworm", "debian:bookworm|");
  expect (world, "none-of-these", "no catalog has \"none-of-these\" (*list --available*");
  g_autoptr (GError) error = NULL;
  g_autoptr (BangerCatalogFound) kernel = banger_catalogs_find (NULL, BANGER_CATALOG_KERNELS, "cloud", &error);
  g_assert_no_error (error);
  g_assert_cmpstr (kernel->word, ==, "apt");
  /* The owner's stand before. */
  g_ptr_array_add (world->own, &catalog);
  put (world->file, "{\"banger-catalog\":1,\"images\":[{\"name\":\"bookworm\",\"source\":\"debian:sid\"}]}");
  expect (world, "bookworm", "debian:sid|*");
  expect (world, "trixie", "debian:trixie|");
  g_autoptr (GPtrArray) all = banger_catalogs_read (world->own);
  g_assert_cmpuint (all->len, ==, 3);
  for (guint i = 0; i < all->len; i++)
    g_assert_nonnull (((const BangerCatalogRead *)all->pdata[i])->catalog);
}

static void
test_no_files (World *world, gconstpointer data)
{
  BangerConfigCatalog catalog = { .file = world->file }, device = { .file = (char *)"/dev/zero" };
  g_ptr_array_add (world->own, &catalog);
  expect (world, "box", "*cannot open*");
  g_assert_cmpint (mkfifo (world->file, 0600), ==, 0); /* nobody writes into it */
  expect (world, "box", "*not a regular file*");
  g_unlink (world->file);
  world->own->pdata[0] = &device;
  expect (world, "box", "*not a regular file*");
  world->own->pdata[0] = &catalog;
  g_autofree char *large = g_strnfill (BANGER_CATALOG_MAX_BYTES + 1, ' ');
  put (world->file, large);
  expect (world, "box", "*of at most 1048576 bytes");
}

#define ADD(name, function) g_test_add (name, World, NULL, set_up, function, tear_down)

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/catalog/signatures", test_signatures);
  g_test_add_func ("/catalog/signatures-refused", test_signatures_refused);
  g_test_add_func ("/catalog/accept", test_accept);
  g_test_add_func ("/catalog/refuse", test_refuse);
  g_test_add_func ("/catalog/bounds", test_bounds);
  ADD ("/catalog/signed-file", test_signed_file);
  ADD ("/catalog/digest-and-none", test_digest_and_none);
  ADD ("/catalog/installed", test_installed);
  ADD ("/catalog/no-files", test_no_files);
  return g_test_run ();
}

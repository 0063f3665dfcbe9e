/* apt-cache and apt-get as child processes, without a shell.
 * Runs in worker threads.
 * Never installs anything, never changes apt's own state. */
#include "manager/fetch/apt.h"

#include <errno.h>
#include <string.h>

#include "common/error.h"
#include "common/folder.h"
#include "manager/core/program.h"

#define MAX_META_STEPS 4
#define MAX_OUTPUT (1u << 20)
#define MAX_SECONDS 3600 /* of one command; a mirror may be slow */
#define PACKAGE_CHARACTERS G_CSET_a_2_z G_CSET_DIGITS "+-."

typedef struct {
  const char *dir;
  GCancellable *cancellable;
  char **own_state; /* options that point apt at lists below dir; NULL: the system's */
} Fetch;

static char *
last_words (const char *text)
{
  g_auto (GStrv) lines = g_strsplit (text ? text : "", "\n", -1);
  g_autoptr (GString) found = g_string_new (NULL);
  for (char **line = lines; *line; line++)
    if (g_str_has_prefix (*line, "E:"))
      g_string_append_printf (found, "%s%s", found->len ? "; " : "", g_strstrip (*line + 2));
  return found->len ? g_strndup (found->str, 400) : g_strdup ("apt gave no reason");
}

/* Returns: (transfer full): what the command printed; NULL if it failed. */
static char *
run_apt (Fetch *fetch, const char *const *arguments, GError **error)
{
  g_autoptr (GStrvBuilder) builder = g_strv_builder_new ();
  g_strv_builder_add (builder, arguments[0]);
  if (fetch->own_state)
    g_strv_builder_addv (builder, (const char **)fetch->own_state);
  g_strv_builder_addv (builder, (const char **)arguments + 1);
  g_auto (GStrv) argv = g_strv_builder_end (builder);

  const BangerProgram program = { (const char *const *)argv, fetch->dir, MAX_OUTPUT, MAX_SECONDS, fetch->cancellable };
  g_autofree char *errors = NULL;
  g_autoptr (GError) local = NULL;
  char *out = banger_program_run (&program, &errors, &local);
  if (out || !g_error_matches (local, BANGER_ERROR, BANGER_ERROR_FAILED)) {
    if (local)
      g_propagate_error (error, g_steal_pointer (&local));
    return out;
  }
  g_autofree char *words = last_words (errors);
  banger_set_error (error, BANGER_ERROR_FAILED, "%s: %s", arguments[0], words);
  return NULL;
}

static gboolean
is_package_name (const char *name)
{
  gsize length = strlen (name);
  return length >= 2 && length <= 128 && g_ascii_isalnum (name[0]) && strspn (name, PACKAGE_CHARACTERS) == length;
}

static gboolean
is_kernel_package (const char *name)
{
  static const char prefix[] = "linux-image-";
  return g_str_has_prefix (name, prefix) && g_ascii_isdigit (name[strlen (prefix)]);
}

/* The value of a control field (deb-control(5)), its first line. */
static char *
control_field (const char *text, const char *field)
{
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  for (char **line = lines; *line && **line != '\0'; line++)
    if (g_str_has_prefix (*line, field) && (*line)[strlen (field)] == ':')
      return g_strstrip (g_strdup (*line + strlen (field) + 1));
  return NULL;
}

/* The kernel package among what a meta package depends on. */
static char *
kernel_dependency (const char *control)
{
  g_autofree char *depends = control_field (control, "Depends");
  g_auto (GStrv) words = g_strsplit_set (depends ? depends : "", " ,|()", -1);
  for (char **word = words; *word; word++)
    if (is_kernel_package (*word) && is_package_name (*word))
      return g_strdup (*word);
  return NULL;
}

static char *
resolve (Fetch *fetch, const char *package, GError **error)
{
  g_autofree char *name = g_strdup (package);
  for (guint step = 0; step < MAX_META_STEPS; step++) {
    const char *const show[] = { "apt-cache", "show", "--no-all-versions", name, NULL };
    g_autofree char *control = run_apt (fetch, show, error);
    if (!control)
      return NULL;
    g_autofree char *version = control_field (control, "Version");
    if (!version) {
      banger_set_error (error, BANGER_ERROR_FAILED, "apt knows no package %s", name);
      return NULL;
    }
    if (is_kernel_package (name))
      return g_strdup_printf ("%s=%s", name, version);
    char *next = kernel_dependency (control);
    if (!next)
      break;
    g_free (name);
    name = next;
  }
  banger_set_error (error, BANGER_ERROR_NO_SUCH_KERNEL, "package %s is no kernel and depends on none", package);
  return NULL;
}

static char *
find_deb (const char *dir, GError **error)
{
  banger_autofolder DIR *listing = banger_folder_open (AT_FDCWD, dir);
  for (const struct dirent *entry; (entry = banger_folder_next (listing));)
    if (g_str_has_suffix (entry->d_name, ".deb"))
      return g_build_filename (dir, entry->d_name, NULL);
  if (errno != 0)
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot list '%s'", dir);
  else
    banger_set_error (error, BANGER_ERROR_FAILED, "apt-get downloaded nothing");
  return NULL;
}

static char *
download (Fetch *fetch, const char *package, GError **error)
{
  g_autofree char *exact = resolve (fetch, package, error);
  if (!exact)
    return NULL;
  const char *const get[] = { "apt-get", "--quiet", "download", exact, NULL };
  g_autofree char *out = run_apt (fetch, get, error);
  return out ? find_deb (fetch->dir, error) : NULL;
}

/* Lists of our own, from the system's sources and keys. */
static gboolean
update_own_lists (Fetch *fetch, GError **error)
{
  g_autofree char *lists = g_build_filename (fetch->dir, "apt", "lists", "partial", NULL);
  g_autofree char *archives = g_build_filename (fetch->dir, "apt", "cache", "archives", "partial", NULL);
  if (g_mkdir_with_parents (lists, 0700) < 0 || g_mkdir_with_parents (archives, 0700) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make apt's folders below %s", fetch->dir);
  g_autoptr (GStrvBuilder) builder = g_strv_builder_new ();
  g_autofree char *lists_option = g_strdup_printf ("Dir::State::lists=%s/apt/lists", fetch->dir);
  g_autofree char *cache_option = g_strdup_printf ("Dir::Cache=%s/apt/cache", fetch->dir);
  g_strv_builder_add_many (builder, "-o", lists_option, "-o", cache_option, "-o", "Acquire::Languages=none", NULL);
  fetch->own_state = g_strv_builder_end (builder);
  const char *const update[] = { "apt-get", "--quiet", "update", NULL };
  g_autofree char *out = run_apt (fetch, update, error);
  return out != NULL;
}

gboolean
banger_kernel_check_package (const char *package, GError **error)
{
  if (is_package_name (package))
    return TRUE;
  g_autofree char *shown = g_strescape (package, NULL);
  return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "'%s' is not the name of a Debian package", shown);
}

char *
banger_kernel_fetch (const char *package, const char *dir, GCancellable *cancellable, GError **error)
{
  Fetch fetch = { .dir = dir, .cancellable = cancellable };
  g_autoptr (GError) first = NULL;
  char *path = download (&fetch, package, &first);
  if (path || !g_error_matches (first, BANGER_ERROR, BANGER_ERROR_FAILED)) {
    if (first)
      g_propagate_error (error, g_steal_pointer (&first));
    return path;
  }

  g_autoptr (GError) second = NULL;
  if (update_own_lists (&fetch, &second))
    path = download (&fetch, package, &second);
  g_strfreev (fetch.own_state);
  if (!path && g_error_matches (second, BANGER_ERROR, BANGER_ERROR_CANCELLED))
    g_propagate_error (error, g_steal_pointer (&second));
  else if (!path)
    banger_set_error (error, BANGER_ERROR_NO_SUCH_KERNEL, "cannot fetch package %s: %s (with fresh lists: %s)", package,
                      first->message, second->message);
  return path;
}

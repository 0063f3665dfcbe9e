/* image build, import, pull, commit, cache, verify, warm, export, tag, promote, register, list, show, delete.
 * Called through the command table.
 * Never reads an image itself: the manager does, with the same rights. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/available.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/verbs.h"
#include "cli/vm-options.h"
#include "common/fd.h"
#include "common/size.h"
#include "common/std-fds.h"
#include "common/validate.h"

#define MAX_NAME 63                                              /* of banger_name_check() */
#define VERIFY_USEC (G_GUINT64_CONSTANT (3600) * G_USEC_PER_SEC) /* of a large image on a slow disk */
#define PRUNE_USEC (300 * G_USEC_PER_SEC)                        /* many blobs on a slow disk */

static int
run_image_job (BangerClient *client, sd_bus_message *call, const BangerInvocation *invocation, const char *name,
               const char *what, GError **error)
{
  g_autofree char *done = g_strdup_printf (_ ("%s is ready"), name);
  const BangerJobText text = { name, what, done, banger_invocation_flag (invocation, "quiet"), FALSE };
  return banger_client_run_job (client, call, &text, NULL, error) ? 0 : -1;
}

/* Where a Containerfile is, and its context; %NULL: it is a Debian. */
typedef struct {
  char *file, *context;
} Recipe;

static void
recipe_clear (Recipe *recipe)
{
  g_free (recipe->file);
  g_free (recipe->context);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Recipe, recipe_clear)

static gboolean
find_recipe (const BangerInvocation *invocation, Recipe *recipe, GError **error)
{
  const char *file = banger_invocation_string (invocation, "file"),
             *context = banger_invocation_argument (invocation, 1);
  if (!file && context)
    return banger_usage_error (error, _ ("a context goes with a Containerfile: --file CONTAINERFILE")) >= 0;
  if (!file)
    return TRUE;
  if (banger_invocation_string (invocation, "suite") || banger_invocation_string (invocation, "mirror")
      || *banger_invocation_strv (invocation, "package"))
    return banger_usage_error (error, _ ("--suite, --mirror and --package are of Debian, not of a Containerfile")) >= 0;
  recipe->file = banger_absolute_path (file, error);
  recipe->context = recipe->file ? banger_absolute_path (context ? context : ".", error) : NULL;
  return recipe->context != NULL;
}

int
banger_image_build_command (const BangerInvocation *invocation, GError **error)
{
  const char *name = banger_new_name (invocation);
  g_auto (Recipe) recipe = { NULL, NULL };
  if (!banger_new_name_check (name, _ ("image name"), error) || !find_recipe (invocation, &recipe, error))
    return -1;
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_JOBS, error);
  if (!client)
    return -1;

  const char *const *packages = banger_invocation_strv (invocation, "package");
  guint64 size = banger_invocation_number (invocation, "size");
  static const char *const strings[] = { "suite", "mirror" };
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, NULL, "BuildImage");
  sd_bus_message_append (call, "s", name);
  sd_bus_message_open_container (call, 'a', "{sv}");
  for (gsize i = 0; i < G_N_ELEMENTS (strings); i++)
    if (banger_invocation_string (invocation, strings[i]))
      sd_bus_message_append (call, "{sv}", strings[i], "s", banger_invocation_string (invocation, strings[i]));
  banger_append_strv_option (call, "packages", packages);
  if (recipe.file) {
    banger_append_path_option (call, "containerfile", recipe.file);
    banger_append_path_option (call, "context", recipe.context);
  }
  if (size != 0)
    sd_bus_message_append (call, "{sv}", "size-bytes", "t", size);
  sd_bus_message_close_container (call);
  g_autofree char *what = g_strdup_printf (_ ("cannot build %s"), name);
  return run_image_job (client, call, invocation, name, what, error);
}

/* Returns: (transfer full): @text as the manager wants it: "WORD:PATH[:REFERENCE]" with the path made absolute, or a path,
 * which must be there. NULL with a usage error. */
static char *
resolve_source (const char *text, GError **error)
{
  static const char *const words[] = { "oci:", "oci-archive:", "docker-archive:" };
  if (g_str_has_prefix (text, "docker://") || g_str_has_prefix (text, "containers-storage:")
      || g_str_has_prefix (text, "catalog:"))
    return g_strdup (text);
  for (gsize i = 0; i < G_N_ELEMENTS (words); i++)
    if (g_str_has_prefix (text, words[i])) {
      g_autofree char *path = banger_absolute_path (text + strlen (words[i]), error);
      return path ? g_strconcat (words[i], path, NULL) : NULL;
    }
  g_autofree char *path = banger_absolute_path (text, error);
  if (!path)
    return NULL;
  if (access (path, R_OK) == 0)
    return g_steal_pointer (&path);
  banger_usage_error (error, _ ("cannot read '%s': %s"), text, g_strerror (errno));
  return NULL;
}

/* @source "": stdin. */
static int
import (const BangerInvocation *invocation, const char *name, const char *source, const char *failure, GError **error)
{
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_JOBS, error);
  if (!client)
    return -1;
  guint64 size = banger_invocation_number (invocation, "size");
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, NULL, "ImportImage");
  sd_bus_message_append (call, "s", name);
  banger_append_path (call, source);
  sd_bus_message_open_container (call, 'a', "{sv}");
  banger_append_path_bytes (call, "path-bytes", source);
  if (*source == '\0')
    sd_bus_message_append (call, "{sv}", "fd", "h", STDIN_FILENO);
  if (size != 0)
    sd_bus_message_append (call, "{sv}", "size-bytes", "t", size);
  sd_bus_message_close_container (call);
  return run_image_job (client, call, invocation, name, failure, error);
}

/* What a shell makes of <(docker export box): by such a name the manager would find a descriptor of its own. */
static gboolean
names_descriptor (const char *file)
{
  return strcmp (file, "/dev/stdin") == 0 || g_str_has_prefix (file, "/dev/fd/")
         || g_str_has_prefix (file, "/proc/self/fd/");
}

static gboolean
take_as_stdin (const char *file, GError **error)
{
  int fd = open (file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
  gboolean taken = fd >= 0 && dup2 (fd, STDIN_FILENO) >= 0;
  if (!taken)
    banger_usage_error (error, _ ("cannot read '%s': %s"), file, g_strerror (errno));
  banger_clear_fd (&fd);
  return taken;
}

int
banger_image_import_command (const BangerInvocation *invocation, GError **error)
{
  const char *name = banger_invocation_argument (invocation, 0), *file = banger_invocation_argument (invocation, 1);
  gboolean named = names_descriptor (file), from_stdin = named || strcmp (file, "-") == 0;
  if (!banger_new_name_check (name, _ ("image name"), error) || (named && !take_as_stdin (file, error)))
    return -1;
  if (from_stdin && !named && banger_std_fds_was_closed (STDIN_FILENO))
    return banger_usage_error (error, _ ("stdin is closed; pipe a tar archive into it, or name a file"));
  if (from_stdin && isatty (STDIN_FILENO))
    return banger_usage_error (error, _ ("stdin is a terminal; pipe a tar archive into it, or name a file"));
  g_autofree char *source = from_stdin ? g_strdup ("") : resolve_source (file, error);
  g_autofree char *failure = g_strdup_printf (_ ("cannot import %s"), name);
  return source ? import (invocation, name, source, failure, error) : -1;
}

/* "ghcr.io/owner/Box_1:v2@sha256:..." -> "box-1-v2": what a reference is called here unless somebody says. */
static char *
name_of_reference (const char *reference)
{
  const char *slash = strrchr (reference, '/'), *base = slash ? slash + 1 : reference;
  g_autofree char *name = g_ascii_strdown (base, (gssize)strcspn (base, "@"));
  if (g_str_has_suffix (name, ":latest"))
    name[strlen (name) - strlen (":latest")] = '\0';
  g_strcanon (name, G_CSET_a_2_z G_CSET_DIGITS, '-');
  if (strlen (name) > MAX_NAME)
    name[MAX_NAME] = '\0';
  for (gsize length = strlen (name); length > 0 && name[length - 1] == '-'; length--)
    name[length - 1] = '\0';
  return g_strdup (name + strspn (name, "-"));
}

int
banger_image_pull_command (const BangerInvocation *invocation, GError **error)
{
  static const char prefix[] = "docker://", named[] = "catalog:";
  const char *reference = banger_invocation_argument (invocation, 0),
             *given = banger_invocation_argument (invocation, 1);
  gboolean plain = g_str_has_prefix (reference, prefix);
  if (plain)
    reference += strlen (prefix);
  g_autofree char *name = given ? g_strdup (given) : name_of_reference (reference);
  if (!banger_new_name_check (name, _ ("image name"), error))
    return -1;
  g_autofree char *source = g_strconcat (plain ? prefix : named, reference, NULL);
  g_autofree char *failure = g_strdup_printf (_ ("cannot pull %s"), reference);
  return import (invocation, name, source, failure, error);
}

int
banger_image_commit_command (const BangerInvocation *invocation, GError **error)
{
  const char *vm = banger_invocation_argument (invocation, 0), *name = banger_invocation_argument (invocation, 1);
  if (!banger_new_name_check (name, _ ("image name"), error))
    return -1;
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_JOBS, error);
  if (!client)
    return -1;
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, NULL, "CommitImage");
  sd_bus_message_append (call, "ssa{sv}", name, vm, 0);
  g_autofree char *failure = g_strdup_printf (_ ("cannot make an image of %s"), vm);
  return run_image_job (client, call, invocation, name, failure, error);
}

int
banger_image_cache_command (const BangerInvocation *invocation, GError **error)
{
  const char *action = banger_invocation_argument (invocation, 0);
  gboolean dry_run = banger_invocation_flag (invocation, "dry-run");
  guint64 bytes = 0, blobs = 0;
  if (strcmp (action, "prune") != 0)
    return banger_usage_error (error, _ ("'image cache' knows 'prune' and not '%s'"), action);
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_PLAIN, error);
  if (!client)
    return -1;
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, NULL, "PruneImageCache");
  sd_bus_message_append (call, "a{sv}", 1, "dry-run", "b", dry_run);
  g_autoptr (sd_bus_message) reply = banger_client_call (client, call, PRUNE_USEC, error);
  if (!reply)
    return -1;
  sd_bus_message_read (reply, "tt", &bytes, &blobs);
  g_autofree char *size = bytes > 0 ? banger_size_format (bytes) : g_strdup ("0");
  g_autofree char *number = g_strdup_printf ("%" G_GUINT64_FORMAT, blobs);
  g_print (dry_run ? _ ("%s in %s blobs would be removed\n") : _ ("%s in %s blobs are removed\n"), size, number);
  return 0;
}

int
banger_image_warm_command (const BangerInvocation *invocation, GError **error)
{
  const char *name = banger_invocation_argument (invocation, 0);
  if (banger_vm_sizes_check (invocation, error) < 0)
    return -1;
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_JOBS, error);
  if (!client)
    return -1;
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, NULL, "WarmImage");
  sd_bus_message_append (call, "s", name);
  sd_bus_message_open_container (call, 'a', "{sv}");
  if (banger_invocation_string (invocation, "kernel"))
    sd_bus_message_append (call, "{sv}", "kernel", "s", banger_invocation_string (invocation, "kernel"));
  banger_vm_append_sizes (call, invocation);
  sd_bus_message_close_container (call);
  g_autofree char *failure = g_strdup_printf (_ ("cannot warm %s"), name);
  g_autofree char *done = g_strdup_printf (_ ("%s is warm"), name);
  const BangerJobText text = { name, failure, done, banger_invocation_flag (invocation, "quiet"), FALSE };
  return banger_client_run_job (client, call, &text, NULL, error) ? 0 : -1;
}

int
banger_image_export_command (const BangerInvocation *invocation, GError **error)
{
  const char *name = banger_invocation_argument (invocation, 0),
             *path = banger_invocation_string (invocation, "output"),
             *format = banger_invocation_string (invocation, "format");
  if (!path)
    return banger_usage_error (error, _ ("give the file to write: -o FILE"));
  g_auto (BangerOutput) output = { .fd = -1 };
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_JOBS, error);
  if (!client || !banger_output_open (&output, path, error))
    return -1;
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, NULL, "ExportImage");
  sd_bus_message_append (call, "s", name);
  sd_bus_message_open_container (call, 'a', "{sv}");
  sd_bus_message_append (call, "{sv}", "fd", "h", output.fd);
  if (format)
    sd_bus_message_append (call, "{sv}", "format", "s", format);
  sd_bus_message_close_container (call);
  g_autofree char *failure = g_strdup_printf (_ ("cannot export %s"), name);
  const BangerJobText text = { name, failure, NULL, banger_invocation_flag (invocation, "quiet"), FALSE };
  if (!banger_client_run_job (client, call, &text, NULL, error) || !banger_output_finish (&output, error))
    return -1;
  if (!text.quiet)
    g_printerr (_ ("%s is written to %s\n"), name, path);
  return 0;
}

int
banger_image_tag_command (const BangerInvocation *invocation, GError **error)
{
  const char *name = banger_invocation_argument (invocation, 0), *tag = banger_invocation_argument (invocation, 1);
  if (!banger_new_name_check (tag, _ ("image name"), error))
    return -1;
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_PLAIN, error);
  if (!client)
    return -1;
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, NULL, "TagImage");
  sd_bus_message_append (call, "ssa{sv}", name, tag, 0);
  g_autoptr (sd_bus_message) reply = banger_client_call (client, call, 0, error);
  if (reply && !banger_invocation_flag (invocation, "quiet"))
    g_printerr (_ ("%s is also called %s\n"), name, tag);
  return reply ? 0 : -1;
}

int
banger_image_promote_command (const BangerInvocation *invocation, GError **error)
{
  const char *name = banger_invocation_argument (invocation, 0), *old = NULL;
  gboolean quiet = banger_invocation_flag (invocation, "quiet");
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_PLAIN, error);
  if (!client)
    return -1;
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, NULL, "PromoteImage");
  sd_bus_message_append (call, "sa{sv}", name, 0);
  g_autoptr (sd_bus_message) reply = banger_client_call (client, call, 0, error);
  if (!reply)
    return -1;
  if (!quiet)
    g_printerr (_ ("new VMs are made from %s\n"), name);
  if (!quiet && sd_bus_message_read (reply, "s", &old) > 0 && *old != '\0')
    g_printerr (_ ("the image that was called default is called %s now\n"), old);
  return 0;
}

/* Its other name goes when the image is made, if it still is a name of that file. */
int
banger_image_register_command (const BangerInvocation *invocation, GError **error)
{
  struct stat before, now;
  const char *name = banger_invocation_argument (invocation, 0), *file = banger_invocation_argument (invocation, 1);
  if (!banger_new_name_check (name, _ ("image name"), error))
    return -1;
  g_autofree char *path = banger_absolute_path (file, error);
  if (path && (lstat (path, &before) < 0 || !S_ISREG (before.st_mode)))
    return banger_usage_error (error, _ ("'%s' is no file; banger image import takes what else there is"), file);
  g_autoptr (BangerClient) client = path ? banger_client_new (BANGER_CLIENT_JOBS, error) : NULL;
  if (!client)
    return -1;
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, NULL, "ImportImage");
  sd_bus_message_append (call, "s", name);
  banger_append_path (call, path);
  sd_bus_message_open_container (call, 'a', "{sv}");
  banger_append_path_bytes (call, "path-bytes", path);
  sd_bus_message_append (call, "{sv}", "link", "b", TRUE);
  sd_bus_message_close_container (call);
  g_autofree char *failure = g_strdup_printf (_ ("cannot register %s"), name);
  if (run_image_job (client, call, invocation, name, failure, error) < 0)
    return -1;
  gboolean same = lstat (path, &now) == 0 && now.st_dev == before.st_dev && now.st_ino == before.st_ino;
  if (!same || unlink (path) == 0)
    return 0;
  g_printerr (_ ("cannot remove %s: %s; remove it yourself, VMs of %s do not start before that\n"), file,
              g_strerror (errno), name);
  return 1;
}

int
banger_image_list (const BangerInvocation *invocation, GError **error)
{
  if (banger_invocation_flag (invocation, "available"))
    return banger_available_list (invocation, "ListAvailableImages", error);
  return banger_list (invocation, &banger_kind_image, NULL, error);
}

int
banger_image_show (const BangerInvocation *invocation, GError **error)
{
  return banger_show (invocation, &banger_kind_image, error);
}

int
banger_image_verify_command (const BangerInvocation *invocation, GError **error)
{
  static const BangerVerb verb = { "VerifyImage", N_ ("cannot verify %s"), N_ ("%s is as it was made"), NULL, TRUE,
                                   VERIFY_USEC };
  return banger_run_each (invocation, &verb, error);
}

int
banger_image_delete_command (const BangerInvocation *invocation, GError **error)
{
  static const BangerVerb verb = { "DeleteImage", N_ ("cannot delete %s"), N_ ("%s is deleted"), NULL, TRUE };
  return banger_run_each (invocation, &verb, error);
}

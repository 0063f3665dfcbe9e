/* What vm create and vm run have in common.
 * Never decides a default that the manager has, nor what a repository is. */
#include "cli/vm-options.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/verbs.h"
#include "common/bytes.h"
#include "common/config.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/ids.h"
#include "common/log.h"

#define CHECK_USEC (75 * G_USEC_PER_SEC) /* the manager's own bound is 60 s */
#define MIB (G_GUINT64_CONSTANT (1) << 20)

int
banger_vm_sizes_check (const BangerInvocation *invocation, GError **error)
{
  if (banger_invocation_number (invocation, "memory") % MIB == 0)
    return 0;
  return banger_usage_error (error, _ ("--memory: '%s' is not a whole number of MiB"),
                             banger_invocation_string (invocation, "memory"));
}

int
banger_vm_setup_read (const BangerInvocation *invocation, char **ret, GError **error)
{
  const char *path = banger_invocation_string (invocation, "setup");
  struct stat st;
  *ret = NULL;
  if (!path)
    return 0;
  banger_autofd int fd = open (path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (fd < 0 || fstat (fd, &st) < 0)
    return banger_usage_error (error, _ ("--setup: cannot read '%s': %s"), path, g_strerror (errno));
  g_autofree char *text = g_malloc0 (BANGER_SETUP_MAX_BYTES + 2);
  ssize_t n = S_ISREG (st.st_mode) ? banger_read_at (fd, text, BANGER_SETUP_MAX_BYTES + 1, 0) : -1;
  if (n <= 0 || n > BANGER_SETUP_MAX_BYTES || !g_utf8_validate (text, n, NULL))
    return banger_usage_error (error, _ ("--setup: '%s' is not a script: a text file of 1 to %d bytes is needed"), path,
                               BANGER_SETUP_MAX_BYTES);
  *ret = g_steal_pointer (&text);
  return 0;
}

int
banger_vm_options_check (const BangerInvocation *invocation, GError **error)
{
  if (banger_invocation_flag (invocation, "nat") && banger_invocation_flag (invocation, "no-nat"))
    return banger_usage_error (error, _ ("--nat and --no-nat exclude each other"));
  return banger_vm_sizes_check (invocation, error);
}

void
banger_vm_append_sizes (sd_bus_message *message, const BangerInvocation *invocation)
{
  guint32 vcpus = (guint32)banger_invocation_number (invocation, "vcpu");
  guint32 memory = (guint32)(banger_invocation_number (invocation, "memory") / MIB);
  guint64 disk = banger_invocation_number (invocation, "disk-size");
  if (vcpus != 0)
    sd_bus_message_append (message, "{sv}", "vcpu", "u", vcpus);
  if (memory != 0)
    sd_bus_message_append (message, "{sv}", "memory-mib", "u", memory);
  if (disk != 0)
    sd_bus_message_append (message, "{sv}", "disk-bytes", "t", disk);
}

void
banger_vm_append_reach (sd_bus_message *message, const BangerInvocation *invocation)
{
  banger_append_strv_option (message, "link", banger_invocation_strv (invocation, "link"));
  banger_append_strv_option (message, "allow-host", banger_invocation_strv (invocation, "allow-host"));
}

sd_bus_message *
banger_vm_create_message (BangerClient *client, const char *name, const BangerInvocation *invocation,
                          const BangerVmPurpose *purpose)
{
  const char *image = banger_invocation_string (invocation, "image");
  const char *kernel = banger_invocation_string (invocation, "kernel");
  const char *init = banger_invocation_string (invocation, "init");

  sd_bus_message *message = banger_client_message (client, NULL, NULL, "CreateVM");
  sd_bus_message_append (message, "s", name);
  sd_bus_message_open_container (message, 'a', "{sv}");
  if (image)
    sd_bus_message_append (message, "{sv}", "image", "s", image);
  if (kernel)
    sd_bus_message_append (message, "{sv}", "kernel", "s", kernel);
  if (init)
    sd_bus_message_append (message, "{sv}", "init", "s", init);
  banger_vm_append_sizes (message, invocation);
  if (banger_invocation_flag (invocation, "nat") || banger_invocation_flag (invocation, "no-nat"))
    sd_bus_message_append (message, "{sv}", "nat", "b", (int)banger_invocation_flag (invocation, "nat"));
  if (purpose->setup)
    sd_bus_message_append (message, "{sv}", "setup", "s", purpose->setup);
  banger_append_strv_option (message, "publish", banger_invocation_strv (invocation, "publish"));
  if (banger_invocation_flag (invocation, "no-publish"))
    sd_bus_message_append (message, "{sv}", "no-publish", "b", TRUE);
  banger_vm_append_reach (message, invocation);
  if (purpose->start)
    sd_bus_message_append (message, "{sv}", "start", "b", TRUE);
  if (purpose->ephemeral)
    sd_bus_message_append (message, "{sv}{sv}", "ephemeral", "b", TRUE, "follow", "b", TRUE);
  sd_bus_message_close_container (message);
  return message;
}

char *
banger_vm_name_new (const char *hint)
{
  GString *name = g_string_new (NULL);
  for (const char *c = hint ? hint : ""; *c != '\0' && name->len < 40; c++) {
    if (g_ascii_isalnum (*c))
      g_string_append_c (name, g_ascii_tolower (*c));
    else if (name->len > 0 && name->str[name->len - 1] != '-')
      g_string_append_c (name, '-');
  }
  if (name->len == 0)
    g_string_append (name, "vm");
  g_autofree char *id = banger_id_new ();
  g_string_append_printf (name, "%s%.6s", name->str[name->len - 1] == '-' ? "" : "-", id);
  return g_string_free (name, FALSE);
}

/* @ret_depth: 0: the whole history; as it was if nobody says it. */
static gboolean
read_depth (const BangerInvocation *invocation, guint32 *ret_depth, GError **error)
{
  const char *text = banger_invocation_string (invocation, "depth");
  guint64 depth = 0;
  if (!text)
    return TRUE;
  if (strcmp (text, "all") != 0 && !g_ascii_string_to_unsigned (text, 10, 0, G_MAXINT32, &depth, NULL)) {
    banger_usage_error (error, _ ("--depth '%s' is neither a number of commits nor all"), text);
    return FALSE;
  }
  if (ret_depth)
    *ret_depth = (guint32)depth;
  return TRUE;
}

int
banger_workspace_options_check (const BangerInvocation *invocation, GError **error)
{
  if (banger_invocation_string (invocation, "from") && !banger_invocation_string (invocation, "branch"))
    return banger_usage_error (error, _ ("--from says where the branch of --branch begins: give that, too"));
  if (banger_invocation_flag (invocation, "no-git")
      && (banger_invocation_string (invocation, "branch") || banger_invocation_string (invocation, "depth")
          || banger_invocation_flag (invocation, "tracked-only")))
    return banger_usage_error (
        error, _ ("--no-git copies a plain folder: it goes with neither --branch, --from, --depth nor --tracked-only"));
  return read_depth (invocation, NULL, error) ? 0 : -1;
}

/* What is asked for of a tree. */
typedef struct {
  const char *branch, *from;
  guint32 depth; /* G_MAXUINT32: nobody says */
  gboolean tracked_only, no_git;
} Asked;

/* Whether @word stands among those of the property; @ret_value: (nullable): what follows it. */
static gboolean
was_asked (JsonObject *before, const char *word, const char **ret_value)
{
  JsonArray *words = before && json_object_has_member (before, "WorkspaceOptions")
                         ? json_object_get_array_member (before, "WorkspaceOptions")
                         : NULL;
  for (guint i = 0; words && i < json_array_get_length (words); i++) {
    const char *one = json_array_get_string_element (words, i);
    if (ret_value ? g_str_has_prefix (one, word) : g_str_equal (one, word)) {
      if (ret_value)
        *ret_value = one + strlen (word);
      return TRUE;
    }
  }
  return FALSE;
}

static Asked
read_asked (const BangerInvocation *invocation, JsonObject *before)
{
  Asked asked = { .depth = G_MAXUINT32 };
  const char *depth;
  guint64 number;
  if (banger_command_find_option (invocation->command, "depth", strlen ("depth"))) {
    asked.branch = banger_invocation_string (invocation, "branch");
    asked.from = banger_invocation_string (invocation, "from");
    asked.tracked_only = banger_invocation_flag (invocation, "tracked-only");
    asked.no_git = banger_invocation_flag (invocation, "no-git");
    (void)read_depth (invocation, &asked.depth, NULL);
  }
  if (asked.no_git)
    return asked;
  gboolean plain = asked.depth == G_MAXUINT32 && !asked.tracked_only && !asked.branch;
  asked.no_git = plain && was_asked (before, "no-git", NULL);
  asked.tracked_only = asked.tracked_only || was_asked (before, "tracked-only", NULL);
  if (asked.depth == G_MAXUINT32 && was_asked (before, "depth=", &depth)
      && g_ascii_string_to_unsigned (depth, 10, 0, G_MAXINT32, &number, NULL))
    asked.depth = (guint32)number;
  return asked;
}

/* @list: a file for names, -1: none. */
static void
append_workspace (sd_bus_message *call, const char *absolute, const Asked *asked, int list)
{
  sd_bus_message_open_container (call, 'a', "{sv}");
  banger_append_path_bytes (call, "path-bytes", absolute);
  if (asked->tracked_only)
    sd_bus_message_append (call, "{sv}", "tracked-only", "b", TRUE);
  if (asked->branch)
    sd_bus_message_append (call, "{sv}", "branch", "s", asked->branch);
  if (asked->from)
    sd_bus_message_append (call, "{sv}", "from", "s", asked->from);
  if (asked->depth != G_MAXUINT32)
    sd_bus_message_append (call, "{sv}", "depth", "u", asked->depth);
  if (asked->no_git)
    sd_bus_message_append (call, "{sv}", "no-git", "b", TRUE);
  if (list >= 0)
    sd_bus_message_append (call, "{sv}", "list", "h", list);
  sd_bus_message_close_container (call);
}

/* The answer to CheckWorkspace. */
static char *
read_folder (sd_bus_message *reply, char ***ret_notes, GError **error)
{
  const void *bytes;
  size_t length;
  int r = sd_bus_message_read_array (reply, 'y', &bytes, &length);
  g_autofree char *folder = r >= 0 ? g_strndup (bytes, length) : NULL;
  if (r >= 0 && ret_notes)
    r = sd_bus_message_read_strv (reply, ret_notes);
  if (r >= 0)
    return g_steal_pointer (&folder);
  banger_set_error_errno (error, BANGER_ERROR_FAILED, -r, _ ("the manager's answer cannot be understood"));
  return NULL;
}

static gboolean
check_path (const char *path, const char *absolute, GError **error)
{
  struct stat st;
  if (stat (absolute, &st) < 0) {
    if (errno == ENOENT && *path != '\0' && !strchr (path, '/'))
      banger_usage_error (
          error, _ ("there is no directory '%s' here; if it is a command, put -- before it: banger vm run -- %s"), path,
          path);
    else
      banger_usage_error (error, _ ("cannot use '%s': %s"), path, g_strerror (errno));
    return FALSE;
  }
  if (!S_ISDIR (st.st_mode)) {
    banger_usage_error (error, _ ("'%s' is not a directory; PATH is a git work tree or a directory in one"), path);
    return FALSE;
  }
  return TRUE;
}

/* @ret_notes: (nullable): what stays behind; NULL: that is told by the import. */
static char *
check (BangerClient *client, const char *path, const char *absolute, const Asked *asked, int list, char ***ret_notes,
       GError **error)
{
  if (!check_path (path, absolute, error))
    return NULL;
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, NULL, "CheckWorkspace");
  banger_append_path (call, absolute);
  append_workspace (call, absolute, asked, list);
  g_autoptr (sd_bus_message) reply = banger_client_call (client, call, CHECK_USEC, error);
  return reply ? read_folder (reply, ret_notes, error) : NULL;
}

char *
banger_workspace_check (BangerClient *client, const char *path, const char *absolute,
                        const BangerInvocation *invocation, JsonObject *before, GError **error)
{
  const Asked asked = read_asked (invocation, before);
  return check (client, path, absolute, &asked, -1, NULL, error);
}

static guint
print_names (FILE *file)
{
  size_t size = 0;
  guint count = 0;
  char *line = NULL;
  rewind (file);
  for (; getdelim (&line, &size, '\0', file) > 0; count++) {
    g_autofree char *shown = banger_log_escape (line, PATH_MAX);
    g_print ("%s\n", shown);
  }
  free (line);
  return count;
}

gboolean
banger_workspace_dry_run (BangerClient *client, const char *path, const BangerInvocation *invocation,
                          JsonObject *before, GError **error)
{
  const Asked asked = read_asked (invocation, before);
  g_autofree char *absolute = banger_absolute_path (path, error);
  g_auto (GStrv) notes = NULL;
  if (!absolute)
    return FALSE;
  FILE *file = tmpfile ();
  if (!file)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot make a temporary file"));
  g_autofree char *folder = check (client, path, absolute, &asked, fileno (file), &notes, error);
  guint count = folder ? print_names (file) : 0;
  fclose (file);
  if (!folder)
    return FALSE;
  g_autofree char *shown = banger_log_escape (folder, PATH_MAX);
  for (char **note = notes; note && *note; note++)
    g_printerr ("%s\n", *note);
  g_printerr (g_dngettext (NULL, "%u file would go to %s\n", "%u files would go to %s\n", count), count, shown);
  return TRUE;
}

gboolean
banger_workspace_import (BangerClient *client, const char *name, const char *absolute,
                         const BangerInvocation *invocation, JsonObject *before, GError **error)
{
  const Asked asked = read_asked (invocation, before);
  g_autofree char *what = g_strdup_printf (_ ("cannot copy %s into %s"), absolute, name);
  const BangerJobText text = { name, what, NULL, banger_invocation_flag (invocation, "quiet"), FALSE };
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, NULL, "ImportWorkspace");
  sd_bus_message_append (call, "s", name);
  banger_append_path (call, absolute);
  append_workspace (call, absolute, &asked, -1);
  return banger_client_run_job (client, call, &text, NULL, error);
}

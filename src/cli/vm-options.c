/* What vm create and vm run have in common.
 * Called by vm.c and vm-run.c.
 * Never decides a default that the manager has. */
#include "cli/vm-options.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/ids.h"

#define MIB (G_GUINT64_CONSTANT (1) << 20)

int
banger_vm_options_check (const BangerInvocation *invocation, GError **error)
{
  guint64 memory = banger_invocation_number (invocation, "memory");
  const char *text = banger_invocation_string (invocation, "memory");
  if (memory % MIB != 0)
    return banger_usage_error (error, _ ("--memory: '%s' is not a whole number of MiB"), text);
  if (memory / MIB > G_MAXUINT32)
    return banger_usage_error (error, _ ("--memory: '%s' is too much"), text);
  return 0;
}

sd_bus_message *
banger_vm_create_message (BangerClient *client, const char *name, const BangerInvocation *invocation,
                          const BangerVmPurpose *purpose)
{
  const char *image = banger_invocation_string (invocation, "image");
  const char *kernel = banger_invocation_string (invocation, "kernel");
  guint32 vcpus = (guint32)banger_invocation_number (invocation, "vcpu");
  guint32 memory = (guint32)(banger_invocation_number (invocation, "memory") / MIB);
  guint64 disk = banger_invocation_number (invocation, "disk-size");

  sd_bus_message *message = banger_client_message (client, NULL, NULL, "CreateVM");
  sd_bus_message_append (message, "s", name);
  sd_bus_message_open_container (message, 'a', "{sv}");
  if (image != NULL)
    sd_bus_message_append (message, "{sv}", "image", "s", image);
  if (kernel != NULL)
    sd_bus_message_append (message, "{sv}", "kernel", "s", kernel);
  if (vcpus != 0)
    sd_bus_message_append (message, "{sv}", "vcpu", "u", vcpus);
  if (memory != 0)
    sd_bus_message_append (message, "{sv}", "memory-mib", "u", memory);
  if (disk != 0)
    sd_bus_message_append (message, "{sv}", "disk-bytes", "t", disk);
  if (banger_invocation_flag (invocation, "no-nat"))
    sd_bus_message_append (message, "{sv}", "nat", "b", FALSE);
  if (purpose->start)
    sd_bus_message_append (message, "{sv}", "start", "b", TRUE);
  if (purpose->ephemeral)
    sd_bus_message_append (message, "{sv}", "ephemeral", "b", TRUE);
  sd_bus_message_close_container (message);
  return message;
}

char *
banger_vm_name_new (const char *hint)
{
  GString *name = g_string_new (NULL);
  for (const char *c = hint != NULL ? hint : ""; *c != '\0' && name->len < 40; c++) {
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

void
banger_workspace_free (BangerWorkspace *workspace)
{
  if (workspace == NULL)
    return;
  g_free (workspace->path);
  g_free (workspace->repo);
  g_free (workspace);
}

/* The nearest directory from @path upwards that holds .git. Returns: (transfer full) (nullable). */
static char *
find_top (const char *path)
{
  g_autofree char *at = g_strdup (path);
  for (;;) {
    g_autofree char *git = g_build_filename (at, ".git", NULL);
    if (g_file_test (git, G_FILE_TEST_EXISTS))
      return g_steal_pointer (&at);
    char *parent = g_path_get_dirname (at);
    gboolean top = strcmp (parent, at) == 0;
    g_free (at);
    at = parent;
    if (top)
      return NULL;
  }
}

BangerWorkspace *
banger_workspace_find (const char *path, GError **error)
{
  char *real = realpath (path, NULL);
  if (real == NULL && errno == ENOENT && strchr (path, '/') == NULL) {
    banger_usage_error (
        error, _ ("there is no directory '%s' here; if it is a command, put -- before it: banger vm run -- %s"), path,
        path);
    return NULL;
  }
  if (real == NULL) {
    banger_usage_error (error, _ ("cannot use '%s': %s"), path, g_strerror (errno));
    return NULL;
  }
  g_autofree char *absolute = g_strdup (real);
  free (real);
  if (!g_file_test (absolute, G_FILE_TEST_IS_DIR)) {
    banger_usage_error (error, _ ("'%s' is not a directory; PATH is the top of a git work tree"), path);
    return NULL;
  }
  g_autofree char *top = find_top (absolute);
  if (top == NULL || strcmp (top, "/") == 0) {
    banger_usage_error (error, _ ("'%s' is not in a git work tree; make one with: git init %s"), path, path);
    return NULL;
  }
  BangerWorkspace *workspace = g_new0 (BangerWorkspace, 1);
  workspace->repo = g_path_get_basename (top);
  workspace->path = g_steal_pointer (&absolute);
  return workspace;
}

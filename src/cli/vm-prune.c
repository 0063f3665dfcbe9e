/* vm prune: deletes the VMs that are stopped, after they were shown.
 * Called through the command table.
 * Never deletes what was not shown, nor what has been started since, also if it is stopped again: the manager is given ids,
 * how often each had been started, and no force. */
#include <glib/gi18n.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/objects.h"
#include "cli/signals.h"
#include "cli/verbs.h"

/* A suspended one has a guest on the disk, an unreadable one may run. */
static GPtrArray *
list_stopped (GError **error)
{
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_PLAIN, error);
  GPtrArray *vms = client ? banger_objects_list (client, &banger_kind_vm, error) : NULL;
  for (guint i = vms ? vms->len : 0; i > 0; i--)
    if (strcmp (banger_property_string (vms->pdata[i - 1], "State"), "stopped") != 0)
      g_ptr_array_remove_index (vms, i - 1);
  return vms;
}

static void
print_json (GPtrArray *vms)
{
  JsonArray *array = json_array_new ();
  for (guint i = 0; i < vms->len; i++)
    json_array_add_element (array, banger_objects_to_json (&banger_kind_vm, vms->pdata[i]));
  JsonNode *node = json_node_new (JSON_NODE_ARRAY);
  json_node_take_array (node, array);
  banger_json_print (node);
}

/* Returns: whether the answer was yes, as this locale writes it. */
static gboolean
ask (guint n)
{
  char line[64];
  g_printerr (ngettext ("Delete %u VM with its disks and snapshots? [y/N] ",
                        "Delete %u VMs with their disks and snapshots? [y/N] ", n),
              n);
  fflush (stderr);
  return fgets (line, sizeof line, stdin) && rpmatch (line) == 1;
}

/* Returns: 0, or the status of the first failure. @vms: those that are deleted afterwards. */
static int
delete_all (BangerClient *client, const BangerInvocation *invocation, GPtrArray *vms)
{
  int status = 0;
  for (guint i = 0; i < vms->len && banger_signals_first () == 0;) {
    g_autoptr (GError) error = NULL;
    const char *name = banger_property_string (vms->pdata[i], "Name");
    g_autofree char *what = g_strdup_printf (_ ("cannot delete %s"), name);
    g_autofree char *done = g_strdup_printf (_ ("%s is deleted"), name);
    const BangerJobText text = { name, what, done, banger_invocation_flag (invocation, "quiet"), FALSE };
    g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, NULL, "DeleteVM");
    guint64 starts = (guint64)json_object_get_int_member_with_default (vms->pdata[i], "Starts", 0);
    sd_bus_message_append (call, "sa{sv}", banger_property_string (vms->pdata[i], "Id"), 1, "starts", "t", starts);
    if (banger_client_run_job (client, call, &text, NULL, &error)) {
      i++;
      continue;
    }
    int failed = banger_report_error (error, invocation->command);
    status = status == 0 ? failed : status;
    g_ptr_array_remove_index (vms, i);
  }
  return status;
}

int
banger_vm_prune (const BangerInvocation *invocation, GError **error)
{
  gboolean json = banger_invocation_flag (invocation, "json"), dry = banger_invocation_flag (invocation, "dry-run"),
           force = banger_invocation_flag (invocation, "force");
  g_autoptr (GPtrArray) vms = list_stopped (error);
  if (!vms)
    return -1;
  gboolean shown = vms->len > 0 && !json && !(force && !dry);
  if (shown) {
    g_autofree char *text = banger_objects_format_list (&banger_kind_vm, vms);
    g_print ("%s", text);
  }
  if (vms->len == 0 && !json && !banger_invocation_flag (invocation, "quiet"))
    g_printerr (_ ("no VM is stopped: nothing is to be deleted\n"));
  if (vms->len > 0 && !dry && !force) {
    if (json || !isatty (STDIN_FILENO) || !isatty (STDERR_FILENO))
      return banger_usage_error (error, json ? _ ("--json asks nobody: say --force or --dry-run")
                                             : _ ("there is no terminal to ask at: say --force to delete them"));
    if (!ask (vms->len))
      return 1;
  }
  g_autoptr (BangerClient) client = vms->len > 0 && !dry ? banger_client_new (BANGER_CLIENT_JOBS, error) : NULL;
  if (vms->len > 0 && !dry && !client)
    return -1;
  int status = client ? delete_all (client, invocation, vms) : 0;
  if (json)
    print_json (vms);
  return status;
}

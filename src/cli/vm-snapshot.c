/* vm snapshot create, list, restore, delete.
 * Called through the command table.
 * Never restores what nobody has asked to lose something for: that takes --force. */
#include <glib/gi18n.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/objects.h"
#include "cli/verbs.h"
#include "common/validate.h"

/* Returns: (transfer full): a name that says when, for one that is given none. */
static char *
made_up (void)
{
  g_autoptr (GDateTime) now = g_date_time_new_now_local ();
  return g_date_time_format (now, "%Y-%m-%d-%H%M%S");
}

int
banger_vm_snapshot_create (const BangerInvocation *invocation, GError **error)
{
  const char *vm = banger_invocation_argument (invocation, 0), *given = banger_invocation_argument (invocation, 1);
  g_autofree char *name = given ? g_strdup (given) : made_up ();
  if (!banger_new_name_check (name, _ ("snapshot name"), error))
    return -1;
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_JOBS, error);
  if (!client)
    return -1;
  g_autofree char *what = g_strdup_printf (_ ("cannot make a snapshot of %s"), vm);
  g_autofree char *done = g_strdup_printf (_ ("%s has the snapshot %s"), vm, name);
  const BangerJobText text = { vm, what, done, banger_invocation_flag (invocation, "quiet"), FALSE };
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, NULL, "SnapshotVM");
  sd_bus_message_append (call, "ssa{sv}", vm, name, 0);
  if (!banger_client_run_job (client, call, &text, NULL, error))
    return -1;
  if (!given)
    g_print ("%s\n", name);
  return 0;
}

/* Returns: (transfer full): those of the VM at @path (%NULL: of all), each with its VM's name. */
static GPtrArray *
list (BangerClient *client, const char *path, GError **error)
{
  g_autoptr (GPtrArray) vms = banger_objects_list (client, &banger_kind_vm, error);
  GPtrArray *snapshots = vms ? banger_objects_list (client, &banger_kind_snapshot, error) : NULL;
  for (guint i = snapshots ? snapshots->len : 0; i > 0; i--) {
    JsonObject *snapshot = snapshots->pdata[i - 1];
    const char *vm = banger_property_string (snapshot, "VM"), *id = strrchr (vm, '/');
    if (path && strcmp (vm, path) != 0) {
      g_ptr_array_remove_index (snapshots, i - 1);
      continue;
    }
    for (guint j = 0; id && j < vms->len; j++)
      if (strcmp (banger_property_string (vms->pdata[j], "Id"), id + 1) == 0) {
        json_object_set_string_member (snapshot, "VM", banger_property_string (vms->pdata[j], "Name"));
        break;
      }
  }
  return snapshots;
}

int
banger_vm_snapshot_list (const BangerInvocation *invocation, GError **error)
{
  const char *vm = banger_invocation_argument (invocation, 0);
  g_autofree char *path = NULL;
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_PLAIN, error);
  g_autoptr (JsonObject) found = client && vm ? banger_objects_get (client, &banger_kind_vm, vm, &path, error) : NULL;
  if (!client || (vm && !found))
    return -1;
  g_autoptr (GPtrArray) snapshots = list (client, path, error);
  if (!snapshots)
    return -1;
  if (!banger_invocation_flag (invocation, "json")) {
    g_autofree char *text = banger_objects_format_list (&banger_kind_snapshot, snapshots);
    g_print ("%s", text);
    return 0;
  }
  JsonArray *array = json_array_new ();
  for (guint i = 0; i < snapshots->len; i++)
    json_array_add_element (array, banger_objects_to_json (&banger_kind_snapshot, snapshots->pdata[i]));
  JsonNode *node = json_node_new (JSON_NODE_ARRAY);
  json_node_take_array (node, array);
  banger_json_print (node);
  return 0;
}

int
banger_vm_snapshot_restore (const BangerInvocation *invocation, GError **error)
{
  const char *vm = banger_invocation_argument (invocation, 0), *name = banger_invocation_argument (invocation, 1);
  gboolean force = banger_invocation_flag (invocation, "force"), start = banger_invocation_flag (invocation, "start");
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_JOBS, error);
  if (!client)
    return -1;
  g_autofree char *what = g_strdup_printf (_ ("cannot restore %s"), vm);
  g_autofree char *done = start ? g_strdup_printf (_ ("%s is ready"), vm)
                                : g_strdup_printf (_ ("%s is as it was; `banger vm start %s` has it go on"), vm, vm);
  const BangerJobText text = { vm, what, done, banger_invocation_flag (invocation, "quiet"), FALSE };
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, NULL, "RestoreSnapshot");
  sd_bus_message_append (call, "ssa{sv}", vm, name, 2, "force", "b", force, "start", "b", start);
  return banger_client_run_job (client, call, &text, NULL, error) ? 0 : -1;
}

static gboolean
delete_one (BangerClient *client, const BangerInvocation *invocation, const char *name, GError **error)
{
  const char *vm = banger_invocation_argument (invocation, 0);
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, NULL, "DeleteSnapshot");
  sd_bus_message_append (call, "ssa{sv}", vm, name, 0);
  g_autoptr (sd_bus_message) reply = banger_client_call (client, call, 0, error);
  if (!reply)
    g_prefix_error (error, _ ("cannot delete %s: "), name);
  else if (!banger_invocation_flag (invocation, "quiet"))
    g_printerr (_ ("%s is deleted\n"), name);
  return reply != NULL;
}

int
banger_vm_snapshot_delete (const BangerInvocation *invocation, GError **error)
{
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_PLAIN, error);
  const char *name;
  if (!client)
    return -1;
  for (guint i = 1; (name = banger_invocation_argument (invocation, i)); i++)
    if (!delete_one (client, invocation, name, error))
      return -1;
  return 0;
}

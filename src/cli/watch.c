/* Signals about one VM and the manager's name on the bus.
 * Called by ssh-run.c and exec.c.
 * Never believes that a VM goes on because nobody says that it does not. */
#include "cli/watch.h"

#include <glib/gi18n.h>
#include <string.h>

#include "cli/objects.h"
#include "common/error.h"
#include "common/names.h"

#define SSH_USEC (30 * G_USEC_PER_SEC)
#define WHY_USEC G_USEC_PER_SEC /* that a lost connection waits for the manager to say why */

void
banger_vm_watch_clear (BangerVmWatch *watch)
{
  sd_bus_slot_unref (watch->changed);
  sd_bus_slot_unref (watch->removed);
  sd_bus_slot_unref (watch->owner);
  sd_bus_slot_unref (watch->look);
  g_free (watch->state);
  g_free (watch->reason);
}

/* The cursor stands before a{sv}. */
static void
take_properties (BangerVmWatch *watch, sd_bus_message *message)
{
  g_autoptr (JsonObject) properties = banger_properties_read (message);
  if (properties && json_object_has_member (properties, "SshServer"))
    watch->ssh_starting = strcmp (banger_property_string (properties, "SshServer"), BANGER_SSH_SERVER_STARTING) == 0;
  if (!properties || !json_object_has_member (properties, "State"))
    return;
  g_free (watch->state);
  g_free (watch->reason);
  watch->state = g_strdup (banger_property_string (properties, "State"));
  watch->reason = g_strdup (banger_property_string (properties, "StateReason"));
  watch->over = strcmp (watch->state, "stopped") == 0 || strcmp (watch->state, "deleting") == 0
                || strcmp (watch->state, "starting") == 0;
}

static int
on_changed (sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
  if (sd_bus_message_skip (message, "s") >= 0)
    take_properties (userdata, message);
  return 0;
}

static void
set_removed (BangerVmWatch *watch)
{
  watch->over = TRUE;
  g_free (watch->state);
  watch->state = g_strdup ("");
}

static int
on_removed (sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
  BangerVmWatch *watch = userdata;
  const char *path = NULL;
  if (sd_bus_message_read (message, "o", &path) >= 0 && g_strcmp0 (path, watch->path) == 0)
    set_removed (watch);
  return 0;
}

static int
on_look (sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
  if (!sd_bus_message_is_method_error (message, NULL))
    take_properties (userdata, message);
  else if (sd_bus_message_is_method_error (message, SD_BUS_ERROR_UNKNOWN_OBJECT)
           || sd_bus_message_is_method_error (message, SD_BUS_ERROR_UNKNOWN_METHOD))
    set_removed (userdata);
  return 0;
}

static int
look (BangerVmWatch *watch)
{
  g_autoptr (sd_bus_message) call = banger_client_message (watch->client, watch->path,
                                                           "org.freedesktop.DBus.Properties", "GetAll");
  sd_bus_message_append (call, "s", BANGER_VM_INTERFACE);
  g_clear_pointer (&watch->look, sd_bus_slot_unref);
  return sd_bus_call_async (banger_client_bus (watch->client), &watch->look, call, on_look, watch, 0);
}

/* A manager that comes back tells nobody what happened while it was away. */
static int
on_owner (sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
  const char *name, *before, *after;
  BangerVmWatch *watch = userdata;
  if (sd_bus_message_read (message, "sss", &name, &before, &after) < 0)
    return 0;
  watch->manager_gone = watch->manager_gone || before[0] != '\0';
  if (after[0] != '\0')
    look (watch);
  return 0;
}

/* Subscribes, then looks: nothing happens in between. Without a bus there is nobody to tell: what is in the VM finds out by itself.
 */
void
banger_vm_watch_begin (BangerVmWatch *watch, BangerClient *client, const char *name, const char *path)
{
  sd_bus *bus = banger_client_bus (client);
  g_autofree char *changed = g_strdup_printf ("type='signal',sender='" BANGER_MANAGER_BUS_NAME
                                              "',path='%s',member='PropertiesChanged',arg0='" BANGER_VM_INTERFACE "'",
                                              path);
  g_autofree char *removed = g_strdup_printf ("type='signal',sender='" BANGER_MANAGER_BUS_NAME
                                              "',path='" BANGER_MANAGER_PATH
                                              "',member='InterfacesRemoved',arg0path='%s'",
                                              path);
  watch->client = client;
  watch->name = name;
  watch->path = path;
  sd_bus_add_match_async (bus, &watch->changed, changed, on_changed, NULL, watch);
  sd_bus_add_match_async (bus, &watch->removed, removed, on_removed, NULL, watch);
  sd_bus_add_match_async (bus, &watch->owner,
                          "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0="
                          "'" BANGER_MANAGER_BUS_NAME "'",
                          on_owner, NULL, watch);
  look (watch);
}

void
banger_vm_watch_wait_over (BangerVmWatch *watch)
{
  gint64 deadline = g_get_monotonic_time () + WHY_USEC, now;
  while (!watch->over && (now = g_get_monotonic_time ()) < deadline)
    if (banger_client_wait (watch->client, -1, deadline - now) & (BANGER_WOKE_CLOSED | BANGER_WOKE_SIGNAL))
      return;
}

void
banger_vm_watch_wait_ssh (BangerVmWatch *watch)
{
  gint64 deadline = g_get_monotonic_time () + SSH_USEC, now;
  while (watch->ssh_starting && !watch->over && (now = g_get_monotonic_time ()) < deadline)
    if (banger_client_wait (watch->client, -1, deadline - now) & (BANGER_WOKE_CLOSED | BANGER_WOKE_SIGNAL))
      return;
}

gboolean
banger_vm_watch_error (const BangerVmWatch *watch, GError **error)
{
  const char *name = watch->name;
  if (watch->state[0] == '\0' || strcmp (watch->state, "deleting") == 0)
    return banger_set_error (error, BANGER_ERROR_GUEST_FAILED, _ ("%s was deleted meanwhile"), name);
  if (watch->reason[0] == '\0')
    return banger_set_error (error, BANGER_ERROR_GUEST_FAILED, _ ("%s was stopped meanwhile"), name);
  return banger_set_error (error, BANGER_ERROR_GUEST_FAILED, _ ("%s has ended: %s"), name, watch->reason);
}

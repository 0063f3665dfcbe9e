/* One lease and its file.
 * Never believed: each name that is read back must follow from the VM's id. */
#include "privileged/lease.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "common/ids.h"
#include "common/names.h"
#include "common/state-file.h"
#include "common/validate.h"
#include "privileged/cgroup.h"
#include "privileged/gate.h"

#define VERSION 1

static const struct {
  const char *key;
  size_t offset;
} strings[] = {
  { "tap", offsetof (BangerLease, tap) },
  { "bridge", offsetof (BangerLease, bridge) },
  { "bridge-address", offsetof (BangerLease, bridge_address) },
  { "guest-address", offsetof (BangerLease, guest_address) },
  { "links", offsetof (BangerLease, links) },
  { "ports", offsetof (BangerLease, ports) },
  { "dm", offsetof (BangerLease, dm) },
  { "image", offsetof (BangerLease, image) },
  { "cgroup", offsetof (BangerLease, cgroup) },
};

static void
clear (gpointer data)
{
  BangerLease *lease = data;
  for (size_t i = 0; i < G_N_ELEMENTS (strings); i++)
    g_free (G_STRUCT_MEMBER (char *, lease, strings[i].offset));
  g_free (lease->vm);
}

BangerLease *
banger_lease_new (const char *vm, uid_t uid)
{
  BangerLease *lease = g_atomic_rc_box_new0 (BangerLease);
  lease->vm = g_strdup (vm);
  lease->uid = uid;
  return lease;
}

BangerLease *
banger_lease_ref (BangerLease *lease)
{
  return g_atomic_rc_box_acquire (lease);
}

void
banger_lease_free (BangerLease *lease)
{
  if (lease)
    g_atomic_rc_box_release_full (lease, clear);
}

/* Every name passes the gate that it passed when it was made. */
static gboolean
check (const BangerLease *lease, GError **error)
{
  if ((lease->tap && (!lease->bridge || !lease->bridge_address)) || (lease->guest_address && !lease->tap)
      || ((lease->nat || lease->links || lease->ports) && !lease->guest_address) || (lease->dm && !lease->image)
      || (lease->pid && !lease->cgroup))
    return banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "the lease of %s is not complete", lease->vm);
  return (!lease->tap || banger_gate_tap_name (lease->tap, lease->vm, error))
         && (!lease->bridge || banger_bridge_name_check (lease->bridge, error))
         && (!lease->bridge_address || banger_gate_bridge_address (lease->bridge_address, NULL, NULL, error))
         && (!lease->guest_address || banger_gate_guest_address (lease->guest_address, lease->bridge_address, error))
         && banger_gate_reach (lease->vm, lease->links, lease->ports, error)
         && (!lease->dm || banger_gate_dm_name (lease->dm, lease->vm, error))
         && (!lease->image || banger_id_check (lease->image, "image", error))
         && (!lease->cgroup || banger_cgroup_check (lease->cgroup, lease->vm, error));
}

static gboolean
get_number (JsonObject *object, const char *key, gint64 max, gint64 *ret)
{
  JsonNode *node = json_object_get_member (object, key);
  *ret = 0;
  if (!node)
    return TRUE;
  if (!JSON_NODE_HOLDS_VALUE (node) || json_node_get_value_type (node) != G_TYPE_INT64)
    return FALSE;
  *ret = json_node_get_int (node);
  return *ret >= 0 && *ret <= max;
}

static gboolean
get_strings (JsonObject *object, BangerLease *lease)
{
  for (size_t i = 0; i < G_N_ELEMENTS (strings); i++) {
    JsonNode *node = json_object_get_member (object, strings[i].key);
    if (!node)
      continue;
    if (!JSON_NODE_HOLDS_VALUE (node) || json_node_get_value_type (node) != G_TYPE_STRING)
      return FALSE;
    G_STRUCT_MEMBER (char *, lease, strings[i].offset) = g_strdup (json_node_get_string (node));
  }
  return TRUE;
}

BangerLease *
banger_lease_parse (JsonObject *object, const char *vm, GError **error)
{
  g_autoptr (BangerLease) lease = banger_lease_new (vm, 0);
  gint64 version, uid, pid, start, jail, memory, nat;
  if (!get_number (object, "version", VERSION, &version) || version != VERSION
      || !json_object_has_member (object, "uid") || !get_number (object, "uid", G_MAXINT32, &uid)
      || !get_number (object, "pid", G_MAXINT32, &pid) || !get_number (object, "start", G_MAXINT64, &start)
      || !get_number (object, "memory-mib", G_MAXINT32, &memory) || !get_number (object, "jail", 1, &jail)
      || !get_number (object, "nat", 1, &nat) || !get_strings (object, lease))
  {
    banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "the lease of %s cannot be read", vm);
    return NULL;
  }
  lease->uid = (uid_t)uid;
  lease->pid = (guint32)pid;
  lease->start = (guint64)start;
  lease->jail = jail == 1;
  lease->memory_mib = (guint32)memory;
  /* A former version knew the addresses of guests with NAT alone. */
  lease->nat = nat == 1 || (lease->guest_address && !json_object_has_member (object, "nat"));
  g_autoptr (GError) why = NULL;
  if (check (lease, &why))
    return g_steal_pointer (&lease);
  banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "%s", why->message);
  return NULL;
}

JsonObject *
banger_lease_to_json (const BangerLease *lease)
{
  JsonObject *object = json_object_new ();
  json_object_set_int_member (object, "version", VERSION);
  json_object_set_int_member (object, "uid", lease->uid);
  for (size_t i = 0; i < G_N_ELEMENTS (strings); i++)
    if (G_STRUCT_MEMBER (char *, lease, strings[i].offset))
      json_object_set_string_member (object, strings[i].key, G_STRUCT_MEMBER (char *, lease, strings[i].offset));
  json_object_set_int_member (object, "nat", lease->nat ? 1 : 0);
  json_object_set_int_member (object, "jail", lease->jail ? 1 : 0);
  json_object_set_int_member (object, "pid", lease->pid);
  json_object_set_int_member (object, "start", (gint64)lease->start);
  json_object_set_int_member (object, "memory-mib", lease->memory_mib);
  return object;
}

BangerLease *
banger_lease_load (const BangerRoot *root, const char *vm, gboolean *ret_missing, GError **error)
{
  g_autofree char *name = g_strconcat (vm, BANGER_LEASE_SUFFIX, NULL);
  g_autoptr (JsonObject) object = banger_state_read_json (root->leases_fd, name, ret_missing, error);
  return object ? banger_lease_parse (object, vm, error) : NULL;
}

gboolean
banger_lease_is_of_another (const BangerRoot *root, const char *vm, uid_t uid)
{
  g_autofree char *name = g_strconcat (vm, BANGER_LEASE_SUFFIX, NULL);
  g_autoptr (JsonObject) object = banger_state_read_json (root->leases_fd, name, NULL, NULL);
  gint64 said;
  return object && json_object_has_member (object, "uid") && get_number (object, "uid", G_MAXINT32, &said)
         && (uid_t)said != uid;
}

gboolean
banger_lease_exists (const BangerRoot *root, const char *vm)
{
  g_autofree char *name = g_strconcat (vm, BANGER_LEASE_SUFFIX, NULL);
  struct stat st;
  return fstatat (root->leases_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

gboolean
banger_lease_save (const BangerRoot *root, const BangerLease *lease, GError **error)
{
  g_autofree char *name = g_strconcat (lease->vm, BANGER_LEASE_SUFFIX, NULL);
  g_autoptr (JsonObject) object = banger_lease_to_json (lease);
  return banger_state_write_json (root->leases_fd, name, object, 0600, error);
}

gboolean
banger_lease_remove (const BangerRoot *root, const char *vm, GError **error)
{
  g_autofree char *name = g_strconcat (vm, BANGER_LEASE_SUFFIX, NULL);
  return banger_state_remove (root->leases_fd, name, error);
}

char *
banger_lease_resources (const BangerLease *lease)
{
  const char *words[6];
  int n = 0;
  if (lease->tap)
    words[n++] = lease->guest_address ? "tap" : BANGER_RESOURCE_OLD_TAP;
  if (lease->nat)
    words[n++] = "nat";
  if (lease->dm)
    words[n++] = "snapshot";
  if (lease->jail)
    words[n++] = "jail";
  if (lease->cgroup)
    words[n++] = "cgroup";
  words[n] = NULL;
  return g_strjoinv (",", (char **)words);
}

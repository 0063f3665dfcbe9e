/* Leases.
 * Used by every power and by release.c.
 * Never believed: each name that is read back must follow from the VM's id. */
#include "privileged/lease.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "common/ids.h"
#include "common/state-file.h"
#include "common/validate.h"
#include "privileged/cgroup.h"
#include "privileged/gate.h"

#define SUFFIX ".json"
#define VERSION 1

G_LOCK_DEFINE_STATIC (new_leases); /* held from the count to the save */

static const struct {
  const char *key;
  size_t offset;
} strings[] = {
  { "tap", offsetof (BangerLease, tap) },
  { "bridge", offsetof (BangerLease, bridge) },
  { "bridge-address", offsetof (BangerLease, bridge_address) },
  { "guest-address", offsetof (BangerLease, guest_address) },
  { "dm", offsetof (BangerLease, dm) },
  { "image", offsetof (BangerLease, image) },
  { "cgroup", offsetof (BangerLease, cgroup) },
};

void
banger_lease_free (BangerLease *lease)
{
  if (!lease)
    return;
  for (size_t i = 0; i < G_N_ELEMENTS (strings); i++)
    g_free (G_STRUCT_MEMBER (char *, lease, strings[i].offset));
  g_free (lease->vm);
  g_free (lease);
}

/* Every name passes the gate that it passed when it was made. */
static gboolean
check (const BangerLease *lease, GError **error)
{
  if ((lease->tap && (!lease->bridge || !lease->bridge_address)) || (lease->guest_address && !lease->tap)
      || (lease->dm && !lease->image) || (lease->pid && !lease->cgroup))
    return banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "the lease of %s is not complete", lease->vm);
  return (!lease->tap || banger_gate_tap_name (lease->tap, lease->vm, error))
         && (!lease->bridge || banger_bridge_name_check (lease->bridge, error))
         && (!lease->bridge_address || banger_gate_bridge_address (lease->bridge_address, NULL, NULL, error))
         && (!lease->guest_address || banger_gate_guest_address (lease->guest_address, lease->bridge_address, error))
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
  g_autoptr (BangerLease) lease = g_new0 (BangerLease, 1);
  gint64 version, uid, pid, start, jail;
  lease->vm = g_strdup (vm);
  if (!get_number (object, "version", VERSION, &version) || version != VERSION
      || !json_object_has_member (object, "uid") || !get_number (object, "uid", G_MAXINT32, &uid)
      || !get_number (object, "pid", G_MAXINT32, &pid) || !get_number (object, "start", G_MAXINT64, &start)
      || !get_number (object, "jail", 1, &jail) || !get_strings (object, lease))
  {
    banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "the lease of %s cannot be read", vm);
    return NULL;
  }
  lease->uid = (uid_t)uid;
  lease->pid = (guint32)pid;
  lease->start = (guint64)start;
  lease->jail = jail == 1;
  return check (lease, error) ? g_steal_pointer (&lease) : NULL;
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
  json_object_set_int_member (object, "jail", lease->jail ? 1 : 0);
  json_object_set_int_member (object, "pid", lease->pid);
  json_object_set_int_member (object, "start", (gint64)lease->start);
  return object;
}

BangerLease *
banger_lease_load (const BangerRoot *root, const char *vm, gboolean *ret_missing, GError **error)
{
  g_autofree char *name = g_strconcat (vm, SUFFIX, NULL);
  g_autoptr (JsonObject) object = banger_state_read_json (root->leases_fd, name, ret_missing, error);
  return object ? banger_lease_parse (object, vm, error) : NULL;
}

gboolean
banger_lease_exists (const BangerRoot *root, const char *vm)
{
  g_autofree char *name = g_strconcat (vm, SUFFIX, NULL);
  struct stat st;
  return fstatat (root->leases_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

gboolean
banger_lease_save (const BangerRoot *root, const BangerLease *lease, GError **error)
{
  g_autofree char *name = g_strconcat (lease->vm, SUFFIX, NULL);
  g_autoptr (JsonObject) object = banger_lease_to_json (lease);
  return banger_state_write_json (root->leases_fd, name, object, 0600, error);
}

gboolean
banger_lease_remove (const BangerRoot *root, const char *vm, GError **error)
{
  g_autofree char *name = g_strconcat (vm, SUFFIX, NULL);
  return banger_state_remove (root->leases_fd, name, error);
}

/* The ids of the files in the folder; temporaries and strangers are no ids. */
static GPtrArray *
list_ids (const BangerRoot *root, GError **error)
{
  int fd = openat (root->leases_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *dir = fd < 0 ? NULL : fdopendir (fd);
  if (!dir) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot list the leases");
    return NULL;
  }
  GPtrArray *ids = g_ptr_array_new_with_free_func (g_free);
  for (struct dirent *entry; (entry = readdir (dir));) {
    if (!g_str_has_suffix (entry->d_name, SUFFIX))
      continue;
    g_autofree char *id = g_strndup (entry->d_name, strlen (entry->d_name) - strlen (SUFFIX));
    if (banger_id_check (id, "lease", NULL))
      g_ptr_array_add (ids, g_steal_pointer (&id));
  }
  closedir (dir);
  return ids;
}

GPtrArray *
banger_lease_list (const BangerRoot *root, GPtrArray **ret_broken, GError **error)
{
  g_autoptr (GPtrArray) ids = list_ids (root, error);
  if (!ids)
    return NULL;
  GPtrArray *leases = g_ptr_array_new_with_free_func ((GDestroyNotify)banger_lease_free);
  g_autoptr (GPtrArray) broken = g_ptr_array_new_with_free_func (g_free);
  for (guint i = 0; i < ids->len; i++) {
    gboolean missing = FALSE;
    BangerLease *lease = banger_lease_load (root, ids->pdata[i], &missing, NULL);
    if (lease)
      g_ptr_array_add (leases, lease);
    else if (!missing)
      g_ptr_array_add (broken, g_strdup (ids->pdata[i]));
  }
  if (ret_broken)
    *ret_broken = g_steal_pointer (&broken);
  return leases;
}

gboolean
banger_lease_check_room (const BangerRoot *root, const BangerLease *lease, BangerLeaseHolds holds, guint64 max,
                         const char *key, GError **error)
{
  g_autoptr (GPtrArray) broken = NULL;
  g_autoptr (GPtrArray) leases = banger_lease_list (root, &broken, error);
  if (!leases)
    return FALSE;
  guint64 held = broken->len; /* they may hold anything */
  for (guint i = 0; i < leases->len; i++) {
    const BangerLease *other = leases->pdata[i];
    held += other->uid == lease->uid && !g_str_equal (other->vm, lease->vm) && holds (other);
  }
  return held < max
         || banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED,
                              "%" G_GUINT64_FORMAT " VMs of uid %u hold one already, no more are allowed (%s)", held,
                              lease->uid, key);
}

static BangerLease *
load_owned (const BangerRoot *root, const char *vm, uid_t uid, gboolean *ret_missing, GError **error)
{
  g_autoptr (BangerLease) lease = banger_lease_load (root, vm, ret_missing, error);
  if (lease && lease->uid != uid) {
    banger_set_error (error, BANGER_ERROR_ACCESS_DENIED, "VM %s is held by another user", vm);
    return NULL;
  }
  return g_steal_pointer (&lease);
}

BangerLease *
banger_lease_get (const BangerRoot *root, const char *vm, uid_t uid, GError **error)
{
  gboolean missing = FALSE;
  g_autoptr (GError) why = NULL;
  BangerLease *lease = load_owned (root, vm, uid, &missing, &why);
  if (missing)
    banger_set_error (error, BANGER_ERROR_NO_SUCH_LEASE, "nothing is held for VM %s", vm);
  else if (!lease)
    g_propagate_error (error, g_steal_pointer (&why));
  return lease;
}

/* A broken lease counts: it may hold anything. */
static gboolean
check_room (const BangerRoot *root, const char *vm, uid_t uid, GError **error)
{
  g_autoptr (GPtrArray) ids = list_ids (root, error);
  if (!ids)
    return FALSE;
  guint64 held = 0;
  for (guint i = 0; i < ids->len; i++) {
    if (strncmp (ids->pdata[i], vm, 8) == 0)
      return banger_set_error (error, BANGER_ERROR_IN_USE, "VM %s has the same tap name as VM %s; choose another id",
                               vm, (char *)ids->pdata[i]);
    g_autoptr (BangerLease) lease = banger_lease_load (root, ids->pdata[i], NULL, NULL);
    if (!lease || lease->uid == uid)
      held++;
  }
  if (held >= root->install->max_vms)
    return banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED,
                             "%" G_GUINT64_FORMAT " VMs hold resources, no more are allowed (limits.vms)", held);
  return TRUE;
}

BangerLease *
banger_lease_ensure (const BangerRoot *root, const char *vm, uid_t uid, gboolean *ret_new, GError **error)
{
  gboolean missing = FALSE;
  g_autoptr (GError) why = NULL;
  if (ret_new)
    *ret_new = FALSE;
  g_autoptr (BangerLease) lease = load_owned (root, vm, uid, &missing, &why);
  if (lease)
    return g_steal_pointer (&lease);
  if (!missing) {
    g_propagate_error (error, g_steal_pointer (&why));
    return NULL;
  }
  lease = g_new0 (BangerLease, 1);
  lease->vm = g_strdup (vm);
  lease->uid = uid;
  G_LOCK (new_leases);
  gboolean ok = check_room (root, vm, uid, error) && banger_lease_save (root, lease, error);
  G_UNLOCK (new_leases);
  if (ok && ret_new)
    *ret_new = TRUE;
  return ok ? g_steal_pointer (&lease) : NULL;
}

char *
banger_lease_resources (const BangerLease *lease)
{
  const char *words[6];
  int n = 0;
  if (lease->tap)
    words[n++] = "tap";
  if (lease->guest_address)
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

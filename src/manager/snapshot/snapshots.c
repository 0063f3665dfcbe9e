/* The table of snapshots: found by VM and name, gone with their VM.
 * Never waits for a disk, but at the start of the daemon. */
#include "manager/snapshot/private.h"

#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/names.h"
#include "common/validate.h"
#include "manager/core/later.h"

#define MOST 64 /* of a VM */

BangerVmSnapshot *
banger_snapshots_find_id (BangerSnapshots *snapshots, const char *id)
{
  return g_hash_table_lookup (snapshots->table, id);
}

GPtrArray *
banger_snapshots_ids (BangerSnapshots *snapshots)
{
  return banger_table_ids (snapshots->table);
}

static BangerVmSnapshot *
look (BangerSnapshots *snapshots, const char *vm, const char *name, guint *ret_count)
{
  GHashTableIter iter;
  gpointer value;
  BangerVmSnapshot *found = NULL;
  g_hash_table_iter_init (&iter, snapshots->table);
  while (g_hash_table_iter_next (&iter, NULL, &value)) {
    BangerVmSnapshot *each = value;
    if (!g_str_equal (each->vm, vm))
      continue;
    *ret_count += 1;
    if (g_str_equal (each->name, name) || g_str_equal (each->id, name))
      found = each;
  }
  return found;
}

BangerVmSnapshot *
banger_snapshots_find (BangerSnapshots *snapshots, BangerVm *vm, const char *name, GError **error)
{
  const BangerVmRecord *record = banger_vm_record (vm);
  guint count = 0;
  BangerVmSnapshot *found = look (snapshots, record->id, name, &count);
  if (!found) {
    g_autofree char *shown = banger_log_escape (name, 64);
    banger_set_error (error, BANGER_ERROR_NO_SUCH_SNAPSHOT, "%s has no snapshot called '%s'", record->name, shown);
  }
  return found;
}

gboolean
snapshot_check_new (BangerSnapshots *snapshots, BangerVm *vm, const char *name, GError **error)
{
  const BangerVmRecord *record = banger_vm_record (vm);
  guint count = 0;
  if (!banger_new_name_check (name, "snapshot name", error))
    return FALSE;
  gboolean taken = look (snapshots, record->id, name, &count) != NULL;
  for (guint i = 0; i < snapshots->making->len; i++) {
    const BangerVmSnapshot *each = snapshots->making->pdata[i];
    taken |= g_str_equal (each->vm, record->id) && g_str_equal (each->name, name);
    count += g_str_equal (each->vm, record->id);
  }
  if (taken)
    return banger_set_error (error, BANGER_ERROR_SNAPSHOT_EXISTS,
                             "%s has a snapshot called '%s' already: delete it first or choose another name",
                             record->name, name);
  return count < MOST
         || banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED, "%s has %u snapshots, the limit is %d: delete one",
                              record->name, count, MOST);
}

void
snapshot_remove_files (BangerSnapshots *snapshots, const BangerVmSnapshot *snapshot)
{
  banger_record_remove_async (snapshots->dir_fd, snapshot->id, NULL, NULL);
  if (g_strcmp0 (snapshot->root, "file") != 0)
    banger_gone_disks_add (snapshots->disks, snapshot->id);
}

gboolean
snapshot_add (BangerSnapshots *snapshots, BangerVmSnapshot *snapshot)
{
  if (!banger_vms_find_id (snapshots->vms, snapshot->vm)) {
    snapshot_remove_files (snapshots, snapshot);
    banger_vm_snapshot_unref (snapshot);
    return FALSE;
  }
  g_hash_table_insert (snapshots->table, snapshot->id, snapshot);
  snapshots->house->objects.added (BANGER_OBJECT_SNAPSHOT, snapshot->id, snapshots->user_data);
  return TRUE;
}

/* Out of the table. */
static void
forget (BangerSnapshots *snapshots, const char *id)
{
  g_autofree char *own = g_strdup (id);
  if (g_hash_table_remove (snapshots->table, own))
    snapshots->house->objects.removed (BANGER_OBJECT_SNAPSHOT, own, snapshots->user_data);
}

void
banger_snapshots_drop_of (BangerSnapshots *snapshots, const char *vm)
{
  g_autoptr (GPtrArray) ids = banger_table_ids (snapshots->table);
  for (guint i = 0; i < ids->len; i++) {
    BangerVmSnapshot *each = g_hash_table_lookup (snapshots->table, ids->pdata[i]);
    if (!g_str_equal (each->vm, vm))
      continue;
    snapshot_remove_files (snapshots, each);
    forget (snapshots, each->id);
  }
}

/* Deletion. The record goes first: if it stays, so does the snapshot. */

typedef struct {
  gpointer *link;
  BangerVmSnapshot *snapshot;
} Deletion;

static void
deletion_free (gpointer data)
{
  Deletion *deletion = data;
  deletion->snapshot->going = FALSE;
  g_rc_box_release (deletion->link);
  banger_vm_snapshot_unref (deletion->snapshot);
  g_free (deletion);
}

static void
on_removed (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  const Deletion *deletion = g_task_get_task_data (task);
  BangerSnapshots *snapshots = *deletion->link;
  GError *error = NULL;
  gboolean there = FALSE, ok = banger_record_remove_finish (result, &there, &error);
  if (snapshots && !there) {
    if (!ok) /* the rest of it is tried again */
      banger_record_remove_async (snapshots->dir_fd, deletion->snapshot->id, NULL, NULL);
    if (!g_str_equal (deletion->snapshot->root, "file"))
      banger_gone_disks_add (snapshots->disks, deletion->snapshot->id);
    forget (snapshots, deletion->snapshot->id);
    g_clear_error (&error);
  }
  banger_task_return (task, error);
}

gboolean
banger_snapshots_check_stays (BangerSnapshots *snapshots, const BangerVmSnapshot *snapshot, GError **error)
{
  return !snapshot->going
         || banger_set_error (error, BANGER_ERROR_WRONG_STATE, "the snapshot %s is being deleted", snapshot->name);
}

static gboolean
check_delete (BangerSnapshots *snapshots, const BangerVmSnapshot *snapshot, GError **error)
{
  BangerVm *vm = banger_vms_find_id (snapshots->vms, snapshot->vm);
  if (!banger_snapshots_check_stays (snapshots, snapshot, error))
    return FALSE;
  return !vm || !banger_vm_restores (vm, snapshot)
         || banger_set_error (error, BANGER_ERROR_WRONG_STATE, "%s is being restored from its snapshot %s",
                              banger_vm_record (vm)->name, snapshot->name);
}

void
banger_snapshots_delete_async (BangerSnapshots *snapshots, BangerVmSnapshot *snapshot, GAsyncReadyCallback callback,
                               gpointer user_data)
{
  GTask *task = g_task_new (NULL, NULL, callback, user_data);
  GError *error = NULL;
  if (!check_delete (snapshots, snapshot, &error)) {
    banger_task_return_later (task, error);
    return;
  }
  Deletion *deletion = g_new0 (Deletion, 1);
  deletion->link = g_rc_box_acquire (snapshots->link);
  deletion->snapshot = banger_vm_snapshot_ref (snapshot);
  snapshot->going = TRUE;
  g_task_set_task_data (task, deletion, deletion_free);
  banger_record_remove_async (snapshots->dir_fd, snapshot->id, on_removed, task);
}

gboolean
banger_snapshots_delete_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

/* At the start. */

static BangerVmSnapshot *
load_one (const BangerSnapshots *snapshots, const char *id, gboolean *ret_missing, GError **error)
{
  g_autoptr (BangerVmSnapshot) snapshot = banger_vm_snapshot_new ();
  snapshot->dir_fd = banger_record_open_dir (snapshots->dir_fd, id, error);
  if (snapshot->dir_fd < 0
      || !banger_record_load (snapshot->dir_fd, "snapshot", banger_vm_snapshot_fields, snapshot, ret_missing, error))
    return NULL;
  for (const BangerRecordField *field = banger_vm_snapshot_fields; field->key; field++)
    if (field->required && field->type == BANGER_RECORD_STRING && !G_STRUCT_MEMBER (char *, snapshot, field->offset)) {
      banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "its record lacks %s", field->key);
      return NULL;
    }
  if (g_str_equal (snapshot->id, id) && banger_name_check (snapshot->name, "snapshot name", error))
    return g_steal_pointer (&snapshot);
  if (error && !*error)
    banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "its record is of another one");
  return NULL;
}

static void
take (BangerSnapshots *snapshots, const char *id)
{
  gboolean missing = FALSE;
  g_autoptr (GError) why = NULL;
  BangerVmSnapshot *snapshot = load_one (snapshots, id, &missing, &why);
  if (snapshot && banger_vms_find_id (snapshots->vms, snapshot->vm)) {
    g_hash_table_insert (snapshots->table, snapshot->id, snapshot);
  } else if (snapshot) {
    banger_log (LOG_NOTICE, NULL, "removing the snapshot %s: its VM is no more", id);
    snapshot_remove_files (snapshots, snapshot);
    banger_vm_snapshot_unref (snapshot);
  } else if (missing) {
    banger_log (LOG_NOTICE, NULL, "removing the snapshot %s: it is half-made", id);
    banger_record_remove_async (snapshots->dir_fd, id, NULL, NULL);
    banger_gone_disks_add (snapshots->disks, id);
  } else {
    snapshots->house->unreadable (BANGER_OBJECT_SNAPSHOT, id, why, snapshots->user_data);
  }
}

static void
snapshot_unref (gpointer data)
{
  banger_vm_snapshot_unref (data);
}

BangerSnapshots *
banger_snapshots_new (BangerHelper *helper, BangerWriter *writer, BangerVms *vms, int dir_fd,
                      const BangerSnapshotsHouse *house, gpointer data, GError **error)
{
  g_auto (GStrv) ids = banger_record_list (dir_fd, error);
  if (!ids)
    return NULL;
  BangerSnapshots *snapshots = g_new0 (BangerSnapshots, 1);
  snapshots->helper = helper;
  snapshots->writer = writer;
  snapshots->vms = vms;
  snapshots->dir_fd = dir_fd;
  snapshots->house = house;
  snapshots->user_data = data;
  snapshots->table = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, snapshot_unref);
  snapshots->making = g_ptr_array_new ();
  snapshots->disks = banger_gone_disks_new (helper);
  snapshots->link = g_rc_box_new0 (gpointer);
  *snapshots->link = snapshots;
  for (char **id = ids; *id; id++)
    take (snapshots, *id);
  return snapshots;
}

void
banger_snapshots_free (BangerSnapshots *snapshots)
{
  if (!snapshots)
    return;
  *snapshots->link = NULL;
  g_rc_box_release (snapshots->link);
  banger_gone_disks_free (snapshots->disks);
  g_ptr_array_unref (snapshots->making);
  g_hash_table_unref (snapshots->table);
  g_free (snapshots);
}

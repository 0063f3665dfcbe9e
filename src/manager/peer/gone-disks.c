/* Ids that the helper is given one by one, and again when it is back.
 * Never forgets one that it could not be asked for; what it refuses goes when it starts: nobody has it then. */
#include "manager/peer/gone-disks.h"

#include "common/error.h"
#include "common/log.h"
#include "manager/peer/helper-answers.h"

struct BangerGoneDisks {
  BangerHelper *helper;
  guint notify;
  GPtrArray *left; /* ids; counted: calls end after us */
};

typedef struct {
  GPtrArray *left;
  char *id;
} Disk;

static void
on_deleted (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autofree Disk *disk = data;
  g_autofree char *id = disk->id;
  g_autoptr (GPtrArray) left = disk->left;
  g_autoptr (GError) error = NULL;
  if (banger_helper_finish (result, &error) || g_error_matches (error, BANGER_ERROR, BANGER_ERROR_NO_SUCH_VM))
    return;
  if (g_error_matches (error, BANGER_ERROR, BANGER_ERROR_HELPER_UNAVAILABLE))
    g_ptr_array_add (left, g_steal_pointer (&id)); /* for when it is back */
  else                                             /* it deletes what nobody has when it starts */
    banger_log (LOG_WARNING, NULL, "the disk of %s, which is no more, is left: %s", id, error->message);
}

static void
ask (BangerGoneDisks *disks, const char *id)
{
  Disk *disk = g_new0 (Disk, 1);
  disk->left = g_ptr_array_ref (disks->left);
  disk->id = g_strdup (id);
  banger_helper_call (disks->helper, NULL, "DeleteDisk", NULL, on_deleted, disk, id);
}

void
banger_gone_disks_add (BangerGoneDisks *disks, const char *id)
{
  if (banger_helper_available (disks->helper))
    ask (disks, id);
  else
    g_ptr_array_add (disks->left, g_strdup (id));
}

static void
on_helper (gboolean available, gpointer data)
{
  BangerGoneDisks *disks = data;
  gsize n = 0;
  g_autofree gpointer *ids = available ? g_ptr_array_steal (disks->left, &n) : NULL;
  for (gsize i = 0; i < n; i++) {
    ask (disks, ids[i]);
    g_free (ids[i]);
  }
}

BangerGoneDisks *
banger_gone_disks_new (BangerHelper *helper)
{
  BangerGoneDisks *disks = g_new0 (BangerGoneDisks, 1);
  disks->helper = helper;
  disks->left = g_ptr_array_new_with_free_func (g_free);
  disks->notify = banger_helper_add_notify (helper, on_helper, disks);
  return disks;
}

void
banger_gone_disks_free (BangerGoneDisks *disks)
{
  banger_helper_remove_notify (disks->helper, disks->notify);
  g_ptr_array_unref (disks->left);
  g_free (disks);
}

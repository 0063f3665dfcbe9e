/* A file for ssh(1) with every VM by its name, which the owner's own configuration may include.
 * Never touches ~/.ssh. */
#include "manager/ssh-config.h"

#include <fcntl.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/names.h"
#include "common/ssh-option.h"
#include "common/state-file.h"
#include "manager/core/work.h"

#define HEAD "# Written by bangerd; see `banger ssh-config --help`. Changes are lost.\n"

struct BangerSshConfig {
  BangerVms *vms;
  guint idle_id;
  GCancellable *cancellable;
  char *written; /* or being written; NULL: not known */
  gboolean writing;
};

typedef struct {
  char *dir, *text;
} Write;

static void
write_free (gpointer data)
{
  Write *self = data;
  g_free (self->dir);
  g_free (self->text);
  g_free (self);
}

static gboolean
write_file (gpointer data, GCancellable *cancellable, GError **error)
{
  const Write *self = data;
  if (g_mkdir_with_parents (self->dir, 0700) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make %s", self->dir);
  banger_autofd int dir = open (self->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot open %s", self->dir);
  g_autofree char *old = banger_state_read (dir, BANGER_FILE_SSH_CONFIG, NULL, NULL, NULL);
  return g_strcmp0 (old, self->text) == 0
         || banger_state_write (dir, BANGER_FILE_SSH_CONFIG, self->text, strlen (self->text), 0600, error);
}

static char *
describe (BangerVms *vms)
{
  g_autoptr (GPtrArray) list = banger_vms_list (vms);
  g_autoptr (GString) text = g_string_new (HEAD);
  for (guint i = 0; i < list->len; i++) {
    BangerVm *vm = list->pdata[i];
    const BangerVmRecord *record = banger_vm_record (vm);
    if (record->state != BANGER_VM_UNREADABLE)
      banger_ssh_append_host (text, record->name, record->address, banger_vm_identity_file (vm),
                              banger_vm_known_hosts_file (vm), banger_vm_host_key_alias (vm));
  }
  return g_string_free (g_steal_pointer (&text), FALSE);
}

static void
on_written (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GError) error = NULL;
  gboolean ok = banger_work_finish (result, &error);
  if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED)) /* @data is gone */
    return;
  BangerSshConfig *self = data;
  self->writing = FALSE;
  if (ok) {
    banger_ssh_config_look (self); /* there may be more by now */
    return;
  }
  g_clear_pointer (&self->written, g_free);
  banger_log (LOG_WARNING, NULL, "ssh is not told of the VMs: %s", error->message);
}

static gboolean
on_idle (gpointer data)
{
  static const BangerWork work = { .name = "ssh-config", .run = write_file, .free = write_free };
  BangerSshConfig *self = data;
  g_autofree char *text = describe (self->vms);
  self->idle_id = 0;
  if (g_strcmp0 (text, self->written) == 0)
    return G_SOURCE_REMOVE;
  Write *task = g_new0 (Write, 1);
  task->dir = g_build_filename (g_get_user_config_dir (), "banger", "ssh", NULL);
  task->text = g_strdup (text);
  g_free (self->written);
  self->written = g_steal_pointer (&text);
  self->writing = TRUE;
  banger_work_async (&work, task, self->cancellable, on_written, self);
  return G_SOURCE_REMOVE;
}

void
banger_ssh_config_look (BangerSshConfig *self)
{
  if (self->idle_id == 0 && !self->writing)
    self->idle_id = g_idle_add (on_idle, self);
}

BangerSshConfig *
banger_ssh_config_new (BangerVms *vms)
{
  BangerSshConfig *self = g_new0 (BangerSshConfig, 1);
  self->vms = vms;
  self->cancellable = g_cancellable_new ();
  banger_ssh_config_look (self);
  return self;
}

void
banger_ssh_config_free (BangerSshConfig *self)
{
  if (!self)
    return;
  g_cancellable_cancel (self->cancellable);
  g_object_unref (self->cancellable);
  g_clear_handle_id (&self->idle_id, g_source_remove);
  g_free (self->written);
  g_free (self);
}

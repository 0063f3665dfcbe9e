/* What a first start does differently where there is a template: the guest is restored, and given an identity.
 * Never has a VM ready by one of which anything is not as it was: then it is booted, and its owner is told. */
#include "manager/vm/start-private.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/fd.h"
#include "manager/core/work.h"
#include "manager/disk/stamp.h"
#include "manager/vm/identity.h"

#define QEMU "/usr/bin/qemu-system-x86_64"

const char *const banger_vm_template_files[] = { BANGER_FILE_TEMPLATE_STATE, BANGER_FILE_TEMPLATE_MEMORY,
                                                 BANGER_FILE_VM_WORK, BANGER_FILE_VM_ROOTFS, NULL };

char *
banger_vm_template_programs (const BangerInstall *install)
{
  const char *const paths[] = { install->firecracker_vmm, install->qemu_vmm, QEMU, vm_guest_binary (), NULL };
  return banger_stamp_programs (paths);
}

void
banger_vm_template_clear (BangerVmTemplate *template)
{
  g_clear_pointer (&template->id, g_free);
  g_clear_pointer (&template->files, g_free);
  g_clear_pointer (&template->programs, g_free);
  banger_clear_fd (&template->dir_fd);
}

gboolean
vm_template_skip (gpointer data)
{
  return !((const VmStart *)data)->template.id;
}

gboolean
vm_template_is_own (const VmStart *start)
{
  return start->op->options.snapshot != NULL;
}

void
vm_template_find (VmStart *start)
{
  const BangerVms *vms = start->vm->vms;
  start->template.dir_fd = -1;
  if (vm_template_is_own (start))
    vm_fork_template (start->op->options.snapshot, &start->template);
  else if (start->first && !start->op->options.mapped && vms->sources->find_template)
    vms->sources->find_template (&start->vm->record, &start->template, vms->user_data);
}

/* Whether it is what was written down: before anything of it is used. */

typedef struct {
  BangerVmTemplate template;
  const BangerInstall *install;
} Check;

static void
check_free (gpointer data)
{
  Check *check = data;
  banger_vm_template_clear (&check->template);
  g_free (check);
}

static gboolean
check (gpointer data, GCancellable *cancellable, GError **error)
{
  const Check *self = data;
  g_autofree char *files = banger_stamp_files (self->template.dir_fd, banger_vm_template_files, FALSE, error);
  if (!files)
    return FALSE;
  if (!g_str_equal (files, self->template.files))
    return banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "its files are not as they were written");
  g_autofree char *programs = banger_vm_template_programs (self->install);
  return g_str_equal (programs, self->template.programs)
         || banger_set_error (error, BANGER_ERROR_STATE_CORRUPT,
                              "the engine or the guest's agent is another one since");
}

void
vm_template_check_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  static const BangerWork checking = { "check-template", check, NULL, check_free };
  const VmStart *start = data;
  Check *self = g_new0 (Check, 1);
  self->install = start->vm->vms->install;
  self->template = (BangerVmTemplate){ .dir_fd = fcntl (start->template.dir_fd, F_DUPFD_CLOEXEC, 3),
                                       .files = g_strdup (start->template.files),
                                       .programs = g_strdup (start->template.programs) };
  banger_work_async (&checking, self, cancellable, callback, user_data);
}

void
vm_template_identity_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  VmStart *start = data;
  vm_identity_async (start->vm, VM_IDENTITY_NEW, start->image.seed_bytes > 0, cancellable, callback, user_data);
}

/* Of the host, whatever the guest is made from: a template that is whole stays. */
static gboolean
is_of_host (const GError *error)
{
  return g_error_matches (error, BANGER_ERROR, BANGER_ERROR_HELPER_UNAVAILABLE)
         || g_error_matches (error, BANGER_ERROR, BANGER_ERROR_NOT_AUTHORIZED)
         || g_error_matches (error, BANGER_ERROR, BANGER_ERROR_LIMITS_EXCEEDED)
         || g_error_matches (error, BANGER_ERROR, BANGER_ERROR_NO_SPACE);
}

/* A template that was looked at and is not what it was is not looked at again. What failed before may have failed for
 * another reason, which the start without it will find. */
gboolean
vm_template_give_up (VmStart *start, const GError *error)
{
  const BangerVms *vms = start->vm->vms;
  VmOp *op = start->op;
  if (!start->template.id || vm_template_is_own (start) || op->vm->queue
      || g_cancellable_is_cancelled (op->job.cancellable))
    return FALSE;
  gboolean goes = (start->launched && !is_of_host (error))
                  || g_error_matches (error, BANGER_ERROR, BANGER_ERROR_STATE_CORRUPT);
  g_autofree char *text = g_strdup_printf ("it could not be restored from its template%s, and is booted: %s",
                                           goes ? ", which is removed" : "", error->message);
  vm_log (op->vm, op, LOG_WARNING, "%s", text);
  banger_job_warn (&op->job, text);
  if (goes)
    vms->sources->template_ended (start->template.id, error->message, vms->user_data);
  banger_vm_template_clear (&start->template);
  g_clear_pointer (&start->tap, g_free);
  g_clear_pointer (&start->root, g_free);
  start->placed = start->cleared = start->launched = FALSE;
  start->gave_up = TRUE;
  start->left = 0;
  return TRUE;
}

void
vm_template_used (VmStart *start)
{
  const BangerVms *vms = start->vm->vms;
  if (vm_template_is_own (start))
    return;
  if (start->template.id)
    vms->sources->template_ended (start->template.id, NULL, vms->user_data);
  else if (start->first && !start->gave_up && !start->op->options.mapped && vms->sources->booted)
    vms->sources->booted (&start->vm->record, vms->user_data);
}

/* Copies of a VM that runs, as far as it is theirs: whom they are made of, and that they come to run or go.
 * Never has one that did not come to run be a VM: its next start would give it the image's disks. */
#include "manager/vm/private.h"

#include <fcntl.h>

gboolean
vm_check_fork (const BangerVm *vm, const BangerVmVerbOptions *options, GError **error)
{
  return !vm->record.ephemeral
         || banger_set_error (error, BANGER_ERROR_NOT_SUPPORTED,
                              "%s is deleted when it ends, and no copies are made of it: make a VM that stays for that",
                              vm->record.name);
}

gboolean
vm_goes (const BangerVm *vm)
{
  return vm->record.ephemeral || *vm->record.forked != '\0';
}

/* What listens on a port of this host is not copied: the other one has it. */
void
vm_fork_fill (BangerVmRecord *record, const BangerVmRecord *of)
{
  g_strfreev (record->links);
  g_strfreev (record->host_ports);
  record->links = g_strdupv (of->links);
  record->host_ports = g_strdupv (of->host_ports);
  vm_set_string (&record->forked, of->id);
}

void
vm_fork_template (const BangerVmSnapshot *of, BangerVmTemplate *ret)
{
  *ret = (BangerVmTemplate){ .id = g_strdup (of->id),
                             .dir_fd = fcntl (of->dir_fd, F_DUPFD_CLOEXEC, 3),
                             .files = g_strdup (of->files),
                             .programs = g_strdup (of->programs),
                             .snapshot = !g_str_equal (of->root, "file") };
}

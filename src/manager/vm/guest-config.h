/* What a VM's guest is told of itself: the only place that puts it together, for the initramfs of a start and for a guest
 * that becomes the VM from a copied memory.
 * Never asks a guest: the address is that of the lease. */
#pragma once

#include "manager/vm/initrd.h"
#include "manager/vm/private.h"

typedef struct VmGuestConfig VmGuestConfig;

/** vm_guest_config_new: of @vm as its record is now. In the main loop. */
VmGuestConfig *vm_guest_config_new (BangerVm *vm, gboolean work_disk);
void vm_guest_config_free (VmGuestConfig *guest);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmGuestConfig, vm_guest_config_free)

/** vm_guest_config_read: its keys, and this host's name servers. In a worker. Returns: (transfer none): %NULL with
 * error. */
const BangerGuestConfig *vm_guest_config_read (VmGuestConfig *guest, GError **error);
/** vm_guest_config_has_dns: once it was read. */
gboolean vm_guest_config_has_dns (const VmGuestConfig *guest);

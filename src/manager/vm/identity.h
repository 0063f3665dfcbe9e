/* Makes a guest whose memory is a copy the VM that it is to be.
 * Called by the steps of a start.
 * Never leaves it open whether it worked: a guest that is not known to be its VM is not to be used. */
#pragma once

#include "manager/vm/private.h"

typedef enum {
  VM_IDENTITY_NEW,  /* the memory is another machine's: everything */
  VM_IDENTITY_SAME, /* its own: clock and entropy */
} VmIdentity;

/**
 * vm_identity_async:
 * @vm: one whose agent is ready, with keys in its folder. @work_disk: whether it has one. At most 20 s in the guest.
 * %BANGER_ERROR_NOT_SUPPORTED (an agent of an older banger, or not connected), %BANGER_ERROR_GUEST_FAILED (the message
 * names what could not be set), %BANGER_ERROR_GUEST_TIMEOUT, and what the reading of its keys gives. After any error of
 * %VM_IDENTITY_NEW the guest must be ended.
 */
void vm_identity_async (BangerVm *vm, VmIdentity what, gboolean work_disk, GCancellable *cancellable,
                        GAsyncReadyCallback callback, gpointer user_data);
/** vm_identity_finish: the agent's boot id is that of @vm's own then, see banger_agent_boot_id(). */
gboolean vm_identity_finish (GAsyncResult *result, GError **error);

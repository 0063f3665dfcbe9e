/* What becomes of a VM, and of its manager, while something of ours is in it.
 * Never asks twice: it subscribes, then looks. */
#pragma once

#include "cli/client.h"

typedef struct {
  BangerClient *client;
  const char *name, *path; /* of the VM */
  sd_bus_slot *changed, *removed, *owner, *look;
  char *state, *reason;
  gboolean ssh_starting; /* its ssh server does not listen yet */
  gboolean over;         /* there is nothing at the other end any more */
  gboolean manager_gone; /* it has ended since, whether there is another by now or not */
} BangerVmWatch;

/** banger_vm_watch_begin: @name, @path: borrowed. Without a bus there is nobody to tell. */
void banger_vm_watch_begin (BangerVmWatch *watch, BangerClient *client, const char *name, const char *path);
void banger_vm_watch_clear (BangerVmWatch *watch);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (BangerVmWatch, banger_vm_watch_clear)

/** banger_vm_watch_wait_over: what was in the guest often goes before the manager hears of the VM's end: a second at
 * most, or until a signal. */
void banger_vm_watch_wait_over (BangerVmWatch *watch);
/** banger_vm_watch_wait_ssh: while its ssh server is on its way, half a minute at most, or until a signal. */
void banger_vm_watch_wait_ssh (BangerVmWatch *watch);
/** banger_vm_watch_error: what has become of it. Returns: %FALSE. */
gboolean banger_vm_watch_error (const BangerVmWatch *watch, GError **error);

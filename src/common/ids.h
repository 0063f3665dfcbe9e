/* Names that follow from an id. The one place where they are derived.
 * Never given a string that did not pass banger_id_check(). */
#pragma once

#include <glib.h>
#include <sys/types.h>

#define BANGER_TAP_PREFIX "tap-fc-"
#define BANGER_DM_PREFIX "fc-rootfs-"

char *banger_id_new (void);                  /* 12 hex digits from getrandom(2) */
char *banger_tap_name (const char *vm_id);   /* tap-fc-<first 8> */
char *banger_dm_name (const char *vm_id);    /* fc-rootfs-<id> */
char *banger_scope_name (const char *vm_id); /* banger-vm-<id>.scope */
char *banger_vm_mac (const char *vm_id);     /* 06:xx:xx:xx:xx:xx from the first 10 digits of a SHA-256 of the id */
/* The last of the groups from 1879048192 on that systemd's UIDS-GIDS.md lists as used by nobody: of the programs that
 * look into disks. */
#define BANGER_WORKER_GID 2147352575u
/** banger_vm_gid: the group of the VM's VMM and of nobody else: 1879048192 and what the first 8 digits are modulo the
 * number of groups before that one. */
gid_t banger_vm_gid (const char *vm_id);
char *banger_object_path (const char *prefix, const char *id); /* prefix/id: ids need no escape */

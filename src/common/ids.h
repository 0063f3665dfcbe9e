/* Names that follow from an id. The one place where they are derived.
 * Used by the manager and the helper.
 * Never given a string that did not pass banger_id_check(). */
#pragma once

#include <glib.h>

#define BANGER_TAP_PREFIX "tap-fc-"
#define BANGER_DM_PREFIX "fc-rootfs-"

char *banger_id_new (void);                  /* 12 hex digits from getrandom(2) */
char *banger_tap_name (const char *vm_id);   /* tap-fc-<first 8> */
char *banger_dm_name (const char *vm_id);    /* fc-rootfs-<id> */
char *banger_scope_name (const char *vm_id); /* banger-vm-<id>.scope */
char *banger_vm_mac (const char *vm_id);     /* 06:xx:xx:xx:xx:xx from the first 10 digits of a SHA-256 of the id */
char *banger_object_path (const char *prefix, const char *id); /* prefix/id: ids need no escape */

/* Names that follow from an id.
 * Never given a string that did not pass banger_id_check(). */
#include "common/ids.h"

#include <sys/random.h>

#define FIRST_GID 0x70000000u
#define N_GIDS (BANGER_WORKER_GID - FIRST_GID)

char *
banger_id_new (void)
{
  guint64 value = 0;
  if (getrandom (&value, sizeof value, 0) != (ssize_t)sizeof value)
    g_error ("getrandom failed"); /* 8 bytes never fail once the pool is up */
  return g_strdup_printf ("%012" G_GINT64_MODIFIER "x", value & G_GUINT64_CONSTANT (0xffffffffffff));
}

char *
banger_tap_name (const char *vm_id)
{
  return g_strdup_printf (BANGER_TAP_PREFIX "%.8s", vm_id);
}

char *
banger_dm_name (const char *vm_id)
{
  return g_strconcat (BANGER_DM_PREFIX, vm_id, NULL);
}

char *
banger_scope_name (const char *vm_id)
{
  return g_strdup_printf ("banger-vm-%s.scope", vm_id);
}

char *
banger_vm_mac (const char *vm_id)
{
  g_autofree char *sum = g_compute_checksum_for_string (G_CHECKSUM_SHA256, vm_id, -1);
  return g_strdup_printf ("06:%.2s:%.2s:%.2s:%.2s:%.2s", sum, sum + 2, sum + 4, sum + 6, sum + 8);
}

gid_t
banger_vm_gid (const char *vm_id)
{
  g_autofree char *digits = g_strdup_printf ("%.8s", vm_id);
  return FIRST_GID + (gid_t)(g_ascii_strtoull (digits, NULL, 16) % N_GIDS);
}

char *
banger_object_path (const char *prefix, const char *id)
{
  return g_strconcat (prefix, "/", id, NULL);
}

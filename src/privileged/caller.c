/* Who calls.
 * Called by dispatch.c.
 * Never looks at a pid, never trusts what the bus did not vouch for. */
#include "privileged/caller.h"

#include <errno.h>

gboolean
banger_caller_uid (sd_bus_message *message, uid_t *ret_uid, GError **error)
{
  g_autoptr (sd_bus_creds) creds = NULL;
  uid_t uid = (uid_t)-1;
  int r = sd_bus_query_sender_creds (message, SD_BUS_CREDS_EUID, &creds);
  if (r >= 0 && (sd_bus_creds_get_augmented_mask (creds) & SD_BUS_CREDS_EUID))
    r = -EPERM; /* from /proc, not from the bus */
  if (r >= 0)
    r = sd_bus_creds_get_euid (creds, &uid);
  if (r < 0 || uid == (uid_t)-1)
    return banger_set_error_errno (error, BANGER_ERROR_ACCESS_DENIED, r < 0 ? -r : EPERM,
                                   "the bus does not say who calls");
  *ret_uid = uid;
  return TRUE;
}

gboolean
banger_caller_check (uid_t uid, uid_t owner, GError **error)
{
  if (uid != (uid_t)-1 && owner != (uid_t)-1 && (uid == 0 || uid == owner))
    return TRUE;
  return banger_set_error (error, BANGER_ERROR_ACCESS_DENIED,
                           "uid %u is not the owner of this installation; only uid %u and root may call", uid, owner);
}

/* Records of calls.
 * Called by dispatch.c.
 * Never decides anything. */
#include "privileged/audit.h"

#include "common/log.h"
#include "common/names.h"

/* Refusals: what a gate, the caller check or polkit said no to. Other errors are failures. */
static gboolean
is_refusal (const GError *error)
{
  static const BangerError codes[] = {
    BANGER_ERROR_ACCESS_DENIED, BANGER_ERROR_NOT_AUTHORIZED,  BANGER_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
    BANGER_ERROR_INVALID_ARGS,  BANGER_ERROR_INVALID_ID,      BANGER_ERROR_INVALID_NETWORK,
    BANGER_ERROR_INVALID_SIZE,  BANGER_ERROR_INVALID_SIGNAL,  BANGER_ERROR_INVALID_PATH,
    BANGER_ERROR_UNSAFE_FILE,   BANGER_ERROR_LIMITS_EXCEEDED, BANGER_ERROR_UNKNOWN_METHOD,
    BANGER_ERROR_INVALID_NAME,
  };
  for (size_t i = 0; i < G_N_ELEMENTS (codes); i++)
    if (g_error_matches (error, BANGER_ERROR, codes[i]))
      return TRUE;
  return FALSE;
}

static const char *
object_of (const BangerCall *call)
{
  return banger_call_vm (call) ? banger_call_vm (call) : call->strings[BANGER_ARG_BRIDGE];
}

void
banger_audit_call (const BangerCall *call, const GError *error)
{
  gint64 took = g_get_monotonic_time () - call->started;
  g_autofree char *uid = g_strdup_printf ("%u", call->caller), *usec = g_strdup_printf ("%" G_GINT64_FORMAT, took);
  const char *object = object_of (call);
  const char *const *fields = BANGER_FIELDS (
      BANGER_FIELD_METHOD, call->method->name, BANGER_FIELD_OP_ID, call->op_id, BANGER_FIELD_CALLER_UID, uid,
      BANGER_FIELD_DURATION_USEC, usec, BANGER_FIELD_OBJECT, object, BANGER_FIELD_VM, banger_call_vm (call),
      BANGER_FIELD_ACTION, call->method->action, BANGER_FIELD_ERROR, error ? error->message : NULL);
  const char *on = object ? " " : "", *which = object ? object : "";
  if (error && is_refusal (error))
    banger_log_audit (BANGER_MESSAGE_REFUSED, fields, "refused %s%s%s for uid %s: %s", call->method->name, on, which,
                      uid, error->message);
  else if (error)
    banger_log (LOG_WARNING, fields, "failed %s%s%s: %s", call->method->name, on, which, error->message);
  else if (call->method->grants)
    banger_log_audit (BANGER_MESSAGE_GRANTED, fields, "granted %s%s%s to uid %s", call->method->name, on, which, uid);
  else
    banger_log (call->method->routine ? LOG_DEBUG : LOG_INFO, fields, "completed %s%s%s", call->method->name, on,
                which);
}

void
banger_audit_early (const char *member, const char *op_id, uid_t uid, const GError *error)
{
  g_autofree char *shown = uid == (uid_t)-1 ? g_strdup ("unknown") : g_strdup_printf ("%u", uid);
  banger_log_audit (BANGER_MESSAGE_REFUSED,
                    BANGER_FIELDS (BANGER_FIELD_METHOD, member, BANGER_FIELD_OP_ID, op_id, BANGER_FIELD_CALLER_UID,
                                   shown, BANGER_FIELD_ERROR, error->message),
                    "refused %s for uid %s: %s", member ? member : "a call", shown, error->message);
}

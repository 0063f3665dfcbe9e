/* Records of calls.
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
  static const BangerArg kinds[] = { BANGER_ARG_VM, BANGER_ARG_BRIDGE, BANGER_ARG_IMAGE };
  for (size_t i = 0; i < G_N_ELEMENTS (kinds); i++)
    if (call->strings[kinds[i]])
      return call->strings[kinds[i]];
  return NULL;
}

/* Who floods the helper must not be able to drown the records of others, nor what the owner was granted: per uid, so
 * many errors in a while are recorded one by one, the rest as a number. Stays below the journal's own limit for the
 * unit. */
#define OWNER_RECORDS 200
#define STRANGER_RECORDS 50
#define WHILE_SECONDS 10

typedef struct {
  uid_t uid;
  guint recorded, left_out;
} Caller;

static char *
uid_text (uid_t uid)
{
  return uid == (uid_t)-1 ? g_strdup ("unknown") : g_strdup_printf ("%u", uid);
}

static GHashTable *callers; /* uid -> Caller; emptied by forget_callers() */

static gboolean
forget_callers (gpointer data)
{
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init (&iter, callers);
  while (g_hash_table_iter_next (&iter, NULL, &value)) {
    const Caller *caller = value;
    g_autofree char *uid = uid_text (caller->uid);
    if (caller->left_out > 0)
      banger_log_audit (BANGER_MESSAGE_FLOOD, BANGER_FIELDS (BANGER_FIELD_CALLER_UID, uid),
                        "refused %u more calls of uid %s in %d s", caller->left_out, uid, WHILE_SECONDS);
    g_hash_table_iter_remove (&iter);
  }
  return G_SOURCE_REMOVE;
}

static Caller *
find_caller (uid_t uid)
{
  if (!callers)
    callers = g_hash_table_new_full (NULL, NULL, NULL, g_free);
  if (g_hash_table_size (callers) == 0)
    g_timeout_add_seconds (WHILE_SECONDS, forget_callers, NULL);
  Caller *caller = g_hash_table_lookup (callers, GUINT_TO_POINTER (uid));
  if (!caller) {
    caller = g_new0 (Caller, 1);
    caller->uid = uid;
    g_hash_table_insert (callers, GUINT_TO_POINTER (uid), caller);
  }
  return caller;
}

void
banger_audit_flood (uid_t uid)
{
  find_caller (uid)->left_out++;
}

static gboolean
is_left_out (const BangerCall *call, const GError *error)
{
  guint most = call->caller == call->owner ? OWNER_RECORDS : STRANGER_RECORDS;
  if (!error || call->caller == 0)
    return FALSE;
  Caller *caller = find_caller (call->caller);
  if (caller->recorded++ < most)
    return FALSE;
  caller->left_out++;
  return TRUE;
}

void
banger_audit_call (const BangerCall *call, const GError *error)
{
  if (is_left_out (call, error))
    return;
  gint64 took = g_get_monotonic_time () - call->started;
  g_autofree char *usec = g_strdup_printf ("%" G_GINT64_FORMAT, took);
  g_autofree char *uid = uid_text (call->caller);
  g_autofree char *action = call->method ? g_strjoin (" ", call->method->action, call->method->also, NULL) : NULL;
  const char *object = object_of (call), *member = sd_bus_message_get_member (call->message);
  const char *const *fields = BANGER_FIELDS (
      BANGER_FIELD_METHOD, member, BANGER_FIELD_OP_ID, call->op_id, BANGER_FIELD_CALLER_UID, uid,
      BANGER_FIELD_DURATION_USEC, usec, BANGER_FIELD_OBJECT, object, BANGER_FIELD_VM, banger_call_vm (call),
      BANGER_FIELD_ACTION, action, BANGER_FIELD_ERROR, error ? error->message : NULL);
  const char *on = object ? " " : "", *which = object ? object : "";
  if (error && is_refusal (error))
    banger_log_audit (BANGER_MESSAGE_REFUSED, fields, "refused %s%s%s for uid %s: %s", member, on, which, uid,
                      error->message);
  else if (error)
    banger_log (LOG_WARNING, fields, "failed %s%s%s: %s", member, on, which, error->message);
  else if (call->method->grants)
    banger_log_audit (BANGER_MESSAGE_GRANTED, fields, "granted %s%s%s to uid %s", member, on, which, uid);
  else
    banger_log (call->method->routine ? LOG_DEBUG : LOG_INFO, fields, "completed %s%s%s", member, on, which);
}

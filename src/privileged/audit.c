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
  static const BangerArg kinds[] = { BANGER_ARG_VM, BANGER_ARG_BRIDGE, BANGER_ARG_IMAGE };
  for (size_t i = 0; i < G_N_ELEMENTS (kinds); i++)
    if (call->strings[kinds[i]])
      return call->strings[kinds[i]];
  return NULL;
}

/* A stranger who floods the helper must not be able to drown the records of others: per uid, so many in a while are
 * recorded one by one, the rest as a number. */
#define STRANGER_RECORDS 50
#define STRANGER_SECONDS 10

typedef struct {
  uid_t uid;
  guint recorded, left_out;
} Stranger;

static char *
uid_text (uid_t uid)
{
  return uid == (uid_t)-1 ? g_strdup ("unknown") : g_strdup_printf ("%u", uid);
}

static GHashTable *strangers; /* uid -> Stranger; emptied by forget_strangers() */

static gboolean
forget_strangers (gpointer data)
{
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init (&iter, strangers);
  while (g_hash_table_iter_next (&iter, NULL, &value)) {
    const Stranger *stranger = value;
    g_autofree char *uid = uid_text (stranger->uid);
    if (stranger->left_out > 0)
      banger_log_audit (BANGER_MESSAGE_FLOOD, BANGER_FIELDS (BANGER_FIELD_CALLER_UID, uid),
                        "refused %u more calls of uid %s in %d s", stranger->left_out, uid, STRANGER_SECONDS);
    g_hash_table_iter_remove (&iter);
  }
  return G_SOURCE_REMOVE;
}

static gboolean
is_left_out (const BangerCall *call, const GError *error)
{
  if (!error || call->caller == 0 || call->caller == call->owner)
    return FALSE;
  if (!strangers)
    strangers = g_hash_table_new_full (NULL, NULL, NULL, g_free);
  if (g_hash_table_size (strangers) == 0)
    g_timeout_add_seconds (STRANGER_SECONDS, forget_strangers, NULL);
  Stranger *stranger = g_hash_table_lookup (strangers, GUINT_TO_POINTER (call->caller));
  if (!stranger) {
    stranger = g_new0 (Stranger, 1);
    stranger->uid = call->caller;
    g_hash_table_insert (strangers, GUINT_TO_POINTER (call->caller), stranger);
  }
  if (stranger->recorded++ < STRANGER_RECORDS)
    return FALSE;
  stranger->left_out++;
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
  const char *object = object_of (call), *member = sd_bus_message_get_member (call->message);
  const char *const *fields = BANGER_FIELDS (BANGER_FIELD_METHOD, member, BANGER_FIELD_OP_ID, call->op_id,
                                             BANGER_FIELD_CALLER_UID, uid, BANGER_FIELD_DURATION_USEC, usec,
                                             BANGER_FIELD_OBJECT, object, BANGER_FIELD_VM, banger_call_vm (call),
                                             BANGER_FIELD_ACTION, call->method ? call->method->action : NULL,
                                             BANGER_FIELD_ERROR, error ? error->message : NULL);
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

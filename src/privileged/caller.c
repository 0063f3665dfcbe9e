/* Who calls.
 * Never looks at a pid, never waits for the bus, never trusts what the bus did not vouch for. */
#include "privileged/caller.h"

#include <errno.h>

#include "common/bus-source.h"

#define MAX_KNOWN 1024 /* connections; more than these are asked about again */
#define NO_UID ((uid_t)-1)
/* The bus drops its answer where others have filled the helper's queue there: it is asked again, 31 s in all. */
#define ASK_TRIES 5
#ifndef ASK_FIRST_USEC /* the test has less time */
#define ASK_FIRST_USEC G_USEC_PER_SEC
#endif

struct BangerCallers {
  sd_bus *bus;
  BangerCallerKnown known;
  GHashTable *uids;    /* unique name -> uid */
  GHashTable *waiting; /* unique name -> Waiting */
};

/* Calls of one connection whose uid was asked for. */
typedef struct {
  BangerCallers *callers;
  char *sender;
  sd_bus_slot *slot;
  guint tries;
  GPtrArray *calls;
} Waiting;

static void
waiting_free (gpointer data)
{
  Waiting *waiting = data;
  sd_bus_slot_unref (waiting->slot);
  g_ptr_array_unref (waiting->calls);
  g_free (waiting->sender);
  g_free (waiting);
}

BangerCallers *
banger_callers_new (sd_bus *bus, BangerCallerKnown known)
{
  BangerCallers *self = g_new0 (BangerCallers, 1);
  self->bus = bus;
  self->known = known;
  self->uids = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  self->waiting = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, waiting_free);
  return self;
}

void
banger_callers_free (BangerCallers *self)
{
  if (!self)
    return;
  g_hash_table_unref (self->waiting);
  g_hash_table_unref (self->uids);
  g_free (self);
}

static void
remember (BangerCallers *self, const char *sender, uid_t uid)
{
  if (g_hash_table_size (self->uids) >= MAX_KNOWN)
    g_hash_table_remove_all (self->uids);
  g_hash_table_insert (self->uids, g_strdup (sender), GUINT_TO_POINTER (uid));
}

/* dbus-specification: the bus answers an error where it does not know the uid. */
static uid_t
read_uid (sd_bus_message *reply, GError **error)
{
  guint32 uid = NO_UID;
  const sd_bus_error *failed = sd_bus_message_get_error (reply);
  int r = failed ? -sd_bus_error_get_errno (failed) : sd_bus_message_read (reply, "u", &uid);
  if (r >= 0 && uid == NO_UID)
    r = -EPERM;
  if (r < 0)
    banger_set_error_errno (error, BANGER_ERROR_ACCESS_DENIED, -r, "the bus does not say who calls");
  return r < 0 ? NO_UID : (uid_t)uid;
}

static int send_question (Waiting *waiting);

static int
on_uid (sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
  Waiting *waiting = userdata;
  BangerCallers *self = waiting->callers;
  g_autoptr (GError) error = NULL;
  if (sd_bus_message_is_method_error (reply, SD_BUS_ERROR_NO_REPLY) > 0 && waiting->tries < ASK_TRIES
      && send_question (waiting) >= 0)
    return 0;
  uid_t uid = read_uid (reply, &error);
  if (!error)
    remember (self, waiting->sender, uid);
  g_hash_table_steal (self->waiting, waiting->sender);
  for (guint i = 0; i < waiting->calls->len; i++)
    self->known (waiting->calls->pdata[i], uid, error);
  waiting_free (waiting);
  return 0;
}

static int
send_question (Waiting *waiting)
{
  sd_bus *bus = waiting->callers->bus;
  g_autoptr (sd_bus_message) m = NULL;
  waiting->slot = sd_bus_slot_unref (waiting->slot);
  int r = sd_bus_message_new_method_call (bus, &m, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                          "org.freedesktop.DBus", "GetConnectionUnixUser");
  if (r >= 0)
    r = sd_bus_message_append (m, "s", waiting->sender);
  if (r >= 0)
    r = sd_bus_call_async (bus, &waiting->slot, m, on_uid, waiting, (guint64)ASK_FIRST_USEC << waiting->tries);
  waiting->tries++;
  return r;
}

static Waiting *
ask (BangerCallers *self, const char *sender, GError **error)
{
  Waiting *waiting = g_new0 (Waiting, 1);
  waiting->callers = self;
  waiting->sender = g_strdup (sender);
  waiting->calls = g_ptr_array_new ();
  int r = send_question (waiting);
  if (r < 0) {
    banger_set_error_errno (error, BANGER_ERROR_ACCESS_DENIED, -r, "the bus cannot be asked who calls");
    waiting_free (waiting);
    return NULL;
  }
  g_hash_table_insert (self->waiting, waiting->sender, waiting);
  return waiting;
}

void
banger_callers_identify (BangerCallers *self, BangerCall *call, guint64 max_waiting)
{
  gpointer uid;
  g_autoptr (GError) error = NULL;
  Waiting *waiting = g_hash_table_lookup (self->waiting, call->sender);
  if (g_hash_table_lookup_extended (self->uids, call->sender, NULL, &uid)) {
    self->known (call, GPOINTER_TO_UINT (uid), NULL);
    return;
  }
  if (!waiting)
    waiting = ask (self, call->sender, &error);
  else if (waiting->calls->len >= max_waiting)
    banger_set_error (&error, BANGER_ERROR_LIMITS_EXCEEDED, "%u calls of this connection wait already (limits.pending)",
                      waiting->calls->len);
  if (error)
    self->known (call, NO_UID, error);
  else
    g_ptr_array_add (waiting->calls, call);
}

gboolean
banger_callers_peek (const BangerCallers *self, const char *sender, uid_t *ret_uid)
{
  gpointer uid = NULL;
  if (!sender || !g_hash_table_lookup_extended (self->uids, sender, NULL, &uid))
    return FALSE;
  *ret_uid = GPOINTER_TO_UINT (uid);
  return TRUE;
}

gboolean
banger_caller_check (uid_t uid, uid_t owner, GError **error)
{
  if (uid != NO_UID && owner != NO_UID && (uid == 0 || uid == owner))
    return TRUE;
  return banger_set_error (error, BANGER_ERROR_ACCESS_DENIED,
                           "uid %u is not the owner of this installation; only uid %u and root may call", uid, owner);
}

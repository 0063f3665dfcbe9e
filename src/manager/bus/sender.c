/* Whose a call is: the uid behind each connection to the session bus, which the bus is asked for once.
 * Never waits for the bus, and never lets a later call of a connection overtake an earlier one. */
#include "manager/bus/sender.h"

#include "common/error.h"
#include "common/log.h"
#include "manager/core/job.h"

#define MAX_KNOWN 256 /* a unique name is never given twice */
#define MAX_KEPT 256  /* calls of one connection */
/* The bus drops its answer where others have filled our queue there: it is asked again. */
#define ASK_TRIES 4
#ifndef ASK_FIRST_USEC /* the test has less time */
#define ASK_FIRST_USEC G_USEC_PER_SEC
#endif

struct BangerSenders {
  sd_bus *bus;
  GHashTable *table; /* unique name -> Sender */
};

typedef struct {
  BangerSenders *all;
  char *name;
  sd_bus_slot *slot; /* of the question */
  guint tries;
  gboolean answered;
  uid_t uid;
  GQueue kept;   /* sd_bus_message: until then */
  guint to_come; /* of those that were kept */
} Sender;

static void
sender_free (gpointer data)
{
  Sender *self = data;
  sd_bus_slot_unref (self->slot);
  for (sd_bus_message *message; (message = g_queue_pop_head (&self->kept)); sd_bus_message_unref (message))
    sd_bus_reply_method_errorf (message, banger_error_dbus_name (BANGER_ERROR_WRONG_STATE), BANGER_TEXT_ENDING);
  g_free (self->name);
  g_free (self);
}

BangerSenders *
banger_senders_new (sd_bus *bus)
{
  BangerSenders *senders = g_new0 (BangerSenders, 1);
  senders->bus = sd_bus_ref (bus);
  senders->table = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, sender_free);
  return senders;
}

void
banger_senders_free (BangerSenders *senders)
{
  if (!senders)
    return;
  g_hash_table_unref (senders->table);
  sd_bus_unref (senders->bus);
  g_free (senders);
}

/* What is kept is read again before anything else: the queue that it is put into goes before the socket. */
static void
answered (Sender *self, uid_t uid)
{
  self->answered = TRUE;
  self->uid = uid;
  self->slot = sd_bus_slot_unref (self->slot);
  for (sd_bus_message *message; (message = g_queue_pop_head (&self->kept)); sd_bus_message_unref (message)) {
    int r = sd_bus_enqueue_for_read (self->all->bus, message);
    if (r < 0)
      banger_log (LOG_WARNING, NULL, "a call of %s is lost: %s", self->name, g_strerror (-r));
    self->to_come += r >= 0;
  }
}

static int ask (Sender *self);

static int
on_uid (sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
  Sender *self = userdata;
  guint32 uid = BANGER_NO_UID;
  if (sd_bus_message_is_method_error (reply, SD_BUS_ERROR_NO_REPLY) > 0 && self->tries < ASK_TRIES && ask (self) >= 0)
    return 0;
  if (sd_bus_message_is_method_error (reply, NULL) > 0 || sd_bus_message_read (reply, "u", &uid) < 0)
    uid = BANGER_NO_UID;
  answered (self, uid);
  return 0;
}

static int
ask (Sender *self)
{
  sd_bus *bus = self->all->bus;
  g_autoptr (sd_bus_message) question = NULL;
  self->slot = sd_bus_slot_unref (self->slot);
  int r = sd_bus_message_new_method_call (bus, &question, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                          "org.freedesktop.DBus", "GetConnectionUnixUser");
  if (r >= 0)
    r = sd_bus_message_append (question, "s", self->name);
  if (r >= 0)
    r = sd_bus_call_async (bus, &self->slot, question, on_uid, self, (guint64)ASK_FIRST_USEC << self->tries);
  self->tries++;
  return r;
}

static gboolean
is_answered (gpointer key, gpointer value, gpointer data)
{
  return ((Sender *)value)->answered;
}

static Sender *
sender_new (BangerSenders *senders, const char *name)
{
  Sender *self = g_new0 (Sender, 1);
  self->all = senders;
  self->name = g_strdup (name);
  g_queue_init (&self->kept);
  if (g_hash_table_size (senders->table) >= MAX_KNOWN)
    g_hash_table_foreach_remove (senders->table, is_answered, NULL);
  g_hash_table_insert (senders->table, self->name, self);
  if (ask (self) < 0)
    answered (self, BANGER_NO_UID);
  return self;
}

gboolean
banger_senders_uid (BangerSenders *senders, sd_bus_message *message, uid_t *ret_uid)
{
  const char *name = sd_bus_message_get_sender (message);
  *ret_uid = BANGER_NO_UID;
  if (!name)
    return TRUE;
  Sender *self = g_hash_table_lookup (senders->table, name);
  if (!self)
    self = sender_new (senders, name);
  if (!self->answered && self->kept.length < MAX_KEPT) {
    g_queue_push_tail (&self->kept, sd_bus_message_ref (message));
    return FALSE;
  }
  if (!self->answered)
    return TRUE;
  *ret_uid = self->uid;
  if (self->to_come > 0)
    self->to_come--;
  if (self->uid == BANGER_NO_UID && self->to_come == 0)
    g_hash_table_remove (senders->table, name); /* the next call asks again */
  return TRUE;
}

/* VMs that shall go by themselves: those whose client has left the bus, and those whose deletion did not go through.
 * Never gives up, and believes nobody but the bus itself about who has left it. */
#include "manager/bus/follow.h"

#include "common/log.h"
#include "common/names.h"
#include "common/op-id.h"
#include "manager/vm/vm.h"

#define BUS_NAME "org.freedesktop.DBus"
#define BUS_PATH "/org/freedesktop/DBus"
#define FIRST_RETRY_SECONDS 1
#define LAST_RETRY_SECONDS 8

struct BangerFollow {
  BangerManager *manager;
  sd_bus *bus;
  GHashTable *watches; /* id -> Watch */
};

typedef struct {
  BangerFollow *follow;
  char *id;
  char *client;             /* unique name; NULL: none is followed */
  sd_bus_slot *match, *ask; /* of that name */
  gboolean going;           /* its client has gone */
  BangerJob *job;           /* the deletion under way */
  guint retry;
  guint seconds; /* until the retry after the next */
} Watch;

/* A deletion that ends when its watch is gone. */
typedef struct {
  BangerFollow *follow;
  BangerVm *vm;
} Deletion;

static void delete_vm (Watch *watch);

static void
watch_free (gpointer data)
{
  Watch *watch = data;
  sd_bus_slot_unref (watch->match);
  sd_bus_slot_unref (watch->ask);
  g_clear_handle_id (&watch->retry, g_source_remove);
  g_free (watch->id);
  g_free (watch->client);
  g_free (watch);
}

static Watch *
get_watch (BangerFollow *follow, const char *id)
{
  Watch *watch = g_hash_table_lookup (follow->watches, id);
  if (!watch) {
    watch = g_new0 (Watch, 1);
    watch->follow = follow;
    watch->id = g_strdup (id);
    watch->seconds = FIRST_RETRY_SECONDS;
    g_hash_table_insert (follow->watches, watch->id, watch);
  }
  return watch;
}

static gboolean
on_retry (gpointer data)
{
  Watch *watch = data;
  watch->retry = 0;
  delete_vm (watch);
  return G_SOURCE_REMOVE;
}

static void
retry_later (Watch *watch)
{
  if (watch->retry == 0)
    watch->retry = g_timeout_add_seconds (watch->seconds, on_retry, watch);
  watch->seconds = MIN (watch->seconds * 2, LAST_RETRY_SECONDS);
}

static void
on_deleted (BangerJob *job, const GError *error, gpointer data)
{
  g_autofree Deletion *deletion = data;
  g_autoptr (BangerVm) vm = deletion->vm;
  Watch *watch = g_hash_table_lookup (deletion->follow->watches, banger_vm_record (vm)->id);
  if (!watch)
    return;
  watch->job = NULL;
  retry_later (watch); /* it would be forgotten by now */
}

/* By force: nobody needs its disks any more. Refused while a deletion of somebody's is under way. */
static void
delete_vm (Watch *watch)
{
  BangerFollow *follow = watch->follow;
  BangerVm *vm = banger_vms_find_id (follow->manager->vms, watch->id);
  if (!vm || watch->job || (!watch->going && banger_vm_record (vm)->state != BANGER_VM_DELETING))
    return;
  const BangerVmVerbOptions options = { .force = TRUE };
  g_autofree char *op_id = banger_op_id_new ();
  const BangerJobSpec spec = { .kind = "delete-vm", .op_id = op_id };
  BangerJob *job = banger_vm_job_new (vm, BANGER_VM_VERB_DELETE, &options, follow->manager->jobs, &spec, NULL);
  if (!job) {
    retry_later (watch);
    return;
  }
  watch->job = job;
  Deletion *deletion = g_new0 (Deletion, 1);
  deletion->follow = follow;
  deletion->vm = banger_vm_ref (vm);
  banger_job_keep (job, on_deleted, deletion);
  banger_job_begin (job);
}

static void
client_has_gone (Watch *watch)
{
  if (watch->going)
    return;
  watch->going = TRUE;
  banger_log (LOG_INFO, BANGER_FIELDS (BANGER_FIELD_VM, watch->id), "the client of %s is gone: it goes, too",
              watch->id);
  delete_vm (watch);
}

static int
on_owner_changed (sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
  Watch *watch = userdata;
  const char *name, *before, *after;
  if (!banger_bus_is_from (message, BUS_NAME) || sd_bus_message_read (message, "sss", &name, &before, &after) < 0)
    return 0;
  if (g_strcmp0 (name, watch->client) == 0 && after[0] == '\0')
    client_has_gone (watch);
  return 0;
}

static int
on_owner (sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
  int there = TRUE;
  if (!sd_bus_message_is_method_error (message, NULL) && sd_bus_message_read (message, "b", &there) >= 0 && !there)
    client_has_gone (userdata);
  return 0;
}

/* Asked behind the subscription, so that there is no moment between the two in which it could go unseen. */
static int
watch_client (Watch *watch)
{
  sd_bus *bus = watch->follow->bus;
  g_autofree char *rule = g_strdup_printf ("type='signal',sender='" BUS_NAME "',path='" BUS_PATH
                                           "',interface='" BUS_NAME "',member='NameOwnerChanged',arg0='%s'",
                                           watch->client);
  int r = sd_bus_add_match_async (bus, &watch->match, rule, on_owner_changed, NULL, watch);
  if (r >= 0)
    r = sd_bus_call_method_async (bus, &watch->ask, BUS_NAME, BUS_PATH, BUS_NAME, "NameHasOwner", on_owner, watch, "s",
                                  watch->client);
  return r;
}

static char *
bus_id (sd_bus *bus)
{
  sd_id128_t id;
  char text[SD_ID128_STRING_MAX];
  return sd_bus_get_bus_id (bus, &id) < 0 ? g_strdup ("") : g_strdup (sd_id128_to_string (id, text));
}

char *
banger_follow_client (sd_bus *bus, const char *sender)
{
  g_autofree char *id = bus_id (bus);
  return g_strconcat (id, " ", sender, NULL);
}

static void
follow_client (BangerFollow *follow, const char *id, const char *client)
{
  Watch *watch = get_watch (follow, id);
  if (watch->client)
    return;
  g_autofree char *here = banger_follow_client (follow->bus, "");
  gboolean this_bus = g_str_has_prefix (client, here);
  watch->client = g_strdup (this_bus ? client + strlen (here) : "");
  int r = this_bus ? watch_client (watch) : 0;
  if (r < 0)
    banger_log (LOG_ERR, BANGER_FIELDS (BANGER_FIELD_VM, id), "cannot follow the client of %s: %s", id,
                g_strerror (-r));
  if (!this_bus)
    client_has_gone (watch);
}

void
banger_follow_look (BangerFollow *follow, const char *id)
{
  BangerVm *vm = banger_vms_find_id (follow->manager->vms, id);
  if (!vm)
    return;
  const BangerVmRecord *record = banger_vm_record (vm);
  if (record->client && *record->client != '\0')
    follow_client (follow, id, record->client);
  if (record->state == BANGER_VM_DELETING)
    retry_later (get_watch (follow, id)); /* unless it is gone by then */
}

void
banger_follow_forget (BangerFollow *follow, const char *id)
{
  g_hash_table_remove (follow->watches, id);
}

void
banger_follow_retry (BangerFollow *follow)
{
  g_autoptr (GList) watches = g_hash_table_get_values (follow->watches);
  for (GList *item = watches; item; item = item->next) {
    Watch *watch = item->data;
    if (watch->retry == 0)
      continue;
    g_clear_handle_id (&watch->retry, g_source_remove);
    watch->retry = g_idle_add (on_retry, watch);
  }
}

BangerFollow *
banger_follow_new (BangerManager *manager, sd_bus *bus)
{
  BangerFollow *follow = g_new0 (BangerFollow, 1);
  follow->manager = manager;
  follow->bus = sd_bus_ref (bus);
  follow->watches = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, watch_free);
  g_autoptr (GPtrArray) vms = banger_vms_list (manager->vms);
  for (guint i = 0; i < vms->len; i++)
    banger_follow_look (follow, banger_vm_record (vms->pdata[i])->id);
  return follow;
}

void
banger_follow_free (BangerFollow *follow)
{
  if (!follow)
    return;
  g_hash_table_unref (follow->watches);
  sd_bus_unref (follow->bus);
  g_free (follow);
}

/* GetStats and ListStats: what is known becomes a dictionary, or one of each VM.
 * Never writes a number that is not known: its key is missing. */
#include "manager/bus/stats-dbus.h"

#include "common/error.h"
#include "common/options.h"
#include "manager/vm/stats.h"

typedef struct {
  gboolean guest;
} StatsOptions;

static const BangerOption options[] = {
  { "guest", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (StatsOptions, guest) },
  { NULL },
};

static const struct {
  const char *key;
  size_t offset;
} numbers[] = {
  { "uptime-us", G_STRUCT_OFFSET (BangerStats, uptime_usec) },
  { "cpu-us", G_STRUCT_OFFSET (BangerStats, cpu_usec) },
  { "cpu-at-us", G_STRUCT_OFFSET (BangerStats, at_usec) },
  { "memory-bytes", G_STRUCT_OFFSET (BangerStats, memory_bytes) },
  { "root-bytes", G_STRUCT_OFFSET (BangerStats, root_bytes) },
  { "work-bytes", G_STRUCT_OFFSET (BangerStats, work_bytes) },
  { "received-bytes", G_STRUCT_OFFSET (BangerStats, received_bytes) },
  { "sent-bytes", G_STRUCT_OFFSET (BangerStats, sent_bytes) },
};

typedef struct {
  BangerRequest *request;
  BangerVm *vm;
} Getting;

static int
append_guest (sd_bus_message *reply, const BangerGuestStats *guest)
{
  return sd_bus_message_append (reply, "{sv}{sv}{sv}{sv}{sv}", "guest-total-bytes", "t", guest->total_bytes,
                                "guest-available-bytes", "t", guest->available_bytes, "guest-load", "d",
                                guest->loads[0], "guest-load-5", "d", guest->loads[1], "guest-load-15", "d",
                                guest->loads[2]);
}

static int
append_stats (sd_bus_message *reply, BangerVm *vm, const BangerStats *stats)
{
  const char *state = banger_vm_state_to_string ((BangerVmState)banger_vm_record (vm)->state);
  int r = sd_bus_message_open_container (reply, 'a', "{sv}");
  if (r >= 0)
    r = sd_bus_message_append (reply, "{sv}", "state", "s", banger_vm_known (vm) ? state : "unknown");
  for (guint i = 0; r >= 0 && i < G_N_ELEMENTS (numbers); i++) {
    guint64 value = G_STRUCT_MEMBER (guint64, stats, numbers[i].offset);
    if (value != G_MAXUINT64)
      r = sd_bus_message_append (reply, "{sv}", numbers[i].key, "t", value);
  }
  if (r >= 0 && stats->guest_known)
    r = append_guest (reply, &stats->guest);
  return r < 0 ? r : sd_bus_message_close_container (reply);
}

/* @reply: (transfer full) (nullable): complete, unless @r is an errno. */
static void
answer (BangerRequest *request, sd_bus_message *reply, int r)
{
  g_autoptr (sd_bus_message) message = reply;
  g_autoptr (GError) error = NULL;
  if (r >= 0) {
    banger_request_reply_message (request, message);
    return;
  }
  banger_set_error_errno (&error, BANGER_ERROR_FAILED, -r, "cannot write the answer");
  banger_request_fail (request, error);
}

static void
on_stats (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autofree Getting *getting = data;
  g_autoptr (BangerVm) vm = getting->vm;
  sd_bus_message *reply = NULL;
  int r = sd_bus_message_new_method_return (getting->request->message, &reply);
  if (r >= 0)
    r = append_stats (reply, vm, banger_vm_stats_finish (result));
  answer (getting->request, reply, r);
}

gboolean
banger_stats_handle_get (BangerRequest *request, gconstpointer by_name, GError **error)
{
  BangerManager *manager = banger_objects_manager (request->objects);
  StatsOptions values = { .guest = TRUE };
  const char *name = NULL;
  BangerVm *vm = NULL;
  if (!by_name)
    vm = banger_objects_find (request->objects, BANGER_OBJECT_VM, sd_bus_message_get_path (request->message));
  else if (banger_request_read (request, error, "s", &name))
    vm = banger_vms_find (manager->vms, name, error);
  if (!vm || !banger_options_read (request->message, options, &values, error))
    return FALSE;
  Getting *getting = g_new0 (Getting, 1);
  *getting = (Getting){ request, banger_vm_ref (vm) };
  banger_vm_stats_async (vm, values.guest, on_stats, getting);
  return TRUE;
}

/* Of many */

typedef struct {
  gboolean guest;
  char **vms; /* NULL: all that have a VMM */
} ListOptions;

static const BangerOption list_options[] = {
  { "guest", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (ListOptions, guest) },
  { "vms", BANGER_OPTION_STRV, G_STRUCT_OFFSET (ListOptions, vms) },
  { NULL },
};

typedef struct {
  BangerRequest *request;
  GPtrArray *vms; /* Listed */
  guint waits;
} Listing;

typedef struct {
  Listing *listing;
  BangerVm *vm;
  char *name;           /* as it was asked for */
  GAsyncResult *result; /* keeps the numbers */
} Listed;

static void
listed_free (gpointer data)
{
  Listed *listed = data;
  banger_vm_unref (listed->vm);
  g_clear_object (&listed->result);
  g_free (listed->name);
  g_free (listed);
}

static void
listed_one (Listing *listing)
{
  if (--listing->waits > 0)
    return;
  sd_bus_message *reply = NULL;
  int r = sd_bus_message_new_method_return (listing->request->message, &reply);
  if (r >= 0)
    r = sd_bus_message_open_container (reply, 'a', "{sa{sv}}");
  for (guint i = 0; r >= 0 && i < listing->vms->len; i++) {
    const Listed *listed = listing->vms->pdata[i];
    r = sd_bus_message_open_container (reply, 'e', "sa{sv}");
    if (r >= 0)
      r = sd_bus_message_append (reply, "s", listed->name);
    if (r >= 0)
      r = append_stats (reply, listed->vm, banger_vm_stats_finish (listed->result));
    if (r >= 0)
      r = sd_bus_message_close_container (reply);
  }
  if (r >= 0)
    r = sd_bus_message_close_container (reply);
  answer (listing->request, reply, r);
  g_ptr_array_unref (listing->vms);
  g_free (listing);
}

static void
on_listed (GObject *source, GAsyncResult *result, gpointer data)
{
  Listed *listed = data;
  listed->result = g_object_ref (result);
  listed_one (listed->listing);
}

/* Each VM once, under whatever name came first. */
static void
list (Listing *listing, BangerVm *vm, const char *name)
{
  for (guint i = 0; i < listing->vms->len; i++)
    if (((Listed *)listing->vms->pdata[i])->vm == vm)
      return;
  Listed *listed = g_new0 (Listed, 1);
  *listed = (Listed){ listing, banger_vm_ref (vm), g_strdup (name), NULL };
  g_ptr_array_add (listing->vms, listed);
}

static void
find (Listing *listing, BangerVms *vms, char **names)
{
  g_autoptr (GPtrArray) all = names ? NULL : banger_vms_list (vms);
  for (guint i = 0; all && i < all->len; i++) {
    const BangerVmRecord *record = banger_vm_record (all->pdata[i]);
    if (record->state == BANGER_VM_RUNNING || record->state == BANGER_VM_PAUSED)
      list (listing, all->pdata[i], record->name);
  }
  for (; names && *names; names++) {
    BangerVm *vm = banger_vms_find (vms, *names, NULL);
    if (vm)
      list (listing, vm, *names);
  }
}

gboolean
banger_stats_handle_list (BangerRequest *request, gconstpointer data, GError **error)
{
  ListOptions values = { .guest = TRUE };
  gboolean ok = banger_options_read (request->message, list_options, &values, error);
  if (ok) {
    Listing *listing = g_new0 (Listing, 1);
    *listing = (Listing){ request, g_ptr_array_new_with_free_func (listed_free), 1 };
    find (listing, banger_objects_manager (request->objects)->vms, values.vms);
    listing->waits += listing->vms->len;
    for (guint i = 0; i < listing->vms->len; i++) {
      Listed *listed = listing->vms->pdata[i];
      banger_vm_stats_async (listed->vm, values.guest, on_listed, listed);
    }
    listed_one (listing);
  }
  banger_options_clear (list_options, &values);
  return ok;
}

/* GetStats: what is known becomes a dictionary.
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
append_stats (sd_bus_message *reply, const Getting *getting, const BangerStats *stats)
{
  const char *state = banger_vm_state_to_string ((BangerVmState)banger_vm_record (getting->vm)->state);
  int r = sd_bus_message_open_container (reply, 'a', "{sv}");
  if (r >= 0)
    r = sd_bus_message_append (reply, "{sv}", "state", "s", banger_vm_known (getting->vm) ? state : "unknown");
  for (guint i = 0; r >= 0 && i < G_N_ELEMENTS (numbers); i++) {
    guint64 value = G_STRUCT_MEMBER (guint64, stats, numbers[i].offset);
    if (value != G_MAXUINT64)
      r = sd_bus_message_append (reply, "{sv}", numbers[i].key, "t", value);
  }
  if (r >= 0 && stats->guest_known)
    r = append_guest (reply, &stats->guest);
  return r < 0 ? r : sd_bus_message_close_container (reply);
}

static void
on_stats (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autofree Getting *getting = data;
  g_autoptr (BangerVm) vm = getting->vm;
  g_autoptr (sd_bus_message) reply = NULL;
  int r = sd_bus_message_new_method_return (getting->request->message, &reply);
  if (r >= 0)
    r = append_stats (reply, getting, banger_vm_stats_finish (result));
  if (r >= 0) {
    banger_request_reply_message (getting->request, reply);
    return;
  }
  g_autoptr (GError) error = NULL;
  banger_set_error_errno (&error, BANGER_ERROR_FAILED, -r, "cannot write the answer");
  banger_request_fail (getting->request, error);
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

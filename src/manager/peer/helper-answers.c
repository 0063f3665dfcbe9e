/* What the root helper answered, read and held to what was asked for.
 * Never believes a name, a number or a length because the helper says it. */
#include "manager/peer/helper-answers.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-bus.h>

#include "common/bus-source.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/pidfd.h"
#include "common/validate.h"

#define MAX_ENGINE 32
#define MAX_REASON 1000 /* it ends in a record */
#define MAX_LEASES 1000 /* limits.vms has no more */
#define MAX_RESOURCES 1000

gboolean
banger_helper_bad_answer (GError **error, int r)
{
  return banger_set_error_errno (error, BANGER_ERROR_HELPER_UNAVAILABLE, r < 0 ? -r : EBADMSG,
                                 "the root helper's answer cannot be read: is it of another version");
}

gboolean
banger_helper_finish (GAsyncResult *result, GError **error)
{
  g_autoptr (sd_bus_message) m = g_task_propagate_pointer (G_TASK (result), error);
  return m != NULL;
}

static gboolean
is_called (const char *name, const char *expected, GError **error)
{
  g_autofree char *shown = banger_log_escape (name, 100);
  return g_str_equal (name, expected)
         || banger_set_error (error, BANGER_ERROR_HELPER_UNAVAILABLE,
                              "the root helper made '%s', where '%s' belongs: is it of another version", shown,
                              expected);
}

gboolean
banger_helper_name_finish (GAsyncResult *result, const char *expected, GError **error)
{
  g_autoptr (sd_bus_message) m = g_task_propagate_pointer (G_TASK (result), error);
  const char *name = NULL;
  int r = m ? sd_bus_message_read (m, "s", &name) : 0;
  return m && (r < 0 ? banger_helper_bad_answer (error, r) : is_called (name, expected, error));
}

gboolean
banger_helper_place_finish (GAsyncResult *result, const char *tap, const char *device, gboolean *ret_device,
                            GError **error)
{
  g_autoptr (sd_bus_message) m = g_task_propagate_pointer (G_TASK (result), error);
  const char *names[2] = { NULL };
  int r = m ? sd_bus_message_read (m, "ss", &names[0], &names[1]) : 0;
  if (!m || r < 0)
    return m && banger_helper_bad_answer (error, r);
  *ret_device = *names[1] != '\0';
  return is_called (names[0], tap, error) && (!*ret_device || is_called (names[1], device, error));
}

int
banger_helper_vmm_finish (GAsyncResult *result, guint32 *ret_pid, GError **error)
{
  g_autoptr (sd_bus_message) m = g_task_propagate_pointer (G_TASK (result), error);
  if (!m)
    return -1;
  guint32 pid;
  int borrowed;
  int r = sd_bus_message_read (m, "uh", &pid, &borrowed);
  if (r >= 0 && !banger_pidfd_is_of (borrowed, pid))
    r = -EBADF;
  if (r < 0) {
    banger_helper_bad_answer (error, r);
    return -1;
  }
  int pidfd = fcntl (borrowed, F_DUPFD_CLOEXEC, 3); /* the message's own is closed with it */
  if (pidfd < 0)
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot keep the VMM's descriptor");
  else
    *ret_pid = pid;
  return pidfd;
}

int
banger_helper_disk_finish (GAsyncResult *result, GError **error)
{
  g_autoptr (sd_bus_message) m = g_task_propagate_pointer (G_TASK (result), error);
  struct stat st;
  int borrowed = -1;
  if (!m)
    return -1;
  int r = sd_bus_message_read (m, "h", &borrowed);
  int flags = r < 0 ? -1 : fcntl (borrowed, F_GETFL);
  if (r >= 0
      && (flags < 0 || (flags & (O_ACCMODE | O_PATH)) != O_RDONLY || fstat (borrowed, &st) < 0
          || !S_ISREG (st.st_mode)))
    r = -EBADF;
  int fd = r < 0 ? -1 : fcntl (borrowed, F_DUPFD_CLOEXEC, 3);
  if (fd < 0)
    banger_helper_bad_answer (error, r < 0 ? r : -errno);
  return fd;
}

/* One entry of GetVmm's answer; keys that are not known are passed over. */
static int
read_status_entry (sd_bus_message *m, BangerVmmStatus *status)
{
  const char *key, *contents;
  int r = sd_bus_message_read (m, "s", &key);
  if (r >= 0)
    r = sd_bus_message_peek_type (m, NULL, &contents);
  if (r < 0)
    return r;
  int truth, number;
  if (g_str_equal (key, "running") && g_str_equal (contents, "b")) {
    r = sd_bus_message_read (m, "v", "b", &truth);
    status->running = r >= 0 && truth;
  } else if (g_str_equal (key, "pid") && g_str_equal (contents, "u")) {
    r = sd_bus_message_read (m, "v", "u", &status->pid);
  } else if (g_str_equal (key, "exit-code") && g_str_equal (contents, "i")) {
    r = sd_bus_message_read (m, "v", "i", &number);
    status->exit_code = r >= 0 ? number : -1;
  } else if (g_str_equal (key, "exit-signal") && g_str_equal (contents, "i")) {
    r = sd_bus_message_read (m, "v", "i", &number);
    status->exit_signal = r >= 0 ? number : 0;
  } else {
    r = sd_bus_message_skip (m, "v");
  }
  return r;
}

gboolean
banger_helper_status_finish (GAsyncResult *result, BangerVmmStatus *ret, GError **error)
{
  g_autoptr (sd_bus_message) m = g_task_propagate_pointer (G_TASK (result), error);
  if (!m)
    return FALSE;
  BangerVmmStatus status = { .exit_code = -1 };
  int r = sd_bus_message_enter_container (m, 'a', "{sv}");
  while (r >= 0 && (r = sd_bus_message_enter_container (m, 'e', "sv")) > 0) {
    r = read_status_entry (m, &status);
    if (r >= 0)
      r = sd_bus_message_exit_container (m);
  }
  if (r < 0)
    return banger_helper_bad_answer (error, r);
  *ret = status;
  return TRUE;
}

gboolean
banger_helper_engine_finish (GAsyncResult *result, BangerEngineInfo *ret, GError **error)
{
  g_autoptr (sd_bus_message) m = g_task_propagate_pointer (G_TASK (result), error);
  if (!m)
    return FALSE;
  const char *name, *problem, *kvm;
  int r = sd_bus_message_read (m, "sss", &name, &problem, &kvm);
  if (r < 0)
    return banger_helper_bad_answer (error, r);
  ret->name = banger_log_escape (name, MAX_ENGINE);
  ret->problem = banger_log_escape (problem, MAX_REASON);
  ret->kvm = banger_log_escape (kvm, MAX_REASON);
  return TRUE;
}

void
banger_engine_info_clear (BangerEngineInfo *info)
{
  g_clear_pointer (&info->name, g_free);
  g_clear_pointer (&info->problem, g_free);
  g_clear_pointer (&info->kvm, g_free);
}

static void
lease_info_free (gpointer data)
{
  BangerLeaseInfo *info = data;
  g_free (info->vm);
  g_strfreev (info->resources);
  g_free (info);
}

static int
add_lease (GPtrArray *leases, const char *vm, const char *resources, guint32 pid)
{
  if (leases->len >= MAX_LEASES || strlen (resources) > MAX_RESOURCES)
    return -E2BIG;
  if (!banger_id_check (vm, "lease", NULL))
    return 0;
  BangerLeaseInfo *info = g_new0 (BangerLeaseInfo, 1);
  info->vm = g_strdup (vm);
  info->resources = g_strsplit (resources, ",", -1);
  info->pid = pid;
  g_ptr_array_add (leases, info);
  return 0;
}

GPtrArray *
banger_helper_leases_finish (GAsyncResult *result, GError **error)
{
  g_autoptr (sd_bus_message) m = g_task_propagate_pointer (G_TASK (result), error);
  if (!m)
    return NULL;
  g_autoptr (GPtrArray) leases = g_ptr_array_new_with_free_func (lease_info_free);
  const char *vm, *resources;
  guint32 pid;
  int r = sd_bus_message_enter_container (m, 'a', "(ssu)");
  while (r >= 0 && (r = sd_bus_message_read (m, "(ssu)", &vm, &resources, &pid)) > 0)
    r = add_lease (leases, vm, resources, pid);
  if (r < 0) {
    banger_helper_bad_answer (error, r);
    return NULL;
  }
  return g_steal_pointer (&leases);
}

/* What a VM uses.
 * Called for GetStats.
 * Never has the main loop wait for a file, nor a client for a guest or a disk that does not answer. */
#include "manager/vm/stats.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "common/fd.h"
#include "common/ids.h"
#include "common/names.h"
#include "common/validate.h"
#include "manager/core/later.h"
#include "manager/core/work.h"
#include "manager/vm/private.h"

#define ANSWER_SECONDS 2
#define MAX_LOAD 100000000 /* in hundredths */
#define MAX_BEHIND 2       /* threads of one VM that hang */
#define NOT_KNOWN G_MAXUINT64

/* What a guest says */

gboolean
banger_guest_stats_parse (const char *text, guint32 memory_mib, BangerGuestStats *ret_stats)
{
  const guint64 most = (guint64)memory_mib << 10;
  guint64 values[2 + BANGER_STATS_LOADS];
  if (!text || strlen (text) > 128)
    return FALSE;
  g_auto (GStrv) words = g_strsplit (text, " ", -1);
  if (g_strv_length (words) != G_N_ELEMENTS (values))
    return FALSE;
  for (guint i = 0; i < G_N_ELEMENTS (values); i++)
    if (!banger_uint_parse (words[i], 0, i < 2 ? most : MAX_LOAD, &values[i], NULL))
      return FALSE;
  if (values[0] == 0 || values[1] > values[0])
    return FALSE;
  ret_stats->total_bytes = values[0] << 10;
  ret_stats->available_bytes = values[1] << 10;
  for (guint i = 0; i < BANGER_STATS_LOADS; i++)
    ret_stats->loads[i] = (double)values[2 + i] / 100;
  return TRUE;
}

/* What the host knows */

guint64
banger_stats_read_value (const char *text, const char *key)
{
  const char *at = text;
  if (key) {
    gsize length = strlen (key);
    while (at && !(strncmp (at, key, length) == 0 && at[length] == ' '))
      at = (at = strchr (at, '\n')) ? at + 1 : NULL;
    at = at ? at + length + 1 : NULL;
  }
  if (!at || !g_ascii_isdigit (*at))
    return NOT_KNOWN;
  return g_ascii_strtoull (at, NULL, 10);
}

char *
banger_stats_cgroup (const char *text, const char *id)
{
  for (const char *at = text; at; at = strchr (at, '\n'), at = at ? at + 1 : NULL) {
    if (!g_str_has_prefix (at, "0::/"))
      continue;
    char *path = g_strndup (at + strlen ("0::"), strcspn (at + strlen ("0::"), "\n"));
    if (strstr (strrchr (path, '/'), id) && !strstr (path, "/.."))
      return path;
    g_free (path);
  }
  return NULL;
}

typedef struct {
  BangerVm *vm; /* not the thread's */
  char *id, *tap;
  guint32 pid;
  int dir_fd;
  BangerStats stats;
} Look;

/* @key: (nullable): see banger_stats_read_value(). */
static guint64
read_file (const char *folder, const char *name, const char *key)
{
  g_autofree char *path = g_build_filename (folder, name, NULL), *text = NULL;
  return g_file_get_contents (path, &text, NULL, NULL) ? banger_stats_read_value (text, key) : NOT_KNOWN;
}

/* The number may be another process's by now: a cgroup has the VM's name. */
static void
look_at_cgroup (Look *look)
{
  static const char *const mounts[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };
  g_autofree char *file = g_strdup_printf ("/proc/%u/cgroup", look->pid), *text = NULL, *cgroup = NULL;
  if (look->pid == 0 || !g_file_get_contents (file, &text, NULL, NULL)
      || !(cgroup = banger_stats_cgroup (text, look->id)))
    return;
  for (guint i = 0; i < G_N_ELEMENTS (mounts) && look->stats.cpu_usec == NOT_KNOWN; i++) {
    g_autofree char *folder = g_build_filename (mounts[i], cgroup, NULL);
    look->stats.cpu_usec = read_file (folder, "cpu.stat", "usage_usec");
    look->stats.at_usec = (guint64)g_get_monotonic_time ();
    look->stats.memory_bytes = read_file (folder, "memory.current", NULL);
  }
}

/* What the tap sent the guest received. */
static void
look_at_tap (Look *look)
{
  g_autofree char *folder = g_build_filename ("/sys/class/net", look->tap, "statistics", NULL);
  if (look->pid == 0)
    return;
  look->stats.received_bytes = read_file (folder, "tx_bytes", NULL);
  look->stats.sent_bytes = read_file (folder, "rx_bytes", NULL);
}

static guint64
allocated (int dir_fd, const char *name)
{
  struct stat st;
  return dir_fd >= 0 && fstatat (dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG (st.st_mode)
             ? (guint64)st.st_blocks * 512
             : NOT_KNOWN;
}

static gboolean
run_look (gpointer data, GCancellable *cancellable, GError **error)
{
  Look *look = data;
  look_at_cgroup (look);
  look_at_tap (look);
  look->stats.root_bytes = allocated (look->dir_fd, BANGER_FILE_VM_ROOTFS);
  look->stats.work_bytes = allocated (look->dir_fd, BANGER_FILE_VM_WORK);
  return TRUE;
}

static void
look_free (gpointer data)
{
  Look *look = data;
  look->vm->looks--;
  banger_vm_unref (look->vm);
  banger_clear_fd (&look->dir_fd);
  g_free (look->id);
  g_free (look->tap);
  g_free (look);
}

/* Both */

typedef struct {
  BangerVm *vm;
  BangerStats stats;
  guint waits; /* for the thread, for the guest */
  GCancellable *late;
} Asking;

static void
asking_free (gpointer data)
{
  Asking *asking = data;
  banger_vm_unref (asking->vm);
  g_object_unref (asking->late);
  g_free (asking);
}

static void
one_done (GTask *task)
{
  Asking *asking = g_task_get_task_data (task);
  if (--asking->waits == 0)
    g_task_return_pointer (task, &asking->stats, NULL);
  g_object_unref (task);
}

static void
on_looked (GObject *source, GAsyncResult *result, gpointer data)
{
  GTask *task = data;
  Asking *asking = g_task_get_task_data (task);
  guint64 uptime = asking->stats.uptime_usec;
  if (banger_work_finish (result, NULL)) {
    BangerGuestStats guest = asking->stats.guest;
    gboolean known = asking->stats.guest_known;
    asking->stats = ((Look *)banger_work_data (result))->stats;
    asking->stats.uptime_usec = uptime;
    asking->stats.guest = guest;
    asking->stats.guest_known = known;
  }
  one_done (task);
}

static void
on_told (GObject *source, GAsyncResult *result, gpointer data)
{
  GTask *task = data;
  Asking *asking = g_task_get_task_data (task);
  asking->stats.guest_known = banger_agent_call_finish (result, NULL)
                              && banger_guest_stats_parse (banger_agent_call_answer (result),
                                                           asking->vm->record.memory_mib, &asking->stats.guest);
  one_done (task);
}

static void
begin_look (GTask *task, Asking *asking)
{
  static const BangerWork work = { "stats", run_look, NULL, look_free };
  BangerVm *vm = asking->vm;
  if (vm->looks >= MAX_BEHIND)
    return;
  Look *look = g_new0 (Look, 1);
  *look = (Look){ .vm = banger_vm_ref (vm),
                  .id = g_strdup (vm->record.id),
                  .tap = banger_tap_name (vm->record.id),
                  .pid = vm->record.pid,
                  .dir_fd = vm->dir_fd >= 0 ? fcntl (vm->dir_fd, F_DUPFD_CLOEXEC, 3) : -1,
                  .stats = asking->stats };
  vm->looks++;
  asking->waits++;
  banger_work_async (&work, look, asking->late, on_looked, g_object_ref (task));
}

void
banger_vm_stats_async (BangerVm *vm, gboolean ask, GAsyncReadyCallback callback, gpointer user_data)
{
  g_autoptr (GTask) task = g_task_new (NULL, NULL, callback, user_data);
  Asking *asking = g_new0 (Asking, 1);
  asking->vm = banger_vm_ref (vm);
  asking->late = g_cancellable_new ();
  asking->waits = 1; /* for us */
  asking->stats = (BangerStats){
    NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN
  };
  gint64 since = vm->record.started_at > 0 ? g_get_real_time () - (gint64)vm->record.started_at : -1;
  if (since >= 0)
    asking->stats.uptime_usec = (guint64)since;
  g_task_set_task_data (task, asking, asking_free);
  begin_look (task, asking);
  if (ask && vm->record.state == BANGER_VM_RUNNING && vm->agent && banger_agent_connected (vm->agent)) {
    asking->waits++;
    banger_agent_call_async (vm->agent, "stats", ANSWER_SECONDS, asking->late, on_told, g_object_ref (task));
  }
  banger_cancel_later (asking->late, ANSWER_SECONDS);
  one_done (g_object_ref (task));
}

const BangerStats *
banger_vm_stats_finish (GAsyncResult *result)
{
  return g_task_propagate_pointer (G_TASK (result), NULL);
}

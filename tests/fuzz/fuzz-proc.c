/* What the kernel says about a process, parts of which the process chooses: its name, its command line, its cgroup.
 * Run as replay.c says.
 * Never takes a line for another. */
#include <glib.h>
#include <string.h>

#include "fuzz.h"
#include "privileged/cgroup.h"
#include "privileged/engine.h"
#include "privileged/gate.h"

static void
cgroup (const char *text)
{
  g_autofree char *path = banger_gate_cgroup_path (text), *line = path ? g_strconcat ("0::", path, NULL) : NULL;
  if (!path)
    return;
  g_assert_true (path[0] == '/' && !strchr (path, '\n'));
  const char *found = strstr (text, line);
  while (found && found != text && found[-1] != '\n')
    found = strstr (found + 1, line);
  g_assert_nonnull (found);
}

static void
stat_line (const char *text)
{
  char state = 0;
  guint64 start = 0;
  if (banger_gate_proc_stat (text, &state, &start))
    g_assert_true (state != 0 && start > 0);
}

static void
status (const char *text)
{
  uid_t uid = 0;
  (void)banger_gate_proc_uid (text, &uid);
}

static void
mounts (const char *text)
{
  g_autoptr (GPtrArray) mounts = banger_cgroup_parse_mountinfo (text);
  for (guint i = 0; i < mounts->len; i++) {
    const BangerCgroupMount *mount = mounts->pdata[i];
    g_assert_true (mount->path && mount->root[0] == '/');
  }
}

static void
lease_cgroup (const char *text)
{
  if (banger_cgroup_check (text, "0123456789ab", NULL))
    g_assert_true (text[0] == '/' && !strstr (text, "/../") && strstr (text, "/banger-vm-0123456789ab"));
}

static void
cpus (const char *text)
{
  (void)banger_engine_cpu_flags (text);
}

/* Words of a command line, each ended by NUL: only "--api-sock" and its short forms name a socket, never a part. */
static void
orphan (const char *bytes, size_t size)
{
  static const char folder[] = "/run/banger/1000/0123456789ab", vm[] = "0123456789ab";
  if (banger_gate_orphan (bytes, size, folder, vm))
    g_assert_true (memmem (bytes, size, "-a", 2) || memmem (bytes, size, "--api-sock", 10));
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static void (*const readers[]) (const char *) = { cgroup, stat_line, status, mounts, lease_cgroup, cpus };
  g_autofree char *text = g_strndup ((const char *)data, size);
  for (size_t i = 0; i < G_N_ELEMENTS (readers); i++)
    readers[i](text);
  orphan ((const char *)data, size);
  return 0;
}

/* The gate on processes that may be signalled (requirement B9).
 * Called by vmm.c and launch.c.
 * Never judges by name, command line or a part of a path. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/pidfd.h"
#include "privileged/gate.h"

char *
banger_gate_cgroup_path (const char *text)
{
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  for (char **line = lines; *line; line++)
    if (g_str_has_prefix (*line, "0::/"))
      return g_strdup (*line + 3);
  return NULL;
}

/* The name in parentheses may hold anything, also ") R 1": the last ')' ends it. */
gboolean
banger_gate_proc_stat (const char *text, char *ret_state, guint64 *ret_start)
{
  const char *end = strrchr (text, ')');
  if (!end || end[1] != ' ')
    return FALSE;
  g_auto (GStrv) words = g_strsplit (end + 2, " ", -1);
  guint64 start;
  if (g_strv_length (words) < 20 || strlen (words[0]) != 1
      || !g_ascii_string_to_unsigned (words[19], 10, 1, G_MAXUINT64, &start, NULL))
    return FALSE;
  *ret_state = words[0][0];
  *ret_start = start;
  return TRUE;
}

gboolean
banger_gate_proc_uid (const char *text, uid_t *ret_uid)
{
  const char *line = g_str_has_prefix (text, "Uid:") ? text : strstr (text, "\nUid:");
  unsigned uids[4];
  if (!line || sscanf (strchr (line, ':') + 1, "%u %u %u %u", &uids[0], &uids[1], &uids[2], &uids[3]) != 4)
    return FALSE;
  if (uids[0] != uids[1] || uids[0] != uids[2] || uids[0] != uids[3])
    return FALSE;
  *ret_uid = uids[0];
  return TRUE;
}

static char *
read_proc (pid_t pid, const char *name)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/%s", (int)pid, name);
  char *text = NULL;
  return g_file_get_contents (path, &text, NULL, NULL) ? text : NULL;
}

static gboolean
matches (const BangerProcessClaim *claim)
{
  g_autofree char *stat = read_proc (claim->pid, "stat"), *status = read_proc (claim->pid, "status");
  g_autofree char *cgroups = read_proc (claim->pid, "cgroup");
  char state;
  guint64 start = 0;
  uid_t uid = (uid_t)-1;
  if (!stat || !status || !cgroups || !banger_gate_proc_stat (stat, &state, &start) || start != claim->start
      || !banger_gate_proc_uid (status, &uid) || (uid != claim->uid && uid != 0))
    return FALSE;
  g_autofree char *cgroup = banger_gate_cgroup_path (cgroups);
  return g_strcmp0 (cgroup, claim->cgroup) == 0;
}

int
banger_gate_process (const BangerProcessClaim *claim, GError **error)
{
  if (claim->pid <= 1 || claim->pid == getpid () || !claim->cgroup || claim->start == 0) {
    banger_set_error (error, BANGER_ERROR_ACCESS_DENIED, "process %d can never be a VMM", (int)claim->pid);
    return -1;
  }
  banger_autofd int pidfd = banger_pidfd_open (claim->pid);
  if (pidfd < 0) {
    banger_set_error_errno (error, BANGER_ERROR_WRONG_STATE, errno, "the VMM (process %d) has ended", (int)claim->pid);
    return -1;
  }
  /* Alive after the reads: the number was not given to another process meanwhile. */
  gboolean same = matches (claim);
  if (!banger_pidfd_alive (pidfd)) {
    banger_set_error (error, BANGER_ERROR_WRONG_STATE, "the VMM (process %d) has ended", (int)claim->pid);
    return -1;
  }
  if (!same) {
    banger_set_error (error, BANGER_ERROR_ACCESS_DENIED, "process %d is not the VMM that the lease names",
                      (int)claim->pid);
    return -1;
  }
  return banger_steal_fd (&pidfd);
}

/* The gate on processes that may be signalled (requirement B9).
 * Called by vmm.c and launch.c.
 * Never judges by a name or a part of a path; by a command line only for a process whose cgroup does not say. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/names.h"
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

/* Each word of @bytes; an unended last one is not a word. */
static GPtrArray *
split_words (const char *bytes, size_t length)
{
  GPtrArray *words = g_ptr_array_new ();
  const char *end;
  for (; length > 0 && (end = memchr (bytes, '\0', length)); length -= (size_t)(end + 1 - bytes), bytes = end + 1)
    g_ptr_array_add (words, (gpointer)bytes);
  return words;
}

/* The one value of an option that is given as "LONG VALUE", "LONG=VALUE" or "SHORT VALUE"; NULL without, or twice. */
static const char *
single_value (const GPtrArray *words, const char *long_name, const char *short_name)
{
  const char *found = NULL;
  size_t length = strlen (long_name);
  for (guint i = 1; i < words->len && !g_str_equal (words->pdata[i], "--"); i++) {
    const char *word = words->pdata[i], *value = NULL;
    if (g_str_equal (word, long_name) || (short_name && g_str_equal (word, short_name)))
      value = i + 1 < words->len ? words->pdata[++i] : "";
    else if (strncmp (word, long_name, length) == 0 && word[length] == '=')
      value = word + length + 1;
    if (value && found)
      return NULL;
    found = value ? value : found;
  }
  return found;
}

gboolean
banger_gate_orphan (const char *bytes, size_t length, const char *folder, const char *vm)
{
  g_autoptr (GPtrArray) words = split_words (bytes, length);
  const char *path = single_value (words, "--api-sock", "-a"), *id = single_value (words, "--id", NULL);
  size_t n = strlen (folder);
  if (!path)
    return FALSE;
  if (g_str_equal (path, BANGER_JAIL_API_SOCKET))
    return g_strcmp0 (id, vm) == 0;
  if (strncmp (path, folder, n) != 0 || path[n] != '/')
    return FALSE;
  const char *name = path + n + 1;
  return *name && !strchr (name, '/') && !g_str_equal (name, ".") && !g_str_equal (name, "..");
}

static gboolean
is_orphan (const BangerProcessClaim *claim)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/cmdline", (int)claim->pid), *bytes = NULL;
  size_t length = 0;
  return claim->folder && g_file_get_contents (path, &bytes, &length, NULL)
         && banger_gate_orphan (bytes, length, claim->folder, claim->vm);
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
      || !banger_gate_proc_uid (status, &uid))
    return FALSE;
  g_autofree char *cgroup = banger_gate_cgroup_path (cgroups);
  if (g_strcmp0 (cgroup, claim->cgroup) == 0)
    return uid == claim->uid || uid == 0;
  return uid == claim->uid && is_orphan (claim);
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

/* The gate on processes that may be signalled (requirement B9).
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

/* The number that stands four times behind @key: real, effective, saved, of the file system. */
static gboolean
same_four (const char *text, const char *key, guint *ret)
{
  size_t length = strlen (key);
  unsigned ids[4];
  const char *line = text;
  while (line && strncmp (line, key, length) != 0)
    line = (line = strchr (line, '\n')) ? line + 1 : NULL;
  if (!line || sscanf (line + length, "%u %u %u %u", &ids[0], &ids[1], &ids[2], &ids[3]) != 4 || ids[0] != ids[1]
      || ids[0] != ids[2] || ids[0] != ids[3])
    return FALSE;
  *ret = ids[0];
  return TRUE;
}

gboolean
banger_gate_proc_uid (const char *text, uid_t *ret_uid)
{
  return same_four (text, "Uid:", ret_uid);
}

/* NULL without an error: there is no such process any more. What this process lacks says nothing about that one. */
static char *
read_proc (pid_t pid, const char *name, size_t *length, GError **error)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/%s", (int)pid, name);
  g_autoptr (GError) own = NULL;
  char *text = NULL;
  if (!g_file_get_contents (path, &text, length, &own) && !g_error_matches (own, G_FILE_ERROR, G_FILE_ERROR_NOENT)
      && !g_error_matches (own, G_FILE_ERROR, G_FILE_ERROR_FAILED)) /* ESRCH has no word of GLib's */
    banger_set_error (error, BANGER_ERROR_FAILED, "cannot look at process %d: %s", (int)pid, own->message);
  return text;
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
is_orphan (const BangerProcessClaim *claim, GError **error)
{
  size_t length = 0;
  g_autofree char *bytes = claim->folder ? read_proc (claim->pid, "cmdline", &length, error) : NULL;
  return bytes && banger_gate_orphan (bytes, length, claim->folder, claim->vm);
}

static gboolean
matches (const BangerProcessClaim *claim, GError **error)
{
  g_autoptr (GError) own = NULL;
  g_autofree char *stat = read_proc (claim->pid, "stat", NULL, &own);
  g_autofree char *status = own ? NULL : read_proc (claim->pid, "status", NULL, &own);
  g_autofree char *cgroups = own ? NULL : read_proc (claim->pid, "cgroup", NULL, &own);
  char state;
  guint64 start = 0;
  uid_t uid = (uid_t)-1;
  if (own)
    g_propagate_error (error, g_steal_pointer (&own));
  if (!stat || !status || !cgroups || !banger_gate_proc_stat (stat, &state, &start) || start != claim->start
      || !banger_gate_proc_uid (status, &uid))
    return FALSE;
  g_autofree char *cgroup = banger_gate_cgroup_path (cgroups);
  if (g_strcmp0 (cgroup, claim->cgroup) == 0)
    return uid == claim->uid || uid == 0;
  return uid == claim->uid && is_orphan (claim, error);
}

/* Only ESRCH says that there is none. */
static int
open_process (pid_t pid, GError **error)
{
  int pidfd = banger_pidfd_open (pid);
  if (pidfd < 0 && errno == ESRCH)
    banger_set_error (error, BANGER_ERROR_WRONG_STATE, "process %d has ended", (int)pid);
  else if (pidfd < 0)
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot look at process %d", (int)pid);
  return pidfd;
}

int
banger_gate_process (const BangerProcessClaim *claim, GError **error)
{
  g_autoptr (GError) unread = NULL;
  if (claim->pid <= 1 || claim->pid == getpid () || !claim->cgroup || claim->start == 0) {
    banger_set_error (error, BANGER_ERROR_ACCESS_DENIED, "process %d can never be a VMM", (int)claim->pid);
    return -1;
  }
  banger_autofd int pidfd = open_process (claim->pid, error);
  if (pidfd < 0) {
    g_prefix_error (error, "the VMM: ");
    return -1;
  }
  /* Alive after the reads: the number was not given to another process meanwhile. */
  gboolean same = matches (claim, &unread);
  if (!banger_pidfd_alive (pidfd))
    banger_set_error (error, BANGER_ERROR_WRONG_STATE, "the VMM (process %d) has ended", (int)claim->pid);
  else if (unread)
    g_propagate_error (error, g_steal_pointer (&unread));
  else if (!same)
    banger_set_error (error, BANGER_ERROR_ACCESS_DENIED, "process %d is not the VMM that the lease names",
                      (int)claim->pid);
  else
    return banger_steal_fd (&pidfd);
  return -1;
}

int
banger_gate_process_of_group (pid_t pid, uid_t uid, gid_t gid, GError **error)
{
  guint has_uid = 0, has_gid = 0;
  g_autoptr (GError) unread = NULL;
  gboolean never = pid <= 1 || pid == getpid ();
  banger_autofd int pidfd = never ? -1 : open_process (pid, error);
  if (pidfd < 0 && !never)
    return -1;
  g_autofree char *status = never ? NULL : read_proc (pid, "status", NULL, &unread);
  gboolean inside = status && same_four (status, "Gid:", &has_gid) && has_gid == gid;
  gboolean owned = inside && same_four (status, "Uid:", &has_uid) && has_uid == uid;
  if (unread)
    g_propagate_error (error, g_steal_pointer (&unread));
  else if (!inside || !banger_pidfd_alive (pidfd))
    banger_set_error (error, BANGER_ERROR_WRONG_STATE, "process %d is not of group %u", (int)pid, gid);
  else if (!owned)
    banger_set_error (error, BANGER_ERROR_ACCESS_DENIED, "process %d of group %u is another user's", (int)pid, gid);
  else
    return banger_steal_fd (&pidfd);
  return -1;
}

/* Who has a port of this host, as /proc tells it.
 * Never decides anything. */
#include "manager/net/port.h"

#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#include "common/folder.h"
#include "common/log.h"

#define ANY "00000000"
#define LOOPBACK "0100007F"
#define ANY6 "00000000000000000000000000000000"
#define MAPPED "0000000000000000FFFF00000100007F"

/* A row of proc_net(5): "sl local:port remote st queues timer retransmits uid timeout inode". */
static gboolean
find_socket (guint16 port, uid_t *ret_uid, guint64 *ret_inode)
{
  static const char *const tables[] = { "/proc/net/udp", "/proc/net/tcp", "/proc/net/udp6", "/proc/net/tcp6" };
  static const char *const places[] = { ANY, LOOPBACK, ANY6, MAPPED, NULL };
  for (guint i = 0; i < G_N_ELEMENTS (tables); i++) {
    g_autofree char *text = NULL;
    if (!g_file_get_contents (tables[i], &text, NULL, NULL))
      continue;
    g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
    for (char **line = lines; *line; line++) {
      char local[40];
      guint at, remote, uid;
      guint64 inode;
      if (sscanf (*line, " %*u: %39[0-9A-F]:%x %*[0-9A-F]:%x %*x %*x:%*x %*x:%*x %*x %u %*u %" G_GUINT64_FORMAT, local,
                  &at, &remote, &uid, &inode)
              == 5
          && at == port && remote == 0 && g_strv_contains (places, local))
      {
        *ret_uid = uid;
        *ret_inode = inode;
        return TRUE;
      }
    }
  }
  return FALSE;
}

static gboolean
has_socket (const char *pid, guint64 inode)
{
  g_autofree char *folder = g_strdup_printf ("/proc/%s/fd", pid),
                  *wanted = g_strdup_printf ("socket:[%" G_GUINT64_FORMAT "]", inode);
  banger_autofolder DIR *dir = banger_folder_open (AT_FDCWD, folder);
  for (const struct dirent *entry; (entry = banger_folder_next (dir));) {
    g_autofree char *path = g_build_filename (folder, entry->d_name, NULL), *target = g_file_read_link (path, NULL);
    if (g_strcmp0 (target, wanted) == 0)
      return TRUE;
  }
  return FALSE;
}

/* Of others' processes it cannot be seen. */
static char *
find_process (guint64 inode)
{
  banger_autofolder DIR *dir = banger_folder_open (AT_FDCWD, "/proc");
  for (const struct dirent *entry; (entry = banger_folder_next (dir));) {
    const char *pid = entry->d_name;
    if (!g_ascii_isdigit (pid[0]) || !has_socket (pid, inode))
      continue;
    g_autofree char *path = g_strdup_printf ("/proc/%s/comm", pid), *comm = NULL;
    if (!g_file_get_contents (path, &comm, NULL, NULL))
      continue;
    g_autofree char *shown = banger_log_escape (g_strchomp (comm), 40);
    return g_strdup_printf ("%s, pid %s, ", shown, pid);
  }
  return NULL;
}

char *
banger_port_holder (guint16 port)
{
  uid_t uid;
  guint64 inode;
  if (!find_socket (port, &uid, &inode))
    return NULL;
  char buffer[16384];
  struct passwd entry, *found = NULL;
  (void)getpwuid_r (uid, &entry, buffer, sizeof buffer, &found);
  g_autofree char *process = find_process (inode), *number = g_strdup_printf ("%u", uid);
  return g_strdup_printf ("%sof user %s", process ? process : "a process ", found ? found->pw_name : number);
}

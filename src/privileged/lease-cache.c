/* The leases of all VMs as they are on the disk, without reading each file each time.
 * Never asked about one VM's own lease: that is read from its file. */
#include "privileged/lease-cache.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "common/folder.h"
#include "common/log.h"
#include "common/validate.h"
#include "privileged/lease.h"

/* The kernel queues what happened to a file before the call that did it returns: unlike a time stamp, that misses
 * nothing, neither the helper's own writes nor root's by hand, unless those go through another name of the file (link(2)). */
#define CHANGES (IN_CREATE | IN_MODIFY | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE)
#define LOST (IN_Q_OVERFLOW | IN_IGNORED | IN_UNMOUNT)

struct BangerLeaseCache {
  GMutex lock;
  int leases_fd;
  int watch_fd;       /* -1: every file is read each time */
  GHashTable *leases; /* id -> BangerLease, NULL: to be read; itself NULL: the folder is to be listed */
};

static int
start_watch (int leases_fd)
{
  g_autofree char *path = g_strdup_printf ("/proc/self/fd/%d", leases_fd);
  banger_autofd int fd = inotify_init1 (IN_CLOEXEC | IN_NONBLOCK);
  if (fd >= 0 && inotify_add_watch (fd, path, CHANGES | IN_ONLYDIR) >= 0)
    return banger_steal_fd (&fd);
  banger_log (LOG_NOTICE, NULL, "cannot watch the folder of leases (%s): each is read each time", g_strerror (errno));
  return -1;
}

BangerLeaseCache *
banger_lease_cache_new (int leases_fd, gboolean watch)
{
  BangerLeaseCache *cache = g_new0 (BangerLeaseCache, 1);
  g_mutex_init (&cache->lock);
  cache->leases_fd = leases_fd;
  cache->watch_fd = watch ? start_watch (leases_fd) : -1;
  return cache;
}

void
banger_lease_cache_free (BangerLeaseCache *cache)
{
  if (!cache)
    return;
  banger_clear_fd (&cache->watch_fd);
  g_clear_pointer (&cache->leases, g_hash_table_unref);
  g_mutex_clear (&cache->lock);
  g_free (cache);
}

/* The id of a lease's file; NULL for temporaries and strangers. */
static char *
id_of (const char *name)
{
  if (!g_str_has_suffix (name, BANGER_LEASE_SUFFIX))
    return NULL;
  g_autofree char *id = g_strndup (name, strlen (name) - strlen (BANGER_LEASE_SUFFIX));
  return banger_id_check (id, "lease", NULL) ? g_steal_pointer (&id) : NULL;
}

static void
lease_free (gpointer data)
{
  banger_lease_free (data);
}

static void
forget_all (BangerLeaseCache *cache)
{
  g_clear_pointer (&cache->leases, g_hash_table_unref);
}

static void
forget (BangerLeaseCache *cache, const char *name)
{
  char *id = cache->leases ? id_of (name) : NULL;
  if (id)
    g_hash_table_replace (cache->leases, id, NULL);
}

/* inotify(7): the kernel never splits an event. */
static void
take_changes (BangerLeaseCache *cache)
{
  char buffer[4096] __attribute__ ((aligned (__alignof__(struct inotify_event))));
  ssize_t n;
  while (cache->watch_fd >= 0 && ((n = read (cache->watch_fd, buffer, sizeof buffer)) > 0 || errno != EAGAIN)) {
    const struct inotify_event *event;
    if (n <= 0 && errno == EINTR)
      continue;
    if (n <= 0)
      banger_clear_fd (&cache->watch_fd);
    for (ssize_t at = 0; at < n; at += (ssize_t)(sizeof *event + event->len)) {
      event = (const struct inotify_event *)(gconstpointer)(buffer + at);
      if (event->mask & LOST)
        forget_all (cache);
      else if (event->len > 0)
        forget (cache, event->name);
      if (event->mask & IN_IGNORED)
        banger_clear_fd (&cache->watch_fd);
    }
  }
  if (cache->watch_fd < 0)
    forget_all (cache);
}

static gboolean
list_folder (BangerLeaseCache *cache, GError **error)
{
  g_autoptr (GHashTable) leases = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, lease_free);
  banger_autofolder DIR *dir = banger_folder_open (cache->leases_fd, ".");
  for (const struct dirent *entry; (entry = banger_folder_next (dir));) {
    char *id = id_of (entry->d_name);
    if (id)
      g_hash_table_replace (leases, id, NULL);
  }
  if (errno != 0) /* a lease that is not listed would be taken for one that is not there */
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot list the leases");
  cache->leases = g_steal_pointer (&leases);
  return TRUE;
}

/* What cannot be read is tried again each time. */
static void
read_changed (BangerLeaseCache *cache, GPtrArray *leases, GPtrArray *broken)
{
  const BangerRoot root = { .leases_fd = cache->leases_fd };
  GHashTableIter iter;
  gpointer id, lease;
  g_hash_table_iter_init (&iter, cache->leases);
  while (g_hash_table_iter_next (&iter, &id, &lease)) {
    gboolean missing = FALSE;
    if (!lease && (lease = banger_lease_load (&root, id, &missing, NULL)))
      g_hash_table_iter_replace (&iter, lease);
    if (lease)
      g_ptr_array_add (leases, banger_lease_ref (lease));
    else if (missing)
      g_hash_table_iter_remove (&iter);
    else
      g_ptr_array_add (broken, g_strdup (id));
  }
}

GPtrArray *
banger_lease_cache_list (BangerLeaseCache *cache, GPtrArray **ret_broken, GError **error)
{
  g_autoptr (GPtrArray) leases = g_ptr_array_new_with_free_func (lease_free);
  g_autoptr (GPtrArray) broken = g_ptr_array_new_with_free_func (g_free);
  g_mutex_lock (&cache->lock);
  take_changes (cache);
  gboolean ok = cache->leases || list_folder (cache, error);
  if (ok)
    read_changed (cache, leases, broken);
  g_mutex_unlock (&cache->lock);
  if (!ok)
    return NULL;
  if (ret_broken)
    *ret_broken = g_steal_pointer (&broken);
  return g_steal_pointer (&leases);
}

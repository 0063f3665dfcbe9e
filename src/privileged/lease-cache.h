/* The leases of all VMs as they are on the disk, without reading each file each time.
 * Never asked about one VM's own lease: that is read from its file. */
#pragma once

#include <glib.h>

typedef struct BangerLeaseCache BangerLeaseCache;

/**
 * banger_lease_cache_new:
 * @leases_fd: the folder of leases; borrowed. @watch: to read only what has changed since the last time (inotify(7)),
 * whoever changed it. Where that cannot be had, and without @watch, every file is read each time.
 */
BangerLeaseCache *banger_lease_cache_new (int leases_fd, gboolean watch);
void banger_lease_cache_free (BangerLeaseCache *cache);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerLeaseCache, banger_lease_cache_free)

/** banger_lease_cache_list: as banger_lease_list(). */
GPtrArray *banger_lease_cache_list (BangerLeaseCache *cache, GPtrArray **ret_broken, GError **error);

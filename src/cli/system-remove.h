/* What `banger system uninstall` takes from the disk.
 * Never removes a thing that banger did not make: the folders of install.toml may hold others' files. */
#pragma once

#include "common/install.h"

/** banger_system_leases: Returns: (transfer full) (element-type utf8): ids of VMs that hold parts of this host; NULL
 * with error. */
GPtrArray *banger_system_leases (const BangerInstall *install, GError **error);

/**
 * banger_system_remove_files:
 * Removes what install, the helper and the manager made, each thing by its name; the owner's VMs, images and kernels
 * only if @purge. Folders go when they are empty; one that is not is named to standard error. Every step is taken even
 * if one fails. Returns: how many failed, @error being the first.
 */
guint banger_system_remove_files (const BangerInstall *install, gboolean purge, GError **error);

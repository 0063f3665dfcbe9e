/* What `banger system uninstall` takes from the disk.
 * Never removes a thing that banger did not make: the folders of install.toml may hold others' files. */
#include "cli/system-remove.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <string.h>
#include <unistd.h>

#include "cli/system-paths.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/folder.h"
#include "common/names.h"
#include "common/safe-path.h"

#define LEASE_END ".json"

GPtrArray *
banger_system_leases (const BangerInstall *install, GError **error)
{
  g_autofree char *path = g_build_filename (install->runtime_dir, "leases", NULL);
  g_autoptr (GPtrArray) ids = g_ptr_array_new_with_free_func (g_free);
  banger_autofolder DIR *dir = banger_folder_open (AT_FDCWD, path);
  for (const struct dirent *entry; (entry = banger_folder_next (dir));)
    if (g_str_has_suffix (entry->d_name, LEASE_END))
      g_ptr_array_add (ids, g_strndup (entry->d_name, strlen (entry->d_name) - strlen (LEASE_END)));
  if (errno == 0 || (!dir && errno == ENOENT))
    return g_steal_pointer (&ids);
  banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot read '%s'"), path);
  return NULL;
}

static gboolean
remove_below (const char *directory, const char *name, GError **error)
{
  banger_autofd int dir = open (directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0)
    return errno == ENOENT
           || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot open '%s'"), directory);
  return banger_safe_remove_tree (dir, name, error);
}

static gboolean
remove_if_empty (const char *directory, GError **error)
{
  if (rmdir (directory) == 0 || errno == ENOENT)
    return TRUE;
  if (errno == EBUSY) { /* a disk of its own, which is the admin's */
    g_printerr (_ ("banger: '%s' is left, something is mounted there\n"), directory);
    return TRUE;
  }
  if (errno != ENOTEMPTY && errno != EEXIST)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot remove '%s'"), directory);
  g_printerr (_ ("banger: '%s' is left, it holds files that are not banger's\n"), directory);
  return TRUE;
}

guint
banger_system_remove_files (const BangerInstall *install, gboolean purge, GError **error)
{
  g_autofree char *uid = g_strdup_printf ("%u", install->owner_uid);
  g_autofree char *cow = g_build_filename (install->state_dir, "cow", NULL);
  const struct {
    const char *directory, *name; /* name NULL: the folder itself, if it is empty */
    gboolean wanted;
  } rows[] = {
    { BANGER_POLKIT_RULES_DIR, BANGER_POLKIT_RULES_FILE, TRUE },
    { install->runtime_dir, "leases", TRUE },
    { install->runtime_dir, "forwarding.json", TRUE },
    { install->runtime_dir, uid, TRUE },
    { install->runtime_dir, NULL, TRUE },
    { install->cache_dir, uid, purge },
    { install->cache_dir, NULL, purge },
    { install->state_dir, "jail", TRUE },
    { cow, uid, purge },
    { cow, NULL, purge },
    { install->state_dir, uid, purge },
    { install->state_dir, NULL, purge },
    { BANGER_ETC_DIR, BANGER_LINGER_FILE, TRUE },
    { BANGER_ETC_DIR, BANGER_FIREWALL_NAME, TRUE },
    { BANGER_ETC_DIR, "install.toml", TRUE }, /* last: until here uninstall can be run again */
    { BANGER_ETC_DIR, NULL, TRUE },
  };
  guint failed = 0;
  for (size_t i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GError) why = NULL;
    gboolean last = g_strcmp0 (rows[i].name, "install.toml") == 0;
    if (!rows[i].wanted || (last && failed > 0))
      continue;
    if (rows[i].name ? remove_below (rows[i].directory, rows[i].name, &why) : remove_if_empty (rows[i].directory, &why))
      continue;
    if (failed++ > 0)
      g_printerr ("banger: %s\n", why->message);
    else
      g_propagate_error (error, g_steal_pointer (&why));
  }
  return failed;
}

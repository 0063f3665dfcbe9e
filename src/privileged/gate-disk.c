/* The gates on what is read and written in a disk (requirement B7).
 * Never asks the disk: what a path means in it is for banger-disk to find out, without rights. */
#include <string.h>

#include "common/log.h"
#include "privileged/gate.h"

#define MAX_COMPONENT 255

static gboolean
refuse (const char *path, const char *why, GError **error)
{
  g_autofree char *shown = banger_log_escape (path, 80);
  return banger_set_error (error, BANGER_ERROR_INVALID_PATH, "path '%s' is not allowed: %s", shown, why);
}

gboolean
banger_gate_disk_path (const char *path, GError **error)
{
  if (path[0] != '/' || path[1] == '\0' || strlen (path) > BANGER_DISK_MAX_PATH)
    return refuse (path, "it must begin with '/', name something, and have at most 1023 bytes", error);
  for (const char *c = path; *c; c++)
    if ((unsigned char)*c < 0x20 || *c == 0x7f)
      return refuse (path, "it has control characters", error);
  g_auto (GStrv) parts = g_strsplit (path + 1, "/", -1);
  for (char **part = parts; *part; part++)
    if (**part == '\0' || g_str_equal (*part, ".") || g_str_equal (*part, "..") || strlen (*part) > MAX_COMPONENT)
      return refuse (path, "each component has 1 to 255 bytes and is not '.' or '..'", error);
  return TRUE;
}

gboolean
banger_gate_disk_files (const GPtrArray *files, GError **error)
{
  g_autoptr (GHashTable) seen = g_hash_table_new (g_str_hash, g_str_equal);
  size_t total = 0;
  if (files->len == 0 || files->len > BANGER_DISK_MAX_FILES)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "files: 1 to %d can be written at once",
                             BANGER_DISK_MAX_FILES);
  for (guint i = 0; i < files->len; i++) {
    const BangerDiskFile *file = files->pdata[i];
    if (!banger_gate_disk_path (file->path, error))
      return FALSE;
    if (!g_hash_table_add (seen, (gpointer)file->path))
      return refuse (file->path, "it is given twice", error);
    if (file->mode & ~07777u)
      return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "files: mode 0%o has more than permission bits",
                               file->mode);
    if (file->length > BANGER_DISK_MAX_BYTES - total)
      return banger_set_error (error, BANGER_ERROR_INVALID_SIZE, "files: more than %u bytes together",
                               BANGER_DISK_MAX_BYTES);
    total += file->length;
  }
  return TRUE;
}

/* Files written whole: temporary, fsync, rename, fsync of the directory (requirement H7).
 * Never leaves half a file under the final name. */
#pragma once

#include <glib.h>
#include <json-glib/json-glib.h>
#include <sys/types.h>

/** banger_state_write: replaces @name in the directory @dir_fd by @data, mode @mode from birth. */
gboolean banger_state_write (int dir_fd, const char *name, const char *data, size_t length, mode_t mode,
                             GError **error);

/** banger_state_read: Returns: (transfer full): the content, at most 1 MiB; O_NOFOLLOW, regular files only. ENOENT:
 * %BANGER_ERROR_FAILED with *ret_missing TRUE (may be %NULL). */
char *banger_state_read (int dir_fd, const char *name, size_t *ret_length, gboolean *ret_missing, GError **error);

/** banger_state_write_json / banger_state_read_json: the same for one JSON object. */
gboolean banger_state_write_json (int dir_fd, const char *name, JsonObject *object, mode_t mode, GError **error);
JsonObject *banger_state_read_json (int dir_fd, const char *name, gboolean *ret_missing, GError **error);

/** banger_state_remove: unlink and fsync of the directory; a missing file is success. */
gboolean banger_state_remove (int dir_fd, const char *name, GError **error);

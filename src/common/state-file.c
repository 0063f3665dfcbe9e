/* Files written whole: temporary, fsync, rename, fsync of the directory (requirement H7).
 * Never leaves half a file under the final name. */
#include "common/state-file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/json-depth.h"

#define MAX_STATE_BYTES (1024 * 1024)

gboolean
banger_state_write (int dir_fd, const char *name, const char *data, size_t length, mode_t mode, GError **error)
{
  g_autofree char *temporary = g_strdup_printf (".%s.tmp", name);
  if (unlinkat (dir_fd, temporary, 0) < 0 && errno != ENOENT)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot remove old '%s'", temporary);
  banger_autofd int fd = openat (dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
  if (fd < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot create '%s'", temporary);
  if (banger_write_all (fd, data, length) < 0 || fsync (fd) < 0 || renameat (dir_fd, temporary, dir_fd, name) < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot write '%s'", name);
    (void)unlinkat (dir_fd, temporary, 0);
    return FALSE;
  }
  if (fsync (dir_fd) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot sync the folder of '%s'", name);
  return TRUE;
}

static gboolean
read_all (int fd, GString *text)
{
  char buffer[16384];
  ssize_t n;
  while ((n = read (fd, buffer, sizeof buffer)) != 0 && text->len <= MAX_STATE_BYTES) {
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return FALSE;
    g_string_append_len (text, buffer, n);
  }
  return TRUE;
}

char *
banger_state_read (int dir_fd, const char *name, size_t *ret_length, gboolean *ret_missing, GError **error)
{
  if (ret_missing)
    *ret_missing = FALSE;
  banger_autofd int fd = openat (dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  struct stat st;
  if (fd < 0) {
    if (ret_missing)
      *ret_missing = errno == ENOENT;
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot open '%s'", name);
    return NULL;
  }
  if (fstat (fd, &st) < 0 || !S_ISREG (st.st_mode)) {
    banger_set_error (error, BANGER_ERROR_UNSAFE_FILE, "'%s' is not a regular file", name);
    return NULL;
  }
  g_autoptr (GString) text = g_string_new (NULL);
  if (!read_all (fd, text)) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read '%s'", name);
    return NULL;
  }
  if (text->len > MAX_STATE_BYTES) {
    banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "'%s' is larger than %d bytes", name, MAX_STATE_BYTES);
    return NULL;
  }
  if (ret_length)
    *ret_length = text->len;
  return g_string_free (g_steal_pointer (&text), FALSE);
}

gboolean
banger_state_write_json (int dir_fd, const char *name, JsonObject *object, mode_t mode, GError **error)
{
  g_autoptr (JsonNode) node = json_node_init_object (json_node_alloc (), object);
  g_autofree char *text = json_to_string (node, TRUE);
  g_autofree char *ended = g_strconcat (text, "\n", NULL);
  return banger_state_write (dir_fd, name, ended, strlen (ended), mode, error);
}

JsonObject *
banger_state_read_json (int dir_fd, const char *name, gboolean *ret_missing, GError **error)
{
  size_t length = 0;
  g_autofree char *text = banger_state_read (dir_fd, name, &length, ret_missing, error);
  if (!text)
    return NULL;
  g_autoptr (JsonParser) parser = json_parser_new_immutable ();
  g_autoptr (GError) why = NULL;
  /* json-glib takes a NUL as the end of the text. */
  if (strlen (text) != length || !banger_json_depth_ok (text, length)
      || !json_parser_load_from_data (parser, text, (gssize)length, &why))
  {
    banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "'%s' is not JSON: %s", name,
                      why ? why->message : "a NUL byte, or nested too deep");
    return NULL;
  }
  JsonNode *root = json_parser_get_root (parser);
  if (!root || !JSON_NODE_HOLDS_OBJECT (root)) {
    banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "'%s' is not a JSON object", name);
    return NULL;
  }
  return json_object_ref (json_node_get_object (root));
}

gboolean
banger_state_remove (int dir_fd, const char *name, GError **error)
{
  if (unlinkat (dir_fd, name, 0) < 0 && errno != ENOENT)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot remove '%s'", name);
  if (fsync (dir_fd) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot sync the folder of '%s'", name);
  return TRUE;
}

/* Object records: <state>/<uid>/<kind>s/<id>/record.json, one JSON object with a version, written whole.
 * Used by vm.c and asset.c through tables of fields.
 * Never deletes what it cannot read: that is set aside and reported. */
#include "manager/record.h"

#include <dirent.h>
#include <fcntl.h>
#include <json-glib/json-glib.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/names.h"
#include "common/safe-path.h"
#include "common/state-file.h"
#include "common/validate.h"

#define KEY_VERSION "version"
#define KEY_KIND "kind"
#define ASIDE "%s.unreadable"
#define MAX_ASIDE 1000
#define MAX_EXACT (G_GUINT64_CONSTANT (1) << 53) /* RFC 8259, section 6 */

static gpointer
field_at (const BangerRecordField *field, gpointer values)
{
  return (char *)values + field->offset;
}

static void
save_field (const BangerRecordField *field, gconstpointer value, JsonObject *object)
{
  switch (field->type) {
    case BANGER_RECORD_STRING: {
      const char *text = *(char *const *)value;
      if (text != NULL)
        json_object_set_string_member (object, field->key, text);
      break;
    }
    case BANGER_RECORD_UINT64:
      json_object_set_int_member (object, field->key, (gint64) * (const guint64 *)value);
      break;
    case BANGER_RECORD_UINT32:
      json_object_set_int_member (object, field->key, *(const guint32 *)value);
      break;
    case BANGER_RECORD_BOOL:
      json_object_set_boolean_member (object, field->key, *(const gboolean *)value);
      break;
    case BANGER_RECORD_WORD:
      json_object_set_string_member (object, field->key, field->words[*(const int *)value]);
      break;
  }
}

gboolean
banger_record_save (int dir_fd, const char *kind, const BangerRecordField *table, gconstpointer values, GError **error)
{
  g_autoptr (JsonObject) object = json_object_new ();
  json_object_set_int_member (object, KEY_VERSION, BANGER_RECORD_VERSION);
  json_object_set_string_member (object, KEY_KIND, kind);
  for (const BangerRecordField *field = table; field->key != NULL; field++)
    save_field (field, (const char *)values + field->offset, object);
  return banger_state_write_json (dir_fd, BANGER_FILE_RECORD, object, 0600, error);
}

static gboolean
wrong_type (const BangerRecordField *field, const char *wanted, GError **error)
{
  return banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "record: key \"%s\" is not %s", field->key, wanted);
}

static gboolean
load_uint (const BangerRecordField *field, JsonNode *node, guint64 max, guint64 *ret, GError **error)
{
  if (!JSON_NODE_HOLDS_VALUE (node) || json_node_get_value_type (node) != G_TYPE_INT64)
    return wrong_type (field, "a whole number", error);
  gint64 number = json_node_get_int (node);
  if (number < 0 || (guint64)number > max)
    return wrong_type (field, "in range", error);
  *ret = (guint64)number;
  return TRUE;
}

static gboolean
load_word (const BangerRecordField *field, JsonNode *node, int *ret, GError **error)
{
  const char *word = JSON_NODE_HOLDS_VALUE (node) ? json_node_get_string (node) : NULL;
  for (int i = 0; word != NULL && field->words[i] != NULL; i++)
    if (g_str_equal (field->words[i], word)) {
      *ret = i;
      return TRUE;
    }
  return wrong_type (field, "a known word", error);
}

static gboolean
load_string (const BangerRecordField *field, JsonNode *node, char **ret, GError **error)
{
  if (JSON_NODE_HOLDS_NULL (node))
    return TRUE;
  if (!JSON_NODE_HOLDS_VALUE (node) || json_node_get_value_type (node) != G_TYPE_STRING)
    return wrong_type (field, "a string", error);
  g_free (*ret);
  *ret = json_node_dup_string (node);
  return TRUE;
}

static gboolean
load_field (const BangerRecordField *field, JsonNode *node, gpointer value, GError **error)
{
  guint64 number = 0;
  switch (field->type) {
    case BANGER_RECORD_STRING:
      return load_string (field, node, value, error);
    case BANGER_RECORD_UINT64:
      return load_uint (field, node, MAX_EXACT, value, error);
    case BANGER_RECORD_UINT32:
      if (!load_uint (field, node, G_MAXUINT32, &number, error))
        return FALSE;
      *(guint32 *)value = (guint32)number;
      return TRUE;
    case BANGER_RECORD_BOOL:
      if (!JSON_NODE_HOLDS_VALUE (node) || json_node_get_value_type (node) != G_TYPE_BOOLEAN)
        return wrong_type (field, "true or false", error);
      *(gboolean *)value = json_node_get_boolean (node);
      return TRUE;
    case BANGER_RECORD_WORD:
      return load_word (field, node, value, error);
  }
  g_assert_not_reached ();
}

static gboolean
check_header (JsonObject *object, const char *kind, GError **error)
{
  static const BangerRecordField version_field = { KEY_VERSION, BANGER_RECORD_UINT64 };
  static const BangerRecordField kind_field = { KEY_KIND, BANGER_RECORD_STRING };
  guint64 version = 0;
  g_autofree char *found = NULL;
  JsonNode *version_node = json_object_get_member (object, KEY_VERSION);
  JsonNode *kind_node = json_object_get_member (object, KEY_KIND);
  if (version_node == NULL || kind_node == NULL)
    return banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "record: no version or no kind");
  if (!load_uint (&version_field, version_node, MAX_EXACT, &version, error)
      || !load_string (&kind_field, kind_node, &found, error))
    return FALSE;
  if (version != BANGER_RECORD_VERSION)
    return banger_set_error (error, BANGER_ERROR_STATE_CORRUPT,
                             "record: version %" G_GUINT64_FORMAT ", this banger reads version %d", version,
                             BANGER_RECORD_VERSION);
  if (g_strcmp0 (found, kind) != 0)
    return banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "record: kind is not \"%s\"", kind);
  return TRUE;
}

gboolean
banger_record_load (int dir_fd, const char *kind, const BangerRecordField *table, gpointer values,
                    gboolean *ret_missing, GError **error)
{
  g_autoptr (JsonObject) object = banger_state_read_json (dir_fd, BANGER_FILE_RECORD, ret_missing, error);
  if (object == NULL || !check_header (object, kind, error))
    return FALSE;
  for (const BangerRecordField *field = table; field->key != NULL; field++) {
    JsonNode *node = json_object_get_member (object, field->key);
    if (node == NULL && field->required)
      return banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "record: key \"%s\" is missing", field->key);
    if (node != NULL && !load_field (field, node, field_at (field, values), error))
      return FALSE;
  }
  return TRUE;
}

void
banger_record_clear (const BangerRecordField *table, gpointer values)
{
  for (const BangerRecordField *field = table; field->key != NULL; field++)
    if (field->type == BANGER_RECORD_STRING)
      g_clear_pointer ((char **)field_at (field, values), g_free);
}

static gint
compare_names (gconstpointer a, gconstpointer b)
{
  return strcmp (*(char *const *)a, *(char *const *)b);
}

char **
banger_record_list (int kind_fd, GError **error)
{
  banger_autofd int fd = openat (kind_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *dir = fd < 0 ? NULL : fdopendir (fd);
  if (dir == NULL) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot list the records");
    return NULL;
  }
  banger_steal_fd (&fd);
  g_autoptr (GPtrArray) ids = g_ptr_array_new_with_free_func (g_free);
  for (struct dirent *entry = readdir (dir); entry != NULL; entry = readdir (dir)) {
    struct stat st;
    if (banger_id_check (entry->d_name, "id", NULL)
        && fstatat (dirfd (dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR (st.st_mode))
      g_ptr_array_add (ids, g_strdup (entry->d_name));
  }
  closedir (dir);
  g_ptr_array_sort (ids, compare_names);
  g_ptr_array_add (ids, NULL);
  return (char **)g_ptr_array_steal (ids, NULL);
}

int
banger_record_make_dir (int kind_fd, const char *id, GError **error)
{
  if (mkdirat (kind_fd, id, 0700) != 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make the directory of %s", id);
    return -1;
  }
  /* A record is worth nothing while the name of its directory is not on the disk. */
  if (fsync (kind_fd) != 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot write the directory of %s", id);
    unlinkat (kind_fd, id, AT_REMOVEDIR);
    return -1;
  }
  return banger_record_open_dir (kind_fd, id, error);
}

int
banger_record_open_dir (int kind_fd, const char *id, GError **error)
{
  return banger_safe_openat (kind_fd, id, O_RDONLY | O_DIRECTORY, 0, BANGER_SAFE_NONE, error);
}

gboolean
banger_record_remove (int kind_fd, const char *id, GError **error)
{
  banger_autofd int dir_fd = openat (kind_fd, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  if (dir_fd < 0 && errno == ENOENT)
    return TRUE;
  if (dir_fd < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot open the directory of %s", id);
  if (!banger_state_remove (dir_fd, BANGER_FILE_RECORD, error))
    return FALSE;
  return banger_safe_remove_tree (kind_fd, id, error);
}

gboolean
banger_record_has_folder (int kind_fd, const char *id)
{
  g_autofree char *aside = g_strdup_printf (ASIDE, id);
  return faccessat (kind_fd, id, F_OK, AT_SYMLINK_NOFOLLOW) == 0
         || faccessat (kind_fd, aside, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

char *
banger_record_set_aside (int kind_fd, const char *id, GError **error)
{
  for (guint i = 1; i <= MAX_ASIDE; i++) {
    g_autofree char *name = i == 1 ? g_strdup_printf (ASIDE, id) : g_strdup_printf (ASIDE "-%u", id, i);
    if (renameat2 (kind_fd, id, kind_fd, name, RENAME_NOREPLACE) == 0)
      return g_steal_pointer (&name);
    if (errno != EEXIST) {
      banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot set %s aside", id);
      return NULL;
    }
  }
  banger_set_error (error, BANGER_ERROR_FAILED, "cannot set %s aside: too many of that name", id);
  return NULL;
}

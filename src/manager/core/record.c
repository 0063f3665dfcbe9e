/* Object records: <state>/<uid>/<kind>s/<id>/record.json, one JSON object with a version, written whole.
 * Never deletes what it cannot read: that is set aside and reported. */
#include "manager/core/record.h"

#include <fcntl.h>
#include <json-glib/json-glib.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/folder.h"
#include "common/log.h"
#include "common/names.h"
#include "common/safe-path.h"
#include "common/state-file.h"
#include "common/validate.h"
#include "manager/core/work.h"

#define KEY_VERSION "version"
#define KEY_KIND "kind"
#define ASIDE "%s.unreadable"
#define MAX_ASIDE 1000
#define AGAIN_FIRST_SECONDS 1
#define AGAIN_LAST_SECONDS 60
#define MAX_EXACT (G_GUINT64_CONSTANT (1) << 53) /* RFC 8259, section 6 */

static gpointer
field_at (const BangerRecordField *field, gpointer values)
{
  return (char *)values + field->offset;
}

static void
save_strv (const BangerRecordField *field, char **texts, JsonObject *object)
{
  JsonArray *array = json_array_new ();
  for (; texts && *texts; texts++)
    json_array_add_string_element (array, *texts);
  json_object_set_array_member (object, field->key, array);
}

static void
save_field (const BangerRecordField *field, gconstpointer value, JsonObject *object)
{
  switch (field->type) {
    case BANGER_RECORD_STRING: {
      const char *text = *(char *const *)value;
      if (text || field->required) /* what is written can be read */
        json_object_set_string_member (object, field->key, text ? text : "");
      break;
    }
    case BANGER_RECORD_STRV:
      save_strv (field, *(char **const *)value, object);
      break;
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

/* A record on its way to the disk. The descriptor is our own: whose record it is may be gone before. */
typedef struct {
  int fd;   /* of its directory or, with @id, of the one that it is to be made in */
  char *id; /* NULL: the directory is there */
  JsonObject *object;
} Save;

static void
save_free (gpointer data)
{
  Save *save = data;
  banger_clear_fd (&save->fd);
  json_object_unref (save->object);
  g_free (save->id);
  g_free (save);
}

static Save *
save_new (int fd, const char *id, const char *kind, const BangerRecordField *table, gconstpointer values)
{
  Save *save = g_new0 (Save, 1);
  save->fd = fcntl (fd, F_DUPFD_CLOEXEC, 3);
  save->id = g_strdup (id);
  save->object = json_object_new ();
  json_object_set_int_member (save->object, KEY_VERSION, BANGER_RECORD_VERSION);
  json_object_set_string_member (save->object, KEY_KIND, kind);
  for (const BangerRecordField *field = table; field->key; field++)
    save_field (field, (const char *)values + field->offset, save->object);
  return save;
}

static gboolean
save_work (gpointer data, GError **error)
{
  const Save *save = data;
  if (save->fd < 0)
    return banger_set_error (error, BANGER_ERROR_FAILED, "cannot write the record: too many open files");
  return banger_state_write_json (save->fd, BANGER_FILE_RECORD, save->object, 0600, error);
}

void
banger_record_put (BangerWriter *writer, gconstpointer object, int dir_fd, const char *kind,
                   const BangerRecordField *table, gconstpointer values, GAsyncReadyCallback callback,
                   gpointer user_data)
{
  banger_writer_put (writer, object, save_work, save_new (dir_fd, NULL, kind, table, values), save_free, callback,
                     user_data);
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
  for (int i = 0; word && field->words[i]; i++)
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
load_strv (const BangerRecordField *field, JsonNode *node, char ***ret, GError **error)
{
  if (!JSON_NODE_HOLDS_ARRAY (node))
    return wrong_type (field, "a list", error);
  JsonArray *array = json_node_get_array (node);
  g_autoptr (GStrvBuilder) builder = g_strv_builder_new ();
  for (guint i = 0; i < json_array_get_length (array); i++) {
    g_autofree char *text = NULL;
    if (!load_string (field, json_array_get_element (array, i), &text, error))
      return FALSE;
    g_strv_builder_add (builder, text ? text : "");
  }
  g_strfreev (*ret);
  *ret = g_strv_builder_end (builder);
  return TRUE;
}

static gboolean
load_field (const BangerRecordField *field, JsonNode *node, gpointer value, GError **error)
{
  guint64 number = 0;
  switch (field->type) {
    case BANGER_RECORD_STRING:
      return load_string (field, node, value, error);
    case BANGER_RECORD_STRV:
      return load_strv (field, node, value, error);
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
  if (!version_node || !kind_node)
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
  if (!object || !check_header (object, kind, error))
    return FALSE;
  for (const BangerRecordField *field = table; field->key; field++) {
    JsonNode *node = json_object_get_member (object, field->key);
    if (!node && field->required)
      return banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "record: key \"%s\" is missing", field->key);
    if (node && !load_field (field, node, field_at (field, values), error))
      return FALSE;
  }
  return TRUE;
}

static gboolean
differs (const BangerRecordField *field, gconstpointer before, gconstpointer now)
{
  gconstpointer a = G_STRUCT_MEMBER_P (before, field->offset), b = G_STRUCT_MEMBER_P (now, field->offset);
  switch (field->type) {
    case BANGER_RECORD_STRING:
      return g_strcmp0 (*(char *const *)a, *(char *const *)b) != 0;
    case BANGER_RECORD_STRV: {
      static const char *const none[] = { NULL };
      const char *const *x = *(const char *const *const *)a, *const *y = *(const char *const *const *)b;
      return !g_strv_equal (x ? x : none, y ? y : none);
    }
    case BANGER_RECORD_UINT64:
      return *(const guint64 *)a != *(const guint64 *)b;
    default:
      return *(const guint32 *)a != *(const guint32 *)b; /* as wide as a gboolean and an int */
  }
}

GPtrArray *
banger_record_changes (const BangerRecordField *table, gconstpointer before, gconstpointer now)
{
  GPtrArray *names = g_ptr_array_new ();
  for (const BangerRecordField *field = table; field->key; field++)
    if (field->changes && (!before || !now || differs (field, before, now)))
      g_ptr_array_add (names, (gpointer)field->property);
  return names;
}

void
banger_record_clear (const BangerRecordField *table, gpointer values)
{
  for (const BangerRecordField *field = table; field->key; field++)
    if (field->type == BANGER_RECORD_STRING)
      g_clear_pointer ((char **)field_at (field, values), g_free);
    else if (field->type == BANGER_RECORD_STRV)
      g_clear_pointer ((char ***)field_at (field, values), g_strfreev);
}

static gint
compare_names (gconstpointer a, gconstpointer b)
{
  return strcmp (*(char *const *)a, *(char *const *)b);
}

char **
banger_record_list (int kind_fd, GError **error)
{
  g_autoptr (GPtrArray) ids = g_ptr_array_new_with_free_func (g_free);
  banger_autofolder DIR *dir = banger_folder_open (kind_fd, ".");
  for (const struct dirent *entry; (entry = banger_folder_next (dir));) {
    struct stat st;
    if (!banger_id_check (entry->d_name, "id", NULL))
      continue;
    int r = fstatat (dirfd (dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW);
    /* One that cannot be looked at is there all the same: whoever reads its record says why it cannot. */
    if (r == 0 ? S_ISDIR (st.st_mode) : errno != ENOENT)
      g_ptr_array_add (ids, g_strdup (entry->d_name));
  }
  if (errno != 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot list the records");
    return NULL;
  }
  g_ptr_array_sort (ids, compare_names);
  g_ptr_array_add (ids, NULL);
  return (char **)g_ptr_array_steal (ids, NULL);
}

int
banger_record_open_dir (int kind_fd, const char *id, GError **error)
{
  return banger_safe_openat (kind_fd, id, O_RDONLY | O_DIRECTORY, 0, BANGER_SAFE_NONE, error);
}

static int
make_dir (int kind_fd, const char *id, GError **error)
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

gboolean
banger_record_remove (int kind_fd, const char *id, GError **error)
{
  banger_autofd int dir_fd = openat (kind_fd, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  if (dir_fd < 0 && errno == ENOENT)
    return TRUE;
  if (dir_fd < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot open the directory of %s", id);
  if (unlinkat (dir_fd, BANGER_FILE_RECORD, 0) < 0 && errno != ENOENT
      && (errno != EISDIR || !banger_safe_remove_tree (dir_fd, BANGER_FILE_RECORD, NULL)))
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot remove the record of %s", id);
  /* Durable before the rest goes; on a disk that does not manage that, the rest is the more to be gone. */
  if (fsync (dir_fd) < 0)
    banger_log (LOG_WARNING, NULL, "%s is removed, but a loss of power may bring it back without its disks: %s", id,
                g_strerror (errno));
  return banger_safe_remove_tree (kind_fd, id, error);
}

static gboolean
add_work (gpointer data, GError **error)
{
  const Save *save = data;
  banger_autofd int dir_fd = save->fd < 0 ? -1 : make_dir (save->fd, save->id, error);
  if (save->fd >= 0 && dir_fd < 0)
    return FALSE;
  const Save inside = { .fd = dir_fd, .object = save->object };
  if (save_work ((gpointer)&inside, error))
    return TRUE;
  if (dir_fd >= 0)
    banger_record_remove (save->fd, save->id, NULL);
  return FALSE;
}

void
banger_record_add (BangerWriter *writer, int kind_fd, const char *id, const char *kind, const BangerRecordField *table,
                   gconstpointer values, GAsyncReadyCallback callback, gpointer user_data)
{
  banger_writer_put (writer, NULL, add_work, save_new (kind_fd, id, kind, table, values), save_free, callback,
                     user_data);
}

typedef struct {
  int kind_fd;
  char *id;
  guint seconds;  /* that were waited before */
  gboolean there; /* the record, at the end */
} Removal;

static void
removal_free (gpointer data)
{
  Removal *removal = data;
  banger_clear_fd (&removal->kind_fd);
  g_free (removal->id);
  g_free (removal);
}

static gboolean
remove_in_thread (gpointer data, GCancellable *cancellable, GError **error)
{
  Removal *removal = data;
  removal->there = TRUE;
  if (removal->kind_fd < 0)
    return banger_set_error (error, BANGER_ERROR_FAILED, "too many open files");
  gboolean ok = banger_record_remove (removal->kind_fd, removal->id, error);
  removal->there = !ok && banger_record_is_there (removal->kind_fd, removal->id);
  return ok;
}

static const BangerWork removing = { "remove-record", remove_in_thread, NULL, removal_free };

gboolean
banger_record_remove_finish (GAsyncResult *result, gboolean *ret_there, GError **error)
{
  if (ret_there)
    *ret_there = ((const Removal *)banger_work_data (result))->there;
  return banger_work_finish (result, error);
}

static Removal *
removal_new (int kind_fd, const char *id)
{
  Removal *removal = g_new0 (Removal, 1);
  removal->kind_fd = fcntl (kind_fd, F_DUPFD_CLOEXEC, 3);
  removal->id = g_strdup (id);
  return removal;
}

static void
on_removed_unasked (GObject *source, GAsyncResult *result, gpointer data)
{
  const Removal *removal = banger_work_data (result);
  g_autoptr (GError) error = NULL;
  if (!banger_record_drop_finish (result, &error))
    banger_log (LOG_WARNING, NULL, "cannot remove what is left of %s: %s", removal->id, error->message);
}

static gboolean
on_remove_again (gpointer data)
{
  const Removal *removal = data;
  Removal *again = removal_new (removal->kind_fd, removal->id);
  again->seconds = removal->seconds;
  banger_work_async (&removing, again, NULL, on_removed_unasked, NULL);
  return G_SOURCE_REMOVE;
}

gboolean
banger_record_drop_finish (GAsyncResult *result, GError **error)
{
  if (banger_record_remove_finish (result, NULL, error))
    return TRUE;
  const Removal *removal = banger_work_data (result);
  Removal *again = removal_new (removal->kind_fd, removal->id);
  again->seconds = CLAMP (removal->seconds * 2, AGAIN_FIRST_SECONDS, AGAIN_LAST_SECONDS);
  g_timeout_add_seconds_full (G_PRIORITY_DEFAULT, again->seconds, on_remove_again, again, removal_free);
  return FALSE;
}

void
banger_record_remove_async (int kind_fd, const char *id, GAsyncReadyCallback callback, gpointer user_data)
{
  banger_work_async (&removing, removal_new (kind_fd, id), NULL, callback ? callback : on_removed_unasked, user_data);
}

/* A folder without one is the rest of a VM, an image or a kernel that was removed. */
gboolean
banger_record_is_there (int kind_fd, const char *id)
{
  g_autofree char *record = g_build_filename (id, BANGER_FILE_RECORD, NULL);
  g_autofree char *aside = g_strdup_printf (ASIDE, id);
  return faccessat (kind_fd, record, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT
         || faccessat (kind_fd, aside, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

void
banger_record_take_back (int kind_fd)
{
  static const char end[] = ".unreadable";
  banger_autofolder DIR *dir = banger_folder_open (kind_fd, ".");
  for (const struct dirent *entry; (entry = banger_folder_next (dir));) {
    g_autofree char *id = g_str_has_suffix (entry->d_name, end)
                              ? g_strndup (entry->d_name, strlen (entry->d_name) - strlen (end))
                              : NULL;
    if (id && banger_id_check (id, "id", NULL)
        && renameat2 (kind_fd, entry->d_name, kind_fd, id, RENAME_NOREPLACE) != 0)
      banger_log (LOG_WARNING, NULL, "cannot take %s back: %s", entry->d_name, g_strerror (errno));
  }
  if (errno != 0)
    banger_log (LOG_WARNING, NULL, "cannot look for records that were set aside: %s", g_strerror (errno));
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

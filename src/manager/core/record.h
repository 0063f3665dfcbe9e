/* Object records: <state>/<uid>/<kind>s/<id>/record.json, one JSON object with a version, written whole.
 * Never deletes what it cannot read: that is set aside and reported. */
#pragma once

#include "manager/core/writer.h"

#define BANGER_RECORD_VERSION 1

typedef enum {
  BANGER_RECORD_STRING, /* char *, owned; absent or null = NULL */
  BANGER_RECORD_STRV,   /* char **, owned; absent or NULL = none */
  BANGER_RECORD_UINT64, /* guint64, at most 2^53 */
  BANGER_RECORD_UINT32, /* guint32 */
  BANGER_RECORD_BOOL,   /* gboolean */
  BANGER_RECORD_WORD,   /* int, written as one of words[] */
} BangerRecordType;

/* A value that is in the record, and perhaps a property. A table ends with a row whose key is NULL. */
typedef struct {
  const char *key;
  BangerRecordType type;
  size_t offset;            /* of the value in the object's structure */
  const char *const *words; /* NULL-terminated, for WORD */
  gboolean required;        /* a missing key makes the record unreadable */
  const char *property;     /* its name on the bus, NULL: it has none there */
  gboolean changes;         /* that property is another one later, which is announced */
} BangerRecordField;

/**
 * banger_record_put:
 * Writes the fields of @values, as they are now, to record.json in the directory @dir_fd (mode 0600, atomically), after
 * all that @writer was given before. What is called back ends with banger_writer_finish().
 * @object: see banger_writer_put(). @kind: "vm", "image", "kernel": kept in the record and checked when it is read.
 */
void banger_record_put (BangerWriter *writer, gconstpointer object, int dir_fd, const char *kind,
                        const BangerRecordField *table, gconstpointer values, GAsyncReadyCallback callback,
                        gpointer user_data);

/** banger_record_add: likewise, makes directory @id (0700) below @kind_fd first. Nothing of it is left on error. */
void banger_record_add (BangerWriter *writer, int kind_fd, const char *id, const char *kind,
                        const BangerRecordField *table, gconstpointer values, GAsyncReadyCallback callback,
                        gpointer user_data);

/**
 * banger_record_load:
 * Reads record.json in @dir_fd into @values (which hold defaults). A key that the table does not know is kept out
 * silently (written by a newer minor release); an unknown version, a wrong type or kind is %BANGER_ERROR_STATE_CORRUPT.
 * @ret_missing: may be %NULL; %TRUE with an error when there is no record at all.
 * On error strings already read stay in @values: clear it as usual.
 */
gboolean banger_record_load (int dir_fd, const char *kind, const BangerRecordField *table, gpointer values,
                             gboolean *ret_missing, GError **error);

/** banger_record_changes: Returns: (transfer full): names of the properties that change and, unless one of these is
 * %NULL, differ between @before and @now. */
GPtrArray *banger_record_changes (const BangerRecordField *table, gconstpointer before, gconstpointer now);

/** banger_record_clear: frees the strings of @values. */
void banger_record_clear (const BangerRecordField *table, gpointer values);

/** banger_record_list: Returns: (transfer full): the ids (directories with an id for a name) below @kind_fd, sorted. */
char **banger_record_list (int kind_fd, GError **error);

/** banger_record_open_dir: opens directory @id below @kind_fd. Returns: a descriptor or -1. */
int banger_record_open_dir (int kind_fd, const char *id, GError **error);

/**
 * banger_record_remove:
 * Removes directory @id below @kind_fd: its record first, so that a crash leaves a directory without a record, which
 * the next start removes as half-made. In a worker: it takes long. What was put for it must have been waited for.
 */
gboolean banger_record_remove (int kind_fd, const char *id, GError **error);

/** banger_record_remove_async: likewise, in a worker of its own. @callback: %NULL: nobody waits, and it is tried again
 * until it is gone. */
void banger_record_remove_async (int kind_fd, const char *id, GAsyncReadyCallback callback, gpointer user_data);
/** banger_record_remove_finish: @ret_there: (nullable): whether the record is there; what is left may be without it. */
gboolean banger_record_remove_finish (GAsyncResult *result, gboolean *ret_there, GError **error);

/** banger_record_drop_finish: likewise, of what nobody can ask for any more: if it could not be removed, that is tried
 * again until it is gone, after 1 s first and at last every minute. */
gboolean banger_record_drop_finish (GAsyncResult *result, GError **error);

/** banger_record_is_there: whether there is a record of @id, be it readable, unreadable or set aside. */
gboolean banger_record_is_there (int kind_fd, const char *id);

/** banger_record_take_back: gives folders back their names that an older banger had set aside. */
void banger_record_take_back (int kind_fd);

/**
 * banger_record_set_aside:
 * Renames directory @id below @kind_fd to "<id>.unreadable" (or .unreadable-2, ...).
 * Returns: (transfer full): the new name, %NULL on error.
 */
char *banger_record_set_aside (int kind_fd, const char *id, GError **error);

/* Object records: <state>/<uid>/<kind>s/<id>/record.json, one JSON object with a version, written whole.
 * Used by vm.c and asset.c through tables of fields.
 * Never deletes what it cannot read: that is set aside and reported. */
#pragma once

#include <glib.h>

#define BANGER_RECORD_VERSION 1

typedef enum {
  BANGER_RECORD_STRING, /* char *, owned; absent or null = NULL */
  BANGER_RECORD_UINT64, /* guint64, at most 2^53 */
  BANGER_RECORD_UINT32, /* guint32 */
  BANGER_RECORD_BOOL,   /* gboolean */
  BANGER_RECORD_WORD,   /* int, written as one of words[] */
} BangerRecordType;

/* A table ends with a row whose key is NULL. */
typedef struct {
  const char *key;
  BangerRecordType type;
  size_t offset;            /* of the value in the object's structure */
  const char *const *words; /* NULL-terminated, for WORD */
  gboolean required;        /* a missing key makes the record unreadable */
} BangerRecordField;

/**
 * banger_record_save:
 * Writes the fields of @values to record.json in the directory @dir_fd (mode 0600, atomically).
 * @kind: "vm", "image", "kernel": kept in the record and checked when it is read.
 */
gboolean banger_record_save (int dir_fd, const char *kind, const BangerRecordField *table, gconstpointer values,
                             GError **error);

/**
 * banger_record_load:
 * Reads record.json in @dir_fd into @values (which hold defaults). A key that the table does not know is kept out
 * silently (written by a newer minor release); an unknown version, a wrong type or kind is %BANGER_ERROR_STATE_CORRUPT.
 * @ret_missing: may be %NULL; %TRUE with an error when there is no record at all.
 * On error strings already read stay in @values: clear it as usual.
 */
gboolean banger_record_load (int dir_fd, const char *kind, const BangerRecordField *table, gpointer values,
                             gboolean *ret_missing, GError **error);

/** banger_record_clear: frees the strings of @values. */
void banger_record_clear (const BangerRecordField *table, gpointer values);

/** banger_record_list: Returns: (transfer full): the ids (directories with an id for a name) below @kind_fd, sorted. */
char **banger_record_list (int kind_fd, GError **error);

/** banger_record_make_dir: makes directory @id (0700) below @kind_fd. Returns: its descriptor or -1. */
int banger_record_make_dir (int kind_fd, const char *id, GError **error);

/** banger_record_open_dir: opens directory @id below @kind_fd. Returns: a descriptor or -1. */
int banger_record_open_dir (int kind_fd, const char *id, GError **error);

/**
 * banger_record_remove:
 * Removes directory @id below @kind_fd: its record first, so that a crash leaves a directory without a record, which
 * the next start removes as half-made.
 */
gboolean banger_record_remove (int kind_fd, const char *id, GError **error);

/** banger_record_has_folder: whether there is a folder of @id, be its record readable, unreadable or set aside. */
gboolean banger_record_has_folder (int kind_fd, const char *id);

/**
 * banger_record_set_aside:
 * Renames directory @id below @kind_fd to "<id>.unreadable" (or .unreadable-2, ...).
 * Returns: (transfer full): the new name, %NULL on error.
 */
char *banger_record_set_aside (int kind_fd, const char *id, GError **error);

/* Kinds of objects that the manager keeps, and how domain files say that one changed.
 * Never knows D-Bus beyond property names. */
#pragma once

#include <glib.h>

typedef enum {
  BANGER_OBJECT_VM,
  BANGER_OBJECT_IMAGE,
  BANGER_OBJECT_KERNEL,
  BANGER_OBJECT_JOB,
  BANGER_OBJECT_PROCESS,
  BANGER_OBJECT_SNAPSHOT,
  BANGER_N_OBJECTS,
} BangerObjectKind;

/* What whoever shows the objects hears of a table of them: in the main thread, after the table is as announced. */
typedef struct {
  void (*added) (BangerObjectKind kind, const char *id, gpointer user_data);
  void (*removed) (BangerObjectKind kind, const char *id, gpointer user_data);
  /* @properties: NULL-terminated names, one call per transition. */
  void (*changed) (BangerObjectKind kind, const char *id, const char *const *properties, gpointer user_data);
} BangerObserver;

/** banger_table_ids: Returns: (transfer container): the keys of @table: const char *, its own. */
static inline GPtrArray *
banger_table_ids (GHashTable *table)
{
  GPtrArray *ids = g_ptr_array_new ();
  GHashTableIter iter;
  gpointer id;
  g_hash_table_iter_init (&iter, table);
  while (g_hash_table_iter_next (&iter, &id, NULL))
    g_ptr_array_add (ids, id);
  return ids;
}

#define BANGER_PROPERTIES(...) ((const char *const[]){ __VA_ARGS__, NULL })

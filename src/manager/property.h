/* Properties read straight from an object's structure, by a table of rows.
 * Used by the *-dbus.c files.
 * Never sends a NULL string: that is "". */
#pragma once

#include <glib.h>
#include <systemd/sd-bus.h>

/* A table ends with a row whose name is NULL. */
typedef struct {
  const char *name;
  char type;     /* s: char *, u: guint32, t: guint64, b: gboolean, w: int as one of the words */
  size_t offset; /* in the object's structure */
  const char *(*word) (int value);
} BangerProperty;

/** banger_property_append: the value of @name of @object. Returns: as sd-bus getters do. */
int banger_property_append (sd_bus_message *reply, const BangerProperty *table, const char *name, gconstpointer object);

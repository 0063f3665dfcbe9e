/* Properties read straight from an object's structure, by a table of rows.
 * Used by the *-dbus.c files.
 * Never sends a NULL string: that is "". */
#include "manager/property.h"

#include <errno.h>

static int
append (sd_bus_message *reply, const BangerProperty *row, gconstpointer field)
{
  const char *text = NULL;
  switch (row->type) {
    case 's':
      text = *(char *const *)field;
      return sd_bus_message_append (reply, "s", text != NULL ? text : "");
    case 'u':
      return sd_bus_message_append (reply, "u", *(const guint32 *)field);
    case 't':
      return sd_bus_message_append (reply, "t", *(const guint64 *)field);
    case 'b':
      return sd_bus_message_append (reply, "b", *(const gboolean *)field);
    case 'w':
      return sd_bus_message_append (reply, "s", row->word (*(const int *)field));
    default:
      g_assert_not_reached ();
  }
}

int
banger_property_append (sd_bus_message *reply, const BangerProperty *table, const char *name, gconstpointer object)
{
  for (const BangerProperty *row = table; row->name != NULL; row++)
    if (g_str_equal (row->name, name))
      return append (reply, row, (const char *)object + row->offset);
  return -ENOENT;
}

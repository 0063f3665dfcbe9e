/* The field of an object's structure as a property.
 * Never sends a NULL string: that is "". */
#include "manager/bus/property.h"

static const char *const types[] = {
  [BANGER_RECORD_STRING] = "s", [BANGER_RECORD_UINT64] = "t", [BANGER_RECORD_UINT32] = "u",
  [BANGER_RECORD_BOOL] = "b",   [BANGER_RECORD_WORD] = "s",   [BANGER_RECORD_STRV] = "as",
};

const char *
banger_property_type (const BangerRecordField *field)
{
  return types[field->type];
}

int
banger_property_append_text (sd_bus_message *reply, const char *text)
{
  g_autofree char *valid = text ? g_utf8_make_valid (text, -1) : NULL;
  return sd_bus_message_append (reply, "s", valid ? valid : "");
}

int
banger_property_append (sd_bus_message *reply, const BangerRecordField *field, gconstpointer values)
{
  gconstpointer value = G_STRUCT_MEMBER_P (values, field->offset);
  switch (field->type) {
    case BANGER_RECORD_STRING:
      return banger_property_append_text (reply, *(char *const *)value);
    case BANGER_RECORD_STRV:
      return sd_bus_message_append_strv (reply, *(char **const *)value);
    case BANGER_RECORD_WORD:
      return sd_bus_message_append (reply, "s", field->words[*(const int *)value]);
    default: /* numbers: the type is the basic type's letter */
      return sd_bus_message_append_basic (reply, types[field->type][0], value);
  }
}

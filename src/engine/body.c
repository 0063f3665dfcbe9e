/* JSON bodies of the API as tables: one row per field of the OpenAPI definition.
 * Never accepts a field that its table does not know. */
#include "engine/body.h"

#include <string.h>

G_DEFINE_QUARK (banger - vmm - error - quark, banger_vmm_error)

#define DESERIALIZE "An error occurred when deserializing the json body of a request: "

static gboolean refuse (GError **error, const char *format, ...) G_GNUC_PRINTF (2, 3);

static gboolean
refuse (GError **error, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *what = g_strdup_vprintf (format, args);
  va_end (args);
  g_set_error (error, BANGER_VMM_ERROR, BANGER_VMM_ERROR_REQUEST, DESERIALIZE "%s.", what);
  return FALSE;
}

JsonNode *
banger_body_parse (const char *data, gsize length, GError **error)
{
  g_autoptr (JsonParser) parser = json_parser_new_immutable ();
  g_autoptr (GError) local = NULL;
  if (!g_utf8_validate (data, (gssize)length, NULL)) {
    refuse (error, "invalid UTF-8");
    return NULL;
  }
  if (!json_parser_load_from_data (parser, data, (gssize)length, &local)) {
    refuse (error, "%s", local->message);
    return NULL;
  }
  JsonNode *root = json_parser_get_root (parser);
  if (!root || !JSON_NODE_HOLDS_OBJECT (root)) {
    refuse (error, "invalid type, expected an object");
    return NULL;
  }
  return json_node_ref (root);
}

static char *
list_words (const char *const *words)
{
  g_autoptr (GString) list = g_string_new (NULL);
  for (; *words; words++)
    g_string_append_printf (list, "%s`%s`", list->len > 0 ? ", " : "", *words);
  return g_string_free (g_steal_pointer (&list), FALSE);
}

static gboolean
check_keys (JsonObject *object, const BangerBodyField *table, GError **error)
{
  g_autoptr (GList) keys = json_object_get_members (object);
  for (GList *k = keys; k; k = k->next) {
    const BangerBodyField *field = table;
    while (field->key && !g_str_equal (field->key, k->data))
      field++;
    if (field->key)
      continue;
    g_autoptr (GPtrArray) known = g_ptr_array_new ();
    for (field = table; field->key; field++)
      g_ptr_array_add (known, (gpointer)field->key);
    g_ptr_array_add (known, NULL);
    g_autofree char *list = list_words ((const char *const *)known->pdata);
    return refuse (error, "unknown field `%s`, expected one of %s", (const char *)k->data, list);
  }
  return TRUE;
}

static gboolean
read_string (JsonNode *node, const BangerBodyField *field, gpointer where, GError **error)
{
  if (!JSON_NODE_HOLDS_VALUE (node) || json_node_get_value_type (node) != G_TYPE_STRING)
    return refuse (error, "invalid type for `%s`, expected a string", field->key);
  const char *text = json_node_get_string (node);
  if (field->words && !g_strv_contains (field->words, text)) {
    g_autofree char *list = list_words (field->words);
    return refuse (error, "unknown variant `%s` for `%s`, expected one of %s", text, field->key, list);
  }
  *(char **)where = g_strdup (text);
  return TRUE;
}

static gboolean
read_bool (JsonNode *node, const BangerBodyField *field, gpointer where, GError **error)
{
  if (!JSON_NODE_HOLDS_VALUE (node) || json_node_get_value_type (node) != G_TYPE_BOOLEAN)
    return refuse (error, "invalid type for `%s`, expected a boolean", field->key);
  *(int *)where = json_node_get_boolean (node) ? 1 : 0;
  return TRUE;
}

static gboolean
read_uint (JsonNode *node, const BangerBodyField *field, gpointer where, GError **error)
{
  if (!JSON_NODE_HOLDS_VALUE (node) || json_node_get_value_type (node) != G_TYPE_INT64)
    return refuse (error, "invalid type for `%s`, expected an integer", field->key);
  gint64 value = json_node_get_int (node);
  if (value < 0 || value > field->max)
    return refuse (error, "invalid value: integer `%" G_GINT64_FORMAT "` for `%s`, expected 0..%" G_GINT64_FORMAT,
                   value, field->key, field->max);
  *(gint64 *)where = value;
  return TRUE;
}

static gboolean
read_field (JsonNode *node, const BangerBodyField *field, gpointer values, GError **error)
{
  gpointer where = (char *)values + field->offset;
  switch (field->type) {
    case BANGER_FIELD_STRING:
      return read_string (node, field, where, error);
    case BANGER_FIELD_BOOL:
      return read_bool (node, field, where, error);
    case BANGER_FIELD_UINT:
      return read_uint (node, field, where, error);
    case BANGER_FIELD_NODE:
      *(JsonNode **)where = json_node_ref (node);
      return TRUE;
    case BANGER_FIELD_UNSUPPORTED:
      g_set_error (error, BANGER_VMM_ERROR, BANGER_VMM_ERROR_REQUEST, "The requested operation is not supported: %s",
                   field->key);
      return FALSE;
    default:
      g_assert_not_reached ();
  }
}

gboolean
banger_body_read (JsonNode *node, const BangerBodyField *table, gpointer ret_values, GError **error)
{
  for (const BangerBodyField *field = table; field->key; field++)
    if (field->type == BANGER_FIELD_STRING || field->type == BANGER_FIELD_NODE) {
      gpointer where = (char *)ret_values + field->offset;
      *(gpointer *)where = NULL;
    }
  banger_body_clear (table, ret_values);

  if (!JSON_NODE_HOLDS_OBJECT (node))
    return refuse (error, "invalid type, expected an object");
  JsonObject *object = json_node_get_object (node);
  if (!check_keys (object, table, error))
    return FALSE;
  for (const BangerBodyField *field = table; field->key; field++) {
    JsonNode *member = json_object_get_member (object, field->key);
    gboolean unset = !member || JSON_NODE_HOLDS_NULL (member);
    gboolean ok = TRUE;
    if (!unset)
      ok = read_field (member, field, ret_values, error);
    else if (field->required)
      ok = refuse (error, "missing field `%s`", field->key);
    if (!ok) {
      banger_body_clear (table, ret_values);
      return FALSE;
    }
  }
  return TRUE;
}

static void
write_field (JsonBuilder *builder, const BangerBodyField *field, gconstpointer where)
{
  if (field->type == BANGER_FIELD_STRING && *(char *const *)where) {
    json_builder_set_member_name (builder, field->key);
    json_builder_add_string_value (builder, *(char *const *)where);
  } else if (field->type == BANGER_FIELD_BOOL && *(const int *)where >= 0) {
    json_builder_set_member_name (builder, field->key);
    json_builder_add_boolean_value (builder, *(const int *)where);
  } else if (field->type == BANGER_FIELD_UINT && *(const gint64 *)where >= 0) {
    json_builder_set_member_name (builder, field->key);
    json_builder_add_int_value (builder, *(const gint64 *)where);
  } else if (field->type == BANGER_FIELD_NODE && *(JsonNode *const *)where) {
    json_builder_set_member_name (builder, field->key);
    json_builder_add_value (builder, json_node_copy (*(JsonNode *const *)where));
  }
}

JsonNode *
banger_body_write (const BangerBodyField *table, gconstpointer values)
{
  g_autoptr (JsonBuilder) builder = json_builder_new ();
  json_builder_begin_object (builder);
  for (const BangerBodyField *field = table; field->key; field++)
    write_field (builder, field, (const char *)values + field->offset);
  json_builder_end_object (builder);
  return json_builder_get_root (builder);
}

void
banger_body_clear (const BangerBodyField *table, gpointer values)
{
  for (const BangerBodyField *field = table; field->key; field++) {
    gpointer where = (char *)values + field->offset;
    if (field->type == BANGER_FIELD_STRING)
      g_clear_pointer ((char **)where, g_free);
    else if (field->type == BANGER_FIELD_NODE)
      g_clear_pointer ((JsonNode **)where, json_node_unref);
    else if (field->type == BANGER_FIELD_BOOL)
      *(int *)where = -1;
    else if (field->type == BANGER_FIELD_UINT)
      *(gint64 *)where = -1;
  }
}

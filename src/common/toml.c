/* A strict reader of the subset of TOML 1.0 that install.toml and config.toml need.
 * Never guesses. Rests on toml.io/en/v1.0.0. */
#include "common/toml.h"

#include <string.h>

#include "common/error.h"
#include "common/log.h"

#define BARE_KEY "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"

typedef enum { VALUE_STRING, VALUE_UINT, VALUE_BOOL, VALUE_STRV } ValueKind;

static const char *const kind_names[] = { "a string in double quotes", "a number", "true or false",
                                          "a list of strings on one line" };

typedef struct {
  ValueKind kind;
  char *string;
  guint64 number;
  gboolean truth;
  GPtrArray *strings;
  guint line;
} Value;

struct BangerToml {
  char *name;
  GHashTable *values; /* "table.key" -> Value */
  GHashTable *tables; /* headers seen */
  GHashTable *lists;  /* of [[headers]]: name -> GArray of guint, the line of each */
};

typedef struct {
  BangerToml *toml;
  const char *p;
  guint line;
  char *table;
  GError **error;
} Reader;

static void
value_free (gpointer data)
{
  Value *value = data;
  g_free (value->string);
  g_clear_pointer (&value->strings, g_ptr_array_unref);
  g_free (value);
}

void
banger_toml_free (BangerToml *toml)
{
  if (!toml)
    return;
  g_free (toml->name);
  g_hash_table_unref (toml->values);
  g_hash_table_unref (toml->tables);
  g_hash_table_unref (toml->lists);
  g_free (toml);
}

static gboolean
bad (Reader *r, const char *what)
{
  return banger_set_error (r->error, BANGER_ERROR_INVALID_ARGS, "%s, line %u: %s", r->toml->name, r->line, what);
}

static void
skip_blank (Reader *r)
{
  r->p += strspn (r->p, " \t");
}

static gboolean
read_unicode (Reader *r, GString *out, int digits)
{
  guint32 c = 0;
  for (int i = 0; i < digits; i++, r->p++) {
    if (!g_ascii_isxdigit (*r->p))
      return bad (r, "\\u needs four and \\U eight hex digits");
    c = c << 4 | (guint32)g_ascii_xdigit_value (*r->p);
  }
  if (c == 0 || !g_unichar_validate (c))
    return bad (r, "a character that is not allowed");
  g_string_append_unichar (out, c);
  return TRUE;
}

static gboolean
read_escape (Reader *r, GString *out)
{
  static const char from[] = "btnfr\"\\", to[] = "\b\t\n\f\r\"\\";
  char c = *r->p;
  const char *at = c ? strchr (from, c) : NULL;
  if (c == 'u' || c == 'U') {
    r->p++;
    return read_unicode (r, out, c == 'u' ? 4 : 8);
  }
  if (!at)
    return bad (r, "an escape that is not known");
  g_string_append_c (out, to[at - from]);
  r->p++;
  return TRUE;
}

static char *
read_string (Reader *r)
{
  g_autoptr (GString) out = g_string_new (NULL);
  if (strncmp (r->p, "\"\"\"", 3) == 0) {
    bad (r, "strings over several lines are not supported");
    return NULL;
  }
  for (r->p++; *r->p != '"';) {
    if ((unsigned char)*r->p < 0x20 && *r->p != '\t') {
      bad (r, "the string does not end on its line, or holds a control character");
      return NULL;
    }
    if (*r->p == '\\') {
      r->p++;
      if (!read_escape (r, out))
        return NULL;
    } else
      g_string_append_c (out, *r->p++);
  }
  r->p++;
  return g_string_free (g_steal_pointer (&out), FALSE);
}

static gboolean
read_array (Reader *r, Value *value)
{
  value->kind = VALUE_STRV;
  value->strings = g_ptr_array_new_with_free_func (g_free);
  for (r->p++;;) {
    skip_blank (r);
    if (*r->p == ']')
      break;
    if (*r->p != '"')
      return bad (r, "a list holds strings in double quotes, on one line");
    char *item = read_string (r);
    if (!item)
      return FALSE;
    g_ptr_array_add (value->strings, item);
    skip_blank (r);
    if (*r->p == ',')
      r->p++;
    else if (*r->p != ']')
      return bad (r, "a ',' or ']' is missing in the list");
  }
  r->p++;
  return TRUE;
}

static gboolean
read_number (Reader *r, Value *value)
{
  size_t digits = strspn (r->p, "0123456789");
  g_autofree char *text = g_strndup (r->p, digits);
  value->kind = VALUE_UINT;
  if (digits == 0 || (digits > 1 && text[0] == '0')
      || !g_ascii_string_to_unsigned (text, 10, 0, G_MAXINT64, &value->number, NULL))
    return bad (r, "a value is needed: a string in double quotes, a plain number, true, false or a list of strings");
  r->p += digits;
  return TRUE;
}

static gboolean
read_value (Reader *r, Value *value)
{
  if (*r->p == '"') {
    value->kind = VALUE_STRING;
    return (value->string = read_string (r)) != NULL;
  }
  if (*r->p == '[')
    return read_array (r, value);
  value->truth = g_str_has_prefix (r->p, "true");
  if (value->truth || g_str_has_prefix (r->p, "false")) {
    value->kind = VALUE_BOOL;
    r->p += value->truth ? 4 : 5;
    return TRUE;
  }
  return read_number (r, value);
}

static char *
read_key (Reader *r, gboolean dots)
{
  size_t length = strspn (r->p, dots ? BARE_KEY "." : BARE_KEY);
  g_autofree char *key = g_strndup (r->p, length);
  if (length == 0 || key[0] == '.' || key[length - 1] == '.' || strstr (key, "..")) {
    bad (r, "a name of letters, digits, '_' and '-' is needed");
    return NULL;
  }
  r->p += length;
  return g_steal_pointer (&key);
}

/* One more of a list of tables. Its keys are found below "name[1]", which no key can be called. */
static void
add_to_list (Reader *r, const char *name)
{
  GArray *lines = g_hash_table_lookup (r->toml->lists, name);
  if (!lines) {
    lines = g_array_new (FALSE, FALSE, sizeof (guint));
    g_hash_table_insert (r->toml->lists, g_strdup (name), lines);
  }
  g_array_append_val (lines, r->line);
  g_free (r->table);
  r->table = g_strdup_printf ("%s[%u]", name, lines->len);
}

static gboolean
read_table (Reader *r)
{
  gboolean list = r->p[1] == '[';
  r->p += list ? 2 : 1;
  g_autofree char *name = read_key (r, TRUE);
  if (!name)
    return FALSE;
  if (!g_str_has_prefix (r->p, list ? "]]" : "]"))
    return bad (r, list ? "a ']]' is missing after the table's name" : "a ']' is missing after the table's name");
  r->p += list ? 2 : 1;
  if (g_hash_table_contains (list ? r->toml->tables : r->toml->lists, name))
    return bad (r, "this table is there as [one] and as [[one of several]]");
  if (list) {
    add_to_list (r, name);
    return TRUE;
  }
  if (!g_hash_table_add (r->toml->tables, g_strdup (name)))
    return bad (r, "this table is there twice");
  g_free (r->table);
  r->table = g_steal_pointer (&name);
  return TRUE;
}

static gboolean
read_pair (Reader *r)
{
  g_autofree char *key = read_key (r, FALSE);
  if (!key)
    return FALSE;
  skip_blank (r);
  if (*r->p++ != '=')
    return bad (r, "a '=' is missing after the name");
  skip_blank (r);
  Value *value = g_new0 (Value, 1);
  value->line = r->line;
  if (!read_value (r, value)) {
    value_free (value);
    return FALSE;
  }
  g_autofree char *full = *r->table ? g_strconcat (r->table, ".", key, NULL) : g_strdup (key);
  if (g_hash_table_contains (r->toml->values, full)) {
    value_free (value);
    return bad (r, "this name is there twice");
  }
  g_hash_table_insert (r->toml->values, g_steal_pointer (&full), value);
  return TRUE;
}

static gboolean
read_line (Reader *r)
{
  skip_blank (r);
  gboolean empty = *r->p == '\0' || *r->p == '\n' || *r->p == '#' || (*r->p == '\r' && r->p[1] == '\n');
  if (!empty && !(*r->p == '[' ? read_table (r) : read_pair (r)))
    return FALSE;
  skip_blank (r);
  if (*r->p == '#')
    for (; *r->p && *r->p != '\n'; r->p++)
      if ((unsigned char)*r->p < 0x20 && *r->p != '\t' && *r->p != '\r')
        return bad (r, "a control character in a comment");
  if (*r->p == '\r' && r->p[1] == '\n')
    r->p++;
  if (*r->p && *r->p != '\n')
    return bad (r, "unexpected text at the end of the line");
  r->p += *r->p == '\n';
  return TRUE;
}

BangerToml *
banger_toml_parse (const char *text, size_t length, const char *name, GError **error)
{
  if (length > BANGER_TOML_MAX_BYTES || !g_utf8_validate_len (text, length, NULL)) {
    banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "%s is not UTF-8 text of at most %d bytes", name,
                      BANGER_TOML_MAX_BYTES);
    return NULL;
  }
  g_autofree char *copy = g_strndup (text, length);
  g_autoptr (BangerToml) toml = g_new0 (BangerToml, 1);
  toml->name = g_strdup (name);
  toml->values = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, value_free);
  toml->tables = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  toml->lists = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_array_unref);
  Reader r = { .toml = toml, .p = copy, .table = g_strdup (""), .error = error };
  gboolean ok = TRUE;
  while (ok && *r.p) {
    r.line++;
    ok = read_line (&r);
  }
  g_free (r.table);
  return ok ? g_steal_pointer (&toml) : NULL;
}

/* Success with *ret NULL where the key is missing. */
static gboolean
look_up (BangerToml *toml, const char *table, const char *key, ValueKind kind, Value **ret, GError **error)
{
  g_autofree char *full = *table ? g_strconcat (table, ".", key, NULL) : g_strdup (key);
  *ret = g_hash_table_lookup (toml->values, full);
  if (*ret && (*ret)->kind != kind)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "%s, line %u: %s must be %s", toml->name, (*ret)->line,
                             full, kind_names[kind]);
  return TRUE;
}

guint
banger_toml_line (BangerToml *toml, const char *table, const char *key)
{
  g_autofree char *full = *table ? g_strconcat (table, ".", key, NULL) : g_strdup (key);
  const Value *value = g_hash_table_lookup (toml->values, full);
  return value ? value->line : 0;
}

static void
append_string (GString *text, const char *string)
{
  g_string_append_c (text, '"');
  for (; *string; string++) {
    static const char from[] = "\b\t\n\f\r\"\\", to[] = "btnfr\"\\";
    const char *at = strchr (from, *string);
    if (at)
      g_string_append_printf (text, "\\%c", to[at - from]);
    else
      g_string_append_c (text, *string);
  }
  g_string_append_c (text, '"');
}

char *
banger_toml_format (BangerToml *toml, const char *table, const char *key)
{
  g_autofree char *full = *table ? g_strconcat (table, ".", key, NULL) : g_strdup (key);
  const Value *value = g_hash_table_lookup (toml->values, full);
  g_autoptr (GString) text = g_string_new (NULL);
  if (!value)
    return NULL;
  if (value->kind == VALUE_STRING)
    append_string (text, value->string);
  else if (value->kind == VALUE_UINT)
    g_string_append_printf (text, "%" G_GUINT64_FORMAT, value->number);
  else if (value->kind == VALUE_BOOL)
    g_string_append (text, value->truth ? "true" : "false");
  for (guint i = 0; value->kind == VALUE_STRV && i < value->strings->len; i++) {
    g_string_append (text, i == 0 ? "[" : ", ");
    append_string (text, value->strings->pdata[i]);
  }
  if (value->kind == VALUE_STRV)
    g_string_append (text, value->strings->len == 0 ? "[]" : "]");
  return g_string_free (g_steal_pointer (&text), FALSE);
}

guint
banger_toml_list_length (BangerToml *toml, const char *list)
{
  const GArray *lines = g_hash_table_lookup (toml->lists, list);
  return lines ? lines->len : 0;
}

guint
banger_toml_list_line (BangerToml *toml, const char *list, guint number)
{
  GArray *lines = g_hash_table_lookup (toml->lists, list);
  return lines && number > 0 && number <= lines->len ? g_array_index (lines, guint, number - 1) : 0;
}

gboolean
banger_toml_get_string (BangerToml *toml, const char *table, const char *key, char **ret, GError **error)
{
  Value *value;
  if (!look_up (toml, table, key, VALUE_STRING, &value, error))
    return FALSE;
  if (value) {
    g_free (*ret);
    *ret = g_strdup (value->string);
  }
  return TRUE;
}

gboolean
banger_toml_get_uint (BangerToml *toml, const char *table, const char *key, guint64 min, guint64 max, guint64 *ret,
                      GError **error)
{
  Value *value;
  if (!look_up (toml, table, key, VALUE_UINT, &value, error))
    return FALSE;
  if (!value)
    return TRUE;
  if (value->number < min || value->number > max)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS,
                             "%s, line %u: %s%s%s must be from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT, toml->name,
                             value->line, table, *table ? "." : "", key, min, max);
  *ret = value->number;
  return TRUE;
}

gboolean
banger_toml_get_bool (BangerToml *toml, const char *table, const char *key, gboolean *ret, GError **error)
{
  Value *value;
  if (!look_up (toml, table, key, VALUE_BOOL, &value, error))
    return FALSE;
  if (value)
    *ret = value->truth;
  return TRUE;
}

gboolean
banger_toml_get_strv (BangerToml *toml, const char *table, const char *key, char ***ret, GError **error)
{
  Value *value;
  if (!look_up (toml, table, key, VALUE_STRV, &value, error))
    return FALSE;
  if (!value)
    return TRUE;
  g_autoptr (GStrvBuilder) builder = g_strv_builder_new ();
  for (guint i = 0; i < value->strings->len; i++)
    g_strv_builder_add (builder, value->strings->pdata[i]);
  g_strfreev (*ret);
  *ret = g_strv_builder_end (builder);
  return TRUE;
}

static int
by_line (gconstpointer a, gconstpointer b)
{
  guint x = (*(const Value *const *)a)->line, y = (*(const Value *const *)b)->line;
  return x < y ? -1 : x > y;
}

GPtrArray *
banger_toml_unknown_keys (BangerToml *toml, const char *const *known)
{
  g_autoptr (GPtrArray) values = g_ptr_array_new (); /* of those keys, in the order of the file */
  g_autoptr (GHashTable) names = g_hash_table_new (NULL, NULL);
  GPtrArray *texts = g_ptr_array_new_with_free_func (g_free);
  GHashTableIter iter;
  gpointer key, value;
  g_hash_table_iter_init (&iter, toml->values);
  while (g_hash_table_iter_next (&iter, &key, &value))
    if (!g_strv_contains (known, key)) {
      g_hash_table_insert (names, value, key);
      g_ptr_array_add (values, value);
    }
  g_ptr_array_sort (values, by_line);
  for (guint i = 0; i < values->len; i++) {
    g_autofree char *shown = banger_log_escape (g_hash_table_lookup (names, values->pdata[i]), 60);
    g_ptr_array_add (texts, g_strdup_printf ("%s, line %u: '%s' is not a known setting", toml->name,
                                             ((const Value *)values->pdata[i])->line, shown));
  }
  return texts;
}

gboolean
banger_toml_check_keys (BangerToml *toml, const char *const *known, GError **error)
{
  g_autoptr (GPtrArray) texts = banger_toml_unknown_keys (toml, known);
  return texts->len == 0 || banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "%s", (char *)texts->pdata[0]);
}

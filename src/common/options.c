/* Reading `a{sv} options`, the last argument of every verb.
 * Never ignores a key it does not know. */
#include "common/options.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/log.h"

#define MAX_OPTIONS 64

static const char *const type_names[] = {
  [BANGER_OPTION_STRING] = "string (s)",         [BANGER_OPTION_BOOL] = "boolean (b)",
  [BANGER_OPTION_UINT32] = "number (u)",         [BANGER_OPTION_UINT64] = "number (t)",
  [BANGER_OPTION_STRV] = "list of strings (as)", [BANGER_OPTION_PATH] = "string (s) or bytes (ay)",
  [BANGER_OPTION_FD] = "file descriptor (h)",
};

static gboolean
broken (GError **error, int r)
{
  return banger_set_error_errno (error, BANGER_ERROR_INVALID_ARGS, -r, "options cannot be read");
}

static gboolean
unknown_key (const BangerOption *table, const char *key, GError **error)
{
  g_autofree char *shown = banger_log_escape (key, 40);
  g_autoptr (GString) known = g_string_new (NULL);
  for (const BangerOption *row = table; row->key; row++)
    g_string_append_printf (known, "%s%s", known->len ? ", " : "", row->key);
  return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "option '%s' is not known here; known: %s", shown,
                           known->len ? known->str : "none");
}

static gboolean
wrong_type (const BangerOption *row, const char *got, GError **error)
{
  return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "option '%s' must be a %s, not of type '%s'", row->key,
                           type_names[row->type], got);
}

/* Any integer type on the wire; a negative one never fits. */
static int
read_integer (sd_bus_message *m, char type, guint64 *ret, gboolean *ret_negative)
{
  union {
    guint8 y;
    gint16 n;
    guint16 q;
    gint32 i;
    guint32 u;
    gint64 x;
    guint64 t;
  } v = { 0 };
  int r = sd_bus_message_read_basic (m, type, &v);
  gint64 wide = type == 'n' ? v.n : type == 'i' ? v.i : type == 'x' ? v.x : 0;
  guint64 unsigned_wide = type == 'y' ? v.y : type == 'q' ? v.q : type == 'u' ? v.u : type == 't' ? v.t : 0;
  *ret_negative = wide < 0;
  *ret = wide > 0 ? (guint64)wide : unsigned_wide;
  return r;
}

static gboolean
read_number (sd_bus_message *m, const BangerOption *row, const char *contents, void *where, GError **error)
{
  if (strlen (contents) != 1 || !strchr ("ynqiuxt", contents[0]))
    return wrong_type (row, contents, error);
  guint64 value = 0, max = row->type == BANGER_OPTION_UINT32 ? G_MAXUINT32 : G_MAXUINT64;
  gboolean negative = FALSE;
  int r = read_integer (m, contents[0], &value, &negative);
  if (r < 0)
    return broken (error, r);
  if (negative || value > max)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "option '%s' must be from 0 to %" G_GUINT64_FORMAT,
                             row->key, max);
  if (row->type == BANGER_OPTION_UINT32)
    *(guint32 *)where = (guint32)value;
  else
    *(guint64 *)where = value;
  return TRUE;
}

static gboolean
read_string (sd_bus_message *m, const BangerOption *row, char **where, GError **error)
{
  const char *text = NULL;
  int r = sd_bus_message_read_basic (m, 's', &text);
  if (r < 0)
    return broken (error, r);
  if (row->words && !g_strv_contains (row->words, text)) {
    g_autofree char *shown = banger_log_escape (text, 40);
    g_autofree char *choices = g_strjoinv (", ", (char **)row->words);
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "option '%s' is '%s'; choose one of %s", row->key, shown,
                             choices);
  }
  g_free (*where);
  *where = g_strdup (text);
  return TRUE;
}

/* @contents: "s" or "ay". */
static gboolean
read_path (sd_bus_message *m, const BangerOption *row, const char *contents, char **where, GError **error)
{
  const void *bytes = NULL;
  size_t length = 0;
  const char *text = NULL;
  int r = contents[0] == 's' ? sd_bus_message_read_basic (m, 's', &text)
                             : sd_bus_message_read_array (m, 'y', &bytes, &length);
  if (r < 0)
    return broken (error, r);
  if (length > 0 && memchr (bytes, 0, length))
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "option '%s' has a NUL in it", row->key);
  g_free (*where);
  *where = text != NULL ? g_strdup (text) : g_strndup (length > 0 ? bytes : "", length);
  return TRUE;
}

static gboolean
read_simple (sd_bus_message *m, const BangerOption *row, void *where, GError **error)
{
  int truth = 0, fd = -1, r;
  char **strv = NULL;
  switch (row->type) {
    case BANGER_OPTION_BOOL:
      r = sd_bus_message_read_basic (m, 'b', &truth);
      if (r >= 0)
        *(gboolean *)where = truth != 0;
      break;
    case BANGER_OPTION_STRV:
      r = sd_bus_message_read_strv (m, &strv);
      if (r >= 0) {
        g_strfreev (*(char ***)where);
        *(char ***)where = g_strdupv (strv ? strv : (char *[]){ NULL });
        for (char **p = strv; p && *p; p++)
          free (*p); /* sd-bus allocates with malloc(3) */
        free (strv);
      }
      break;
    default: /* BANGER_OPTION_FD: the descriptor belongs to the message */
      r = sd_bus_message_read_basic (m, 'h', &fd);
      if (r >= 0) {
        *(int *)where = fcntl (fd, F_DUPFD_CLOEXEC, 3);
        r = *(int *)where < 0 ? -errno : 0;
      }
      break;
  }
  return r >= 0 || broken (error, r);
}

static gboolean
read_value (sd_bus_message *m, const BangerOption *row, gpointer values, GError **error)
{
  static const char *const wanted[] = {
    [BANGER_OPTION_STRING] = "s", [BANGER_OPTION_BOOL] = "b", [BANGER_OPTION_STRV] = "as", [BANGER_OPTION_FD] = "h"
  };
  void *where = (char *)values + row->offset;
  const char *contents = NULL;
  int r = sd_bus_message_peek_type (m, NULL, &contents);
  if (r < 0)
    return broken (error, r);
  gboolean path = row->type == BANGER_OPTION_PATH && (g_str_equal (contents, "s") || g_str_equal (contents, "ay"));
  gboolean number = row->type == BANGER_OPTION_UINT32 || row->type == BANGER_OPTION_UINT64;
  if (!number && !path && (!wanted[row->type] || !g_str_equal (contents, wanted[row->type])))
    return wrong_type (row, contents, error);
  /* Valid until the container is left; @contents belongs to the message. */
  g_autofree char *type = g_strdup (contents);
  if ((r = sd_bus_message_enter_container (m, 'v', type)) < 0)
    return broken (error, r);
  gboolean ok = path                                ? read_path (m, row, type, where, error)
                : number                            ? read_number (m, row, type, where, error)
                : row->type == BANGER_OPTION_STRING ? read_string (m, row, where, error)
                                                    : read_simple (m, row, where, error);
  if (!ok)
    return FALSE;
  r = sd_bus_message_exit_container (m);
  return r >= 0 || broken (error, r);
}

static gboolean
read_entry (sd_bus_message *m, const BangerOption *table, guint64 *seen, gpointer values, GError **error)
{
  const char *key = NULL;
  int r = sd_bus_message_read_basic (m, 's', &key);
  if (r < 0)
    return broken (error, r);
  const BangerOption *row = table;
  while (row->key && !g_str_equal (row->key, key))
    row++;
  if (!row->key)
    return unknown_key (table, key, error);
  guint64 bit = G_GUINT64_CONSTANT (1) << (row - table);
  if (*seen & bit)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "option '%s' is given twice", row->key);
  *seen |= bit;
  return read_value (m, row, values, error);
}

gboolean
banger_options_read (sd_bus_message *m, const BangerOption *table, gpointer ret_values, GError **error)
{
  guint64 seen = 0;
  int r = sd_bus_message_enter_container (m, 'a', "{sv}");
  if (r < 0)
    return broken (error, r);
  for (int n = 0; (r = sd_bus_message_enter_container (m, 'e', "sv")) > 0; n++) {
    if (n >= MAX_OPTIONS)
      return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "more than %d options", MAX_OPTIONS);
    if (!read_entry (m, table, &seen, ret_values, error))
      return FALSE;
    if ((r = sd_bus_message_exit_container (m)) < 0)
      return broken (error, r);
  }
  if (r >= 0)
    r = sd_bus_message_exit_container (m);
  return r >= 0 || broken (error, r);
}

void
banger_options_clear (const BangerOption *table, gpointer values)
{
  for (; table->key; table++) {
    void *where = (char *)values + table->offset;
    if (table->type == BANGER_OPTION_STRING || table->type == BANGER_OPTION_PATH)
      g_clear_pointer ((char **)where, g_free);
    else if (table->type == BANGER_OPTION_STRV)
      g_clear_pointer ((char ***)where, g_strfreev);
    else if (table->type == BANGER_OPTION_FD && *(int *)where >= 0) {
      close (*(int *)where);
      *(int *)where = -1;
    }
  }
}

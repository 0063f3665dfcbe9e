/* Aligned columns.
 * Never cuts a cell. */
#include "cli/table.h"

struct BangerTable {
  guint columns;
  GPtrArray *cells; /* char *, row by row */
};

BangerTable *
banger_table_new (guint columns)
{
  BangerTable *table = g_new0 (BangerTable, 1);
  table->columns = columns;
  table->cells = g_ptr_array_new_with_free_func (g_free);
  return table;
}

void
banger_table_free (BangerTable *table)
{
  if (!table)
    return;
  g_ptr_array_unref (table->cells);
  g_free (table);
}

static char *
clean (const char *cell)
{
  if (!cell || cell[0] == '\0')
    return g_strdup ("-");
  g_autofree char *valid = g_utf8_make_valid (cell, -1);
  GString *out = g_string_new (NULL);
  for (const char *c = valid; *c != '\0'; c = g_utf8_next_char (c)) {
    gunichar wide = g_utf8_get_char (c);
    g_string_append_unichar (out, g_unichar_iscntrl (wide) ? '?' : wide);
  }
  return g_string_free (out, FALSE);
}

void
banger_table_add (BangerTable *table, const char *const *cells)
{
  for (guint column = 0; column < table->columns; column++)
    g_ptr_array_add (table->cells, clean (cells[column]));
}

/* Columns on a terminal, not bytes. */
static guint
cell_width (const char *cell)
{
  guint width = 0;
  for (; *cell != '\0'; cell = g_utf8_next_char (cell)) {
    gunichar wide = g_utf8_get_char (cell);
    width += g_unichar_iszerowidth (wide) ? 0 : g_unichar_iswide (wide) ? 2 : 1;
  }
  return width;
}

char *
banger_table_format (BangerTable *table)
{
  g_autofree guint *widths = g_new0 (guint, table->columns);
  for (guint i = 0; i < table->cells->len; i++) {
    guint width = cell_width (g_ptr_array_index (table->cells, i));
    widths[i % table->columns] = MAX (widths[i % table->columns], width);
  }
  GString *out = g_string_new (NULL);
  for (guint i = 0; i < table->cells->len; i++) {
    const char *cell = g_ptr_array_index (table->cells, i);
    guint column = i % table->columns;
    g_string_append (out, cell);
    if (column + 1 == table->columns)
      g_string_append_c (out, '\n');
    else
      g_string_append_printf (out, "%*s", (int)(widths[column] - cell_width (cell) + 2), "");
  }
  return g_string_free (out, FALSE);
}

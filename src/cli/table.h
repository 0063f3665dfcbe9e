/* Text for people in columns.
 * Never lets a control character of a cell reach the terminal. */
#pragma once

#include <glib.h>

typedef struct BangerTable BangerTable;

/** banger_table_new: @columns: how many cells a row has. */
BangerTable *banger_table_new (guint columns);
void banger_table_free (BangerTable *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerTable, banger_table_free)

/** banger_table_add: @cells: @columns of them; %NULL and "" become "-". */
void banger_table_add (BangerTable *table, const char *const *cells);
/** banger_table_format: Returns: (transfer full): every row on a line, cells aligned, two spaces apart, no trailing
 * ones. */
char *banger_table_format (BangerTable *table);

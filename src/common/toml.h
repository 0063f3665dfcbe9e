/* A strict reader of the subset of TOML 1.0 that install.toml and config.toml need: comments, [tables], [[lists of
 * tables]], bare keys, basic strings, integers, booleans, arrays of strings on one line. Anything else is an error with its line number.
 * Never guesses: a key given twice, an unknown escape, a stray character is refused. */
#pragma once

#include <glib.h>

#define BANGER_TOML_MAX_BYTES (256 * 1024)

typedef struct BangerToml BangerToml;

/** banger_toml_parse: @name is for messages. Returns: (transfer full): %NULL on error. */
BangerToml *banger_toml_parse (const char *text, size_t length, const char *name, GError **error);
void banger_toml_free (BangerToml *toml);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerToml, banger_toml_free)

/* @table "" is the root; dotted for sub-tables. A missing key leaves *ret untouched and is success; a wrong type is
 * not. */
gboolean banger_toml_get_string (BangerToml *toml, const char *table, const char *key, char **ret, GError **error);
gboolean banger_toml_get_uint (BangerToml *toml, const char *table, const char *key, guint64 min, guint64 max,
                               guint64 *ret, GError **error);
gboolean banger_toml_get_bool (BangerToml *toml, const char *table, const char *key, gboolean *ret, GError **error);
gboolean banger_toml_get_strv (BangerToml *toml, const char *table, const char *key, char ***ret, GError **error);
/** banger_toml_line: the line of that value, 0 if it is not there. */
guint banger_toml_line (BangerToml *toml, const char *table, const char *key);
/** banger_toml_format: Returns: (transfer full): that value as it may be written; %NULL if it is not there. */
char *banger_toml_format (BangerToml *toml, const char *table, const char *key);
/** banger_toml_list_length: how many [[@list]] there are. The keys of the second are those of the table "@list[2]". */
guint banger_toml_list_length (BangerToml *toml, const char *list);
/** banger_toml_list_line: @number: from 1. Returns: the line of that [[@list]], 0 if it is not there. */
guint banger_toml_list_line (BangerToml *toml, const char *list, guint number);
/** banger_toml_unknown_keys: Returns: (transfer full): a text for each "table.key" that is not in the %NULL-terminated
 * @known, in the order of their lines. */
GPtrArray *banger_toml_unknown_keys (BangerToml *toml, const char *const *known);
/** banger_toml_check_keys: refuses "table.key" names not in the %NULL-terminated @known. */
gboolean banger_toml_check_keys (BangerToml *toml, const char *const *known, GError **error);

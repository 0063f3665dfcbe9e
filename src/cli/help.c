/* --help, from the command table.
 * Never longer than 80 columns. */
#include "cli/help.h"

#include <glib/gi18n.h>
#include <string.h>

#define WIDTH 79
#define MARGIN 30 /* widest name column */

/* Appends @text from column @column on, further lines indented by @indent. */
static void
append_wrapped (GString *out, const char *text, gsize column, gsize indent)
{
  g_auto (GStrv) words = g_strsplit (text, " ", -1);
  gsize at = column;
  for (char **word = words; *word; word++) {
    gsize length = (gsize)g_utf8_strlen (*word, -1);
    if (word != words && at + 1 + length > WIDTH) {
      g_string_append_printf (out, "\n%*s", (int)indent, "");
      at = indent;
    } else if (word != words) {
      g_string_append_c (out, ' ');
      at++;
    }
    g_string_append (out, *word);
    at += length;
  }
  g_string_append_c (out, '\n');
}

static void
append_paragraphs (GString *out, const char *text)
{
  g_auto (GStrv) paragraphs = g_strsplit (text, "\n\n", -1);
  for (char **paragraph = paragraphs; *paragraph; paragraph++) {
    g_string_append_c (out, '\n');
    append_wrapped (out, *paragraph, 0, 0);
  }
}

/* "  --memory SIZE    text", the text in a column of its own. */
static void
append_row (GString *out, const char *name, const char *text, gsize margin)
{
  gsize length = (gsize)g_utf8_strlen (name, -1);
  g_string_append_printf (out, "  %s", name);
  if (length + 2 > margin - 2) {
    g_string_append_printf (out, "\n%*s", (int)margin, "");
  } else {
    g_string_append_printf (out, "%*s", (int)(margin - 2 - length), "");
  }
  append_wrapped (out, text, margin, margin);
}

static char *
option_name (const BangerCliOption *option)
{
  g_autofree char *letter = option->letter != 0 ? g_strdup_printf ("-%c, ", option->letter) : g_strdup ("");
  return g_strdup_printf ("%s--%s%s%s", letter, option->name, option->value ? " " : "",
                          option->value ? _ (option->value) : "");
}

char *
banger_usage_line (const BangerCommand *command)
{
  GString *out = g_string_new (command->words);
  if (command->options)
    g_string_append_printf (out, " [%s...]", _ ("OPTION"));
  for (const BangerCliArgument *row = command->arguments; row && row->name; row++) {
    gboolean optional = (row->flags & BANGER_ARGUMENT_OPTIONAL) != 0;
    g_string_append_printf (out, " %s%s%s%s", optional ? "[" : "", _ (row->name),
                            row->flags & BANGER_ARGUMENT_REPEATED ? "..." : "", optional ? "]" : "");
  }
  if (command->tail == BANGER_TAIL_REQUIRED)
    g_string_append_printf (out, " -- %s...", _ ("CMD"));
  else if (command->tail == BANGER_TAIL_OPTIONAL)
    g_string_append_printf (out, " [-- %s...]", _ ("CMD"));
  return g_string_free (out, FALSE);
}

static void
append_options (GString *out, const BangerCommand *command)
{
  gsize margin = 16;
  for (const BangerCliOption *option = command->options; option && option->name; option++) {
    g_autofree char *name = option_name (option);
    margin = MAX (margin, MIN ((gsize)g_utf8_strlen (name, -1) + 4, MARGIN));
  }
  g_string_append_printf (out, "\n%s\n", _ ("Options:"));
  for (const BangerCliOption *option = command->options; option && option->name; option++) {
    g_autofree char *name = option_name (option);
    append_row (out, name, _ (option->summary), margin);
  }
  append_row (out, "-h, --help", _ ("print this help"), margin);
}

char *
banger_help_for_command (const BangerCommand *command)
{
  GString *out = g_string_new (NULL);
  g_autofree char *usage = banger_usage_line (command);
  g_string_append_printf (out, "%s banger %s\n\n", _ ("Usage:"), usage);
  g_autofree char *line = g_strdup_printf ("banger %s: %s.", command->words, _ (command->summary));
  append_wrapped (out, line, 0, 0);
  append_paragraphs (out, _ (command->description));
  if (command->arguments)
    g_string_append_printf (out, "\n%s\n", _ ("Arguments:"));
  for (const BangerCliArgument *row = command->arguments; row && row->name; row++)
    append_row (out, _ (row->name), _ (row->summary), 16);
  append_options (out, command);
  g_string_append_printf (out, "\n%s\n", _ ("Examples:"));
  for (const BangerCliExample *example = command->examples; example->line; example++) {
    g_string_append_printf (out, "  %s\n      ", example->line);
    append_wrapped (out, _ (example->what), 6, 6);
  }
  return g_string_free (out, FALSE);
}

static void
append_commands (GString *out, const BangerCommandTable *table, const BangerGroup *group)
{
  for (const BangerCommand *command = table->commands; command->words; command++)
    if (banger_command_in_group (command, group))
      append_row (out, command->words, _ (command->summary), 20);
}

char *
banger_help_for_group (const BangerCommandTable *table, const BangerGroup *group)
{
  GString *out = g_string_new (NULL);
  const BangerGroup *title = group ? group : banger_group_find (table, "");
  const char *space = title->word[0] != '\0' ? " " : "";
  g_string_append_printf (out, "%s banger %s%s%s\n\n", _ ("Usage:"), title->word, space, _ ("COMMAND [OPTION...]"));
  g_string_append_printf (out, "banger%s%s: %s.\n", space, title->word, _ (title->summary));
  if (group) {
    g_string_append_c (out, '\n');
    append_commands (out, table, group);
  }
  for (const BangerGroup *row = table->groups; !group && row->word; row++) {
    if (row->word[0] != '\0')
      g_string_append_printf (out, "\n%s: %s\n", row->word, _ (row->summary));
    else
      g_string_append_printf (out, "\n%s\n", _ ("others:"));
    append_commands (out, table, row);
  }
  g_string_append_printf (out, "\n%s\n", _ ("`banger COMMAND --help` explains a command and gives examples."));
  return g_string_free (out, FALSE);
}

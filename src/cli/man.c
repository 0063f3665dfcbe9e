/* Man pages in roff, from the command table; see man(7).
 * Never translated: it runs in the C locale. */
#include <string.h>

#include "cli/help.h"
#include "common/error.h"
#include "common/names.h"

/* Roff takes \ anywhere and . or ' at the start of a line for itself. */
static void
append_text (GString *out, const char *text)
{
  for (const char *c = text; *c != '\0'; c++) {
    gboolean at_start = out->len == 0 || out->str[out->len - 1] == '\n';
    if (at_start && (*c == '.' || *c == '\''))
      g_string_append (out, "\\&");
    if (*c == '\\')
      g_string_append (out, "\\e");
    else if (*c == '-')
      g_string_append (out, "\\-");
    else if (*c == '`' || *c == '\'')
      g_string_append (out, *c == '`' ? "\\(ga" : "\\(aq");
    else
      g_string_append_c (out, *c);
  }
}

static void
append_line (GString *out, const char *macro, const char *text)
{
  g_string_append (out, macro);
  append_text (out, text);
  g_string_append_c (out, '\n');
}

static void
append_paragraphs (GString *out, const char *text)
{
  g_auto (GStrv) paragraphs = g_strsplit (text, "\n\n", -1);
  for (char **paragraph = paragraphs; *paragraph; paragraph++) {
    g_string_append (out, ".PP\n");
    append_line (out, "", *paragraph);
  }
}

static void
append_item (GString *out, const char *name, const char *text)
{
  g_string_append (out, ".TP\n");
  append_line (out, ".B ", name);
  append_line (out, "", text);
}

static void
append_command (GString *out, const BangerCommand *command)
{
  g_autofree char *usage = banger_usage_line (command);
  g_autofree char *title = g_strdup_printf ("banger %s", usage);
  append_line (out, ".SS ", title);
  append_paragraphs (out, command->description);
  for (const BangerCliArgument *row = command->arguments; row && row->name; row++)
    append_item (out, row->name, row->summary);
  for (const BangerCliOption *option = command->options; option && option->name; option++) {
    g_autofree char *letter = option->letter != 0 ? g_strdup_printf ("-%c, ", option->letter) : g_strdup ("");
    g_autofree char *name = g_strdup_printf ("%s--%s%s%s", letter, option->name, option->value ? " " : "",
                                             option->value ? option->value : "");
    append_item (out, name, option->summary);
  }
  g_string_append (out, ".PP\nExamples:\n");
  for (const BangerCliExample *example = command->examples; example->line; example++)
    append_item (out, example->line, example->what);
}

static void
append_exit_status (GString *out)
{
  g_string_append (out, ".SH EXIT STATUS\n");
  append_paragraphs (out,
                     "Where a command is run in a guest, its own: 128 and the number of the signal if one ended it. "
                     "Without a command, or if it could not be run:");
  append_item (out, "0", "success");
  for (int status = 1; status < 256; status++) {
    g_autoptr (GString) names = g_string_new (status == 2 ? "a mistake on the command line" : NULL);
    for (int code = 0; code < BANGER_N_ERRORS; code++)
      if (banger_error_exit_status ((BangerError)code) == status) {
        const char *name = strrchr (banger_error_dbus_name ((BangerError)code), '.') + 1;
        g_string_append_printf (names, "%s%s", names->len > 0 ? ", " : "", name);
      }
    g_autofree char *number = g_strdup_printf ("%d", status);
    if (names->len > 0)
      append_item (out, number, names->str);
  }
  append_item (out, "128+N", "banger was ended by signal N");
}

static void
append_overview (GString *out, const BangerCommandTable *table)
{
  g_string_append (out, ".SH COMMANDS\n");
  for (const BangerGroup *group = table->groups; group->word; group++)
    if (group->word[0] != '\0') {
      g_autofree char *page = g_strdup_printf ("banger %s, see banger-%s(1)", group->word, group->word);
      append_item (out, page, group->summary);
    }
}

static void
append_surroundings (GString *out)
{
  g_string_append (out, ".SH ENVIRONMENT\n");
  append_item (out, BANGER_ENV_CONFIG, "install metadata to read instead of " BANGER_INSTALL_FILE);
  append_item (out, "DBUS_SESSION_BUS_ADDRESS", "the bus on which the manager is");
  g_string_append (out, ".SH FILES\n");
  append_item (out, BANGER_INSTALL_FILE, "owner, directories and engine of this installation");
  append_item (out, "~/.config/banger/ssh", "the key that guests accept, and their host keys");
}

char *
banger_man_page (const BangerCommandTable *table, const BangerGroup *group)
{
  gboolean all = group->word[0] == '\0';
  g_autofree char *page = all ? g_strdup ("banger") : g_strdup_printf ("banger-%s", group->word);
  g_autofree char *upper = g_ascii_strup (page, -1);
  GString *out = g_string_new (".\\\" Made from the command table by `banger __man`.\n");
  g_string_append_printf (out, ".TH %s 1 \"\" \"banger %s\" \"User Commands\"\n.nh\n.ad l\n", upper, BANGER_VERSION);
  g_string_append (out, ".SH NAME\n");
  g_string_append_printf (out, "%s \\- %s\n", page, group->summary);
  g_string_append (out, ".SH SYNOPSIS\n.nf\n");
  if (all)
    g_string_append (out, "banger COMMAND [OPTION...]\n");
  for (const BangerCommand *command = table->commands; command->words; command++)
    if (banger_command_in_group (command, group)) {
      g_autofree char *usage = banger_usage_line (command);
      append_line (out, "banger ", usage);
    }
  g_string_append (out, ".fi\n.SH DESCRIPTION\n");
  append_paragraphs (out,
                     "banger boots a microVM from a golden image, copies a git repository in, runs a command or opens "
                     "a shell, and tears the machine down. It is a client of org.banger.Manager on the session bus.");
  if (all)
    append_overview (out, table);
  g_string_append (out, all ? ".SH OTHER COMMANDS\n" : ".SH COMMANDS\n");
  for (const BangerCommand *command = table->commands; command->words; command++)
    if (banger_command_in_group (command, group))
      append_command (out, command);
  append_exit_status (out);
  append_surroundings (out);
  g_string_append (out, ".SH SEE ALSO\n.BR ssh (1),\n.BR busctl (1),\n.BR git (1)\n");
  return g_string_free (out, FALSE);
}

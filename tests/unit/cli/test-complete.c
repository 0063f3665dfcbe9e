/* Completion as far as the command table answers it; names come in test_commands.py.
 * Run by meson without a bus.
 * Never waits for a manager. */
#include <glib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/complete.h"

/* The candidates without their summaries, joined by spaces. */
static char *
complete (const char *line)
{
  g_auto (GStrv) words = g_strsplit (line, " ", -1);
  g_autofree char *text = banger_complete (&banger_command_table, (const char *const *)words);
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  for (char **row = lines; *row != NULL; row++)
    (*row)[strcspn (*row, "\t")] = '\0';
  g_autofree char *joined = g_strjoinv (" ", lines);
  return g_strdup (g_strstrip (joined));
}

static void
test_rows (void)
{
  static const struct {
    const char *line, *candidates;
  } rows[] = {
    { "v", "vm version" },
    { "vm res", "restart resume" },
    { "vm run --di", "--disk-size" },
    { "vm run --rm --n", "--name --no-publish --nat --no-nat --no-git --no-stdin" },
    { "vm run ", ":directories" },
    { "vm run . ", "" },
    { "vm run -- ", ":files" },
    { "vm run --name x", "" },
    { "vm list -- ", "" },
    { "kernel import x ", ":files" },
    { "kernel import x --modules ", ":directories" },
    { "kernel import x --modules=", ":directories" },
    { "vm cp ", ":files" },
    { "vm cp web:/x ", ":files" },
    { "vm cp web:/x", "" },
    { "vm cp a b ", "" },
    { "completion ", "bash zsh fish" },
    { "help kern", "kernel" },
    { "help kernel ", "import pull list show delete" },
    { "help kernel d", "delete" },
    { "help ps ", "" },
    { "nonsense ", "" },
    { "vm nonsense ", "" },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autofree char *candidates = complete (rows[i].line);
    g_test_message ("%s", rows[i].line);
    g_assert_cmpstr (candidates, ==, rows[i].candidates);
  }
}

/* What completion offers is what the table holds: every command and every option. */
static void
test_all (void)
{
  for (const BangerCommand *command = banger_command_table.commands; command->words != NULL; command++) {
    g_autofree char *same = complete (command->words);
    const char *last = strrchr (command->words, ' ');
    g_assert_nonnull (strstr (same, last != NULL ? last + 1 : command->words));
    for (const BangerCliOption *option = command->options; option != NULL && option->name != NULL; option++) {
      g_autofree char *line = g_strdup_printf ("%s --%s", command->words, option->name);
      g_autofree char *found = complete (line);
      g_assert_nonnull (strstr (found, option->name));
    }
  }
}

int
main (int argc, char **argv)
{
  g_setenv ("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent", TRUE);
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/cli/complete/rows", test_rows);
  g_test_add_func ("/cli/complete/all", test_all);
  return g_test_run ();
}

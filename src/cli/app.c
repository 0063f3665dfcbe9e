/* From argv to exit status: hidden words for machines, then the command table.
 * Never knows a command by name but the hidden ones. */
#include "cli/app.h"

#include <glib/gi18n.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/complete.h"
#include "cli/help.h"
#include "cli/verbs.h"

/* `banger __man GROUP` ("banger" for the overview): used by the build. */
static int
print_man_page (const char *const *words)
{
  const char *word = !words[0] || strcmp (words[0], "banger") == 0 ? "" : words[0];
  const BangerGroup *group = banger_group_find (&banger_command_table, word);
  if (!group)
    return 2;
  g_autofree char *page = banger_man_page (&banger_command_table, group);
  g_print ("%s", page);
  return 0;
}

static int
print_candidates (const char *const *words)
{
  g_autofree char *lines = banger_complete (&banger_command_table, words);
  g_print ("%s", lines);
  return 0;
}

static const struct {
  const char *word;
  int (*run) (const char *const *words);
} hidden[] = { { "__man", print_man_page }, { "__complete", print_candidates } };

static int
print_help (const BangerInvocation *invocation)
{
  g_autofree char *text = invocation->command ? banger_help_for_command (invocation->command)
                                              : banger_help_for_group (invocation->table, invocation->group);
  g_print ("%s", text);
  return 0;
}

int
banger_app_run (const char *const *argv)
{
  for (gsize i = 0; argv[0] && i < G_N_ELEMENTS (hidden); i++)
    if (strcmp (argv[0], hidden[i].word) == 0)
      return hidden[i].run (argv + 1);

  g_autoptr (GError) error = NULL;
  const BangerCommand *command = NULL;
  g_autoptr (BangerInvocation) invocation = banger_invocation_parse (&banger_command_table, argv, &command, &error);
  if (!invocation)
    return banger_report_error (error, command);
  if (invocation->help)
    return print_help (invocation);
  if (invocation->version) {
    g_print ("banger %s\n", BANGER_VERSION);
    return 0;
  }
  int status = command->run (invocation, &error);
  return error ? banger_report_error (error, command) : status;
}

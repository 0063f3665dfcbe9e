/* The command table's own rules, and the parser against it.
 * Run by meson.
 * Never calls a handler. */
#include <glib.h>
#include <string.h>

#include "cli/commands.h"

static BangerInvocation *
parse (const char *line, GError **error)
{
  g_auto (GStrv) argv = NULL;
  g_autoptr (GError) bad = NULL;
  if (line[0] == '\0')
    argv = g_new0 (char *, 1);
  else
    g_shell_parse_argv (line, NULL, &argv, &bad);
  g_assert_no_error (bad);
  return banger_invocation_parse (&banger_command_table, (const char *const *)argv, NULL, error);
}

static void
check_option (const BangerCommand *command, const BangerCliOption *option)
{
  g_assert_nonnull (option->summary);
  g_assert_cmpuint (strlen (option->summary), >, 8);
  g_assert_cmpstr (option->name, !=, "help");
  g_assert_cmpint (option->letter, !=, 'h');
  g_assert_cmpint (option->value != NULL, ==, option->type != BANGER_CLI_FLAG);
  if (option->letter != 0)
    g_assert_true (banger_command_find_letter (command, option->letter) == option);
  g_assert_true (banger_command_find_option (command, option->name, strlen (option->name)) == option);
}

static void
check_arguments (const BangerCommand *command)
{
  gboolean optional = FALSE;
  for (const BangerCliArgument *row = command->arguments; row != NULL && row->name != NULL; row++) {
    g_assert_nonnull (row->summary);
    g_assert_true (!optional || (row->flags & BANGER_ARGUMENT_OPTIONAL) != 0);
    g_assert_true ((row->flags & BANGER_ARGUMENT_REPEATED) == 0 || row[1].name == NULL);
    optional = (row->flags & BANGER_ARGUMENT_OPTIONAL) != 0;
  }
}

static void
test_table (void)
{
  for (const BangerCommand *command = banger_command_table.commands; command->words != NULL; command++) {
    g_test_message ("%s", command->words);
    g_assert_true (banger_command_find (&banger_command_table, command->words) == command);
    g_assert_nonnull (command->summary);
    g_assert_cmpuint (strlen (command->description), >, 20);
    g_assert_nonnull (command->run);
    g_assert_nonnull (command->examples);
    g_assert_nonnull (command->examples->line);
    guint groups = 0;
    for (const BangerGroup *group = banger_command_table.groups; group->word != NULL; group++)
      groups += banger_command_in_group (command, group) ? 1 : 0;
    g_assert_cmpuint (groups, ==, 1);
    for (const BangerCliOption *option = command->options; option != NULL && option->name != NULL; option++)
      check_option (command, option);
    check_arguments (command);
  }
}

/* Every example is a command line that its own command accepts. */
static void
test_examples (void)
{
  for (const BangerCommand *command = banger_command_table.commands; command->words != NULL; command++)
    for (const BangerCliExample *example = command->examples; example->line != NULL; example++) {
      g_autoptr (GError) error = NULL;
      g_assert_nonnull (example->what);
      const char *line = strstr (example->line, "banger ");
      g_assert_nonnull (line);
      g_autoptr (BangerInvocation) invocation = parse (line + strlen ("banger "), &error);
      g_assert_no_error (error);
      g_assert_true (invocation->command == command);
    }
}

static void
test_refused (void)
{
  static const struct {
    const char *line, *said;
  } rows[] = {
    { "vm", "run, create" },
    { "vm strat", "'vm start'" },
    { "imgae list", "'image'" },
    { "xyzzy", "'xyzzy'" },
    { "''", "''" },
    { "'vm run'", "'vm run'" },
    { "--rm vm run", "--rm" },
    { "vm list --jsn", "'--json'" },
    { "vm list --json=yes", "yes" },
    { "vm list extra", "'extra'" },
    { "vm list -j", "'-j'" },
    { "vm list -- extra", "'extra'" },
    { "vm create", "NAME" },
    { "vm create a b", "'b'" },
    { "vm create a --memory", "--memory SIZE" },
    { "vm create a --memory -- b", "--memory SIZE" },
    { "vm create a --memory=", "" },
    { "vm create a --image=", "IMAGE" },
    { "vm create a --image b --image c", "twice" },
    { "vm create a --vcpu -1", "-1" },
    { "vm create a --vcpu 4294967296", "4294967296" },
    { "vm create a --vcpu 0", "--vcpu: number '0' is not allowed: a plain number from 1 to 32 is needed" },
    { "vm create a --vcpu 33", "from 1 to 32" },
    { "vm create a --memory 99T", "--memory: '99T' is not from 128 MiB to 1 TiB" },
    { "vm create a --memory 127M", "'127M'" },
    { "vm run --disk-size 17T", "--disk-size: '17T' is not from 16 MiB to 16 TiB" },
    { "image import a b --size 7M", "--size: '7M' is not from 8 MiB to 1 TiB" },
    { "image build a --size 2T", "--size: '2T' is not from 8 MiB to 1 TiB" },
    { "vm create a --memory 1.5X", "1.5X" },
    { "vm run a b", "behind --" },
    { "vm run --", "behind --" },
    { "vm exec a", "behind --" },
    { "vm exec a --", "behind --" },
    { "vm workspace", "'vm workspace' needs a command: export, diff, prepare, status" },
    { "vm workspace exprot web", "'vm workspace export'" },
    { "vm workspace export web -o", "FILE" },
    { "vm workspace export web -oa --output b", "twice" },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GError) error = NULL;
    g_test_message ("%s", rows[i].line);
    g_assert_null (parse (rows[i].line, &error));
    g_assert_error (error, BANGER_USAGE_ERROR, 0);
    g_assert_nonnull (strstr (error->message, rows[i].said));
  }
}

static void
test_values (void)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (BangerInvocation) run = parse (
      "vm run --rm --memory=1.5G -qd repo --vcpu 4 --name web -- ls --rm '' -q -- x", &error);
  g_assert_no_error (error);
  g_assert_true (banger_invocation_flag (run, "rm"));
  g_assert_true (banger_invocation_flag (run, "quiet"));
  g_assert_true (banger_invocation_flag (run, "detach"));
  g_assert_false (banger_invocation_flag (run, "no-nat"));
  g_assert_cmpuint (banger_invocation_number (run, "memory"), ==, G_GUINT64_CONSTANT (1610612736));
  g_assert_cmpuint (banger_invocation_number (run, "vcpu"), ==, 4);
  g_assert_cmpuint (banger_invocation_number (run, "disk-size"), ==, 0);
  g_assert_cmpstr (banger_invocation_string (run, "name"), ==, "web");
  g_assert_null (banger_invocation_string (run, "image"));
  g_assert_cmpstr (banger_invocation_argument (run, 0), ==, "repo");
  g_assert_null (banger_invocation_argument (run, 1));
  g_autofree char *tail = g_strjoinv ("|", run->tail);
  g_assert_cmpstr (tail, ==, "ls|--rm||-q|--|x");

  g_autoptr (BangerInvocation) patch = parse ("vm workspace export web -qo a/b", &error);
  g_assert_no_error (error);
  g_assert_true (banger_invocation_flag (patch, "quiet"));
  g_assert_cmpstr (banger_invocation_string (patch, "output"), ==, "a/b");
  g_autoptr (BangerInvocation) together = parse ("vm workspace export -oa web", &error);
  g_assert_no_error (error);
  g_assert_cmpstr (banger_invocation_string (together, "output"), ==, "a");
  g_assert_cmpstr (banger_invocation_argument (together, 0), ==, "web");

  g_autoptr (BangerInvocation) build = parse ("image build x --package a --package=b", &error);
  g_assert_no_error (error);
  g_assert_cmpuint (g_strv_length ((char **)banger_invocation_strv (build, "package")), ==, 2);
  g_autoptr (BangerInvocation) import = parse ("image import x -", &error);
  g_assert_no_error (error);
  g_assert_cmpstr (banger_invocation_argument (import, 1), ==, "-");
}

static void
test_help (void)
{
  static const char *const lines[] = { "", "--help", "vm -h", "vm run --help", "vm exec -h", "vm create -qh" };
  for (gsize i = 0; i < G_N_ELEMENTS (lines); i++) {
    g_autoptr (GError) error = NULL;
    g_autoptr (BangerInvocation) invocation = parse (lines[i], &error);
    g_assert_no_error (error);
    g_assert_true (invocation->help);
  }
  g_autoptr (BangerInvocation) tail = parse ("vm run -- --help", NULL);
  g_assert_false (tail->help);
}

static void
test_suggest (void)
{
  static const char *const words[] = { "start", "stop", "restart", "list", NULL };
  g_assert_cmpstr (banger_suggest ("strat", words), ==, "start");
  g_assert_cmpstr (banger_suggest ("lst", words), ==, "list");
  g_assert_null (banger_suggest ("frobnicate", words));
  g_assert_null (banger_suggest ("", words));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/cli/parse/table", test_table);
  g_test_add_func ("/cli/parse/examples", test_examples);
  g_test_add_func ("/cli/parse/refused", test_refused);
  g_test_add_func ("/cli/parse/values", test_values);
  g_test_add_func ("/cli/parse/help", test_help);
  g_test_add_func ("/cli/parse/suggest", test_suggest);
  return g_test_run ();
}

/* Help, man pages, tables, progress lines and JSON as people and programs get them.
 * Run by meson; BANGER_MAN_GROUPS are the pages that the build makes.
 * Never needs a manager. */
#include <glib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/help.h"
#include "cli/objects.h"
#include "cli/progress.h"
#include "cli/table.h"

static void
check_width (const char *text)
{
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  for (char **line = lines; *line != NULL; line++) {
    g_test_message ("%s", *line);
    g_assert_false (g_str_has_suffix (*line, " "));
    if (!g_str_has_prefix (*line, "  banger ")) /* examples are not wrapped: they are copied */
      g_assert_cmpint (g_utf8_strlen (*line, -1), <, 80);
  }
}

static void
test_help (void)
{
  for (const BangerCommand *command = banger_command_table.commands; command->words != NULL; command++) {
    g_autofree char *text = banger_help_for_command (command);
    check_width (text);
    g_assert_nonnull (strstr (text, command->words));
    g_assert_nonnull (strstr (text, command->examples->line));
    for (const BangerCliOption *option = command->options; option != NULL && option->name != NULL; option++) {
      g_autofree char *name = g_strdup_printf ("--%s", option->name);
      g_assert_nonnull (strstr (text, name));
    }
  }
  g_autofree char *all = banger_help_for_group (&banger_command_table, NULL);
  check_width (all);
  for (const BangerCommand *command = banger_command_table.commands; command->words != NULL; command++)
    g_assert_nonnull (strstr (all, command->words));
}

/* As man.c writes text: hyphens escaped. */
static char *
in_roff (const char *text)
{
  g_auto (GStrv) parts = g_strsplit (text, "-", -1);
  return g_strjoinv ("\\-", parts);
}

static void
test_man (void)
{
  g_auto (GStrv) built = g_strsplit (g_getenv ("BANGER_MAN_GROUPS"), ",", -1);
  guint groups = 0;
  for (const BangerGroup *group = banger_command_table.groups; group->word != NULL; group++, groups++) {
    g_assert_true (g_strv_contains ((const char *const *)built, group->word[0] != '\0' ? group->word : "banger"));
    g_autofree char *page = banger_man_page (&banger_command_table, group);
    for (const BangerCommand *command = banger_command_table.commands; command->words != NULL; command++) {
      if (!banger_command_in_group (command, group))
        continue;
      g_autofree char *words = in_roff (command->words), *title = g_strdup_printf (".SS banger %s", words);
      g_assert_nonnull (strstr (page, title));
      for (const BangerCliOption *option = command->options; option != NULL && option->name != NULL; option++) {
        g_autofree char *name = g_strdup_printf ("--%s", option->name);
        g_autofree char *roff = in_roff (name);
        g_assert_nonnull (strstr (page, roff));
      }
    }
  }
  g_assert_cmpuint (groups, ==, g_strv_length (built));
}

static void
test_table (void)
{
  g_autoptr (BangerTable) table = banger_table_new (3);
  banger_table_add (table, (const char *const[]){ "NAME", "SIZE", "NOTE" });
  banger_table_add (table, (const char *const[]){ "longer", "", NULL });
  banger_table_add (table, (const char *const[]){ "\xc3\xa4\xe6\xbc\xa2", "1", "a\033[31m\nb" });
  g_autofree char *text = banger_table_format (table);
  g_assert_cmpstr (text, ==,
                   "NAME    SIZE  NOTE\n"
                   "longer  -     -\n"
                   "\xc3\xa4\xe6\xbc\xa2     1     a?[31m?b\n");
}

static void
test_progress (void)
{
  static const struct {
    double fraction;
    gint64 elapsed;
    guint width;
    const char *line;
  } rows[] = {
    { -1, -1, 80, "web: copying root disk" },
    { 0.429, -1, 80, "web: copying root disk  42%" },
    { 1.7, 3250000, 80, "web: copying root disk 100% 3.2 s" },
    { 0.5, 1000000, 27, "web: copying ...  50% 1.0 s" },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autofree char *line = banger_progress_format ("web", "copying root disk", rows[i].fraction, rows[i].elapsed,
                                                    rows[i].width);
    g_assert_cmpstr (line, ==, rows[i].line);
  }
}

static void
test_json (void)
{
  g_autoptr (JsonObject) raw = json_object_new ();
  json_object_set_string_member (raw, "Name", "a \"quoted\"\nname");
  json_object_set_int_member (raw, "DiskBytes", 8589934592);
  json_object_set_int_member (raw, "CreatedAt", 1700000000000000);
  json_object_set_int_member (raw, "StartedAt", 0);
  json_object_set_string_member (raw, "BootId", "");
  json_object_set_boolean_member (raw, "Nat", TRUE);
  g_autoptr (JsonNode) node = banger_objects_to_json (&banger_kind_vm, raw);
  g_autofree char *text = json_to_string (node, FALSE);
  g_autoptr (JsonNode) parsed = json_from_string (text, NULL);
  g_assert_nonnull (parsed);
  JsonObject *object = json_node_get_object (parsed);
  g_assert_cmpstr (json_object_get_string_member (object, "name"), ==, "a \"quoted\"\nname");
  g_assert_cmpint (json_object_get_int_member (object, "disk_bytes"), ==, 8589934592);
  g_assert_cmpstr (json_object_get_string_member (object, "created_at"), ==, "2023-11-14T22:13:20Z");
  g_assert_true (json_object_get_null_member (object, "started_at"));
  g_assert_true (json_object_get_null_member (object, "boot_id"));
  g_assert_true (json_object_get_null_member (object, "address"));
  g_assert_true (json_object_get_boolean_member (object, "nat"));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/cli/text/help", test_help);
  g_test_add_func ("/cli/text/man", test_man);
  g_test_add_func ("/cli/text/table", test_table);
  g_test_add_func ("/cli/text/progress", test_progress);
  g_test_add_func ("/cli/text/json", test_json);
  return g_test_run ();
}

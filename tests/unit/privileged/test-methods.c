/* One truth in five places: the table of methods, introspection/, docs/privileges.md, the polkit policy, the unit.
 * Run by meson test with $BANGER_SOURCE.
 * Never accepts a row that one of them does not know. */
#include <gio/gio.h>
#include <string.h>

#include "common/names.h"
#include "privileged/call.h"

static char *
read_source (const char *name)
{
  g_autofree char *path = g_build_filename (g_getenv ("BANGER_SOURCE"), name, NULL);
  char *text = NULL;
  g_autoptr (GError) error = NULL;
  g_file_get_contents (path, &text, NULL, &error);
  g_assert_no_error (error);
  return text;
}

static void
compare_args (GDBusArgInfo **args, const char *names, const char *signature)
{
  g_autoptr (GString) types = g_string_new (NULL);
  for (; *args; args++) {
    g_assert_cmpstr ((*args)->name, ==, names);
    names += strlen (names) + 1;
    g_string_append (types, (*args)->signature);
  }
  g_assert_cmpstr (names, ==, "");
  g_assert_cmpstr (types->str, ==, signature);
}

static char *
input_names (const BangerMethod *method)
{
  GString *names = g_string_new (NULL);
  for (int i = 0; i < BANGER_MAX_ARGS && method->args[i] != BANGER_ARG_NONE; i++)
    g_string_append_len (names, banger_arg_name (method->args[i]),
                         (gssize)strlen (banger_arg_name (method->args[i])) + 1);
  g_string_append_len (names, "options\0", 8);
  return g_string_free (names, FALSE);
}

static void
test_introspection (void)
{
  g_autofree char *text = read_source ("introspection/org.banger.Privileged.xml");
  g_autoptr (GDBusNodeInfo) node = g_dbus_node_info_new_for_xml (text, NULL);
  GDBusInterfaceInfo *interface = g_dbus_node_info_lookup_interface (node, BANGER_PRIVILEGED_INTERFACE);
  size_t promised = 0, served = 0;
  while (interface->methods[promised])
    promised++;
  for (const BangerMethod *method = banger_methods; method->name; method++, served++) {
    GDBusMethodInfo *info = g_dbus_interface_info_lookup_method (interface, method->name);
    if (!info)
      g_error ("%s is not in the contract", method->name);
    g_autofree char *names = input_names (method), *signature = banger_method_signature (method);
    compare_args (info->in_args, names, signature);
    compare_args (info->out_args, banger_result_names (method->result), banger_result_type (method->result));
  }
  g_assert_cmpuint (served, ==, promised);
}

static void
test_rows (void)
{
  g_autofree char *policy = read_source ("polkit/org.banger.privileged.policy");
  g_autofree char *rules = read_source ("polkit/50-banger.rules.in");
  for (const BangerMethod *method = banger_methods; method->name; method++) {
    g_assert_nonnull (method->action);
    g_assert_true (!method->also || !g_str_equal (method->also, method->action));
    g_assert_nonnull (method->handler);
    g_assert_true ((method->interlude != NULL) == (method->finish != NULL));
    const char *const actions[] = { method->action, method->also, NULL };
    for (const char *const *action = actions; *action; action++) {
      g_autofree char *declared = g_strdup_printf ("<action id=\"%s\">", *action);
      g_autofree char *granted = g_strdup_printf ("\"%s\"", *action);
      g_assert_nonnull (strstr (policy, declared));
      g_assert_nonnull (strstr (rules, granted));
    }
  }
}

/* Rows of the table of methods: "| `Name` | `action` | gates |"; a second action follows the first. */
static void
test_docs (void)
{
  g_autofree char *text = read_source ("docs/privileges.md");
  g_autoptr (GRegex) row = g_regex_new ("^\\| `(\\w+)` \\| `(org\\.banger\\.privileged\\.\\w+)`"
                                        "(?:, `(org\\.banger\\.privileged\\.\\w+)`)? \\|",
                                        G_REGEX_MULTILINE, 0, NULL);
  g_autoptr (GMatchInfo) match = NULL;
  const BangerMethod *method = banger_methods;
  for (g_regex_match (row, text, 0, &match); g_match_info_matches (match); g_match_info_next (match, NULL), method++) {
    g_autofree char *name = g_match_info_fetch (match, 1), *action = g_match_info_fetch (match, 2);
    g_assert_cmpstr (name, ==, method->name);
    g_autofree char *also = g_match_info_fetch (match, 3);
    g_assert_cmpstr (action, ==, method->action);
    g_assert_cmpstr (also && *also ? also : NULL, ==, method->also);
  }
  g_assert_null (method->name);
}

static void
test_capabilities (void)
{
  g_autofree char *unit = read_source ("systemd/bangerd-root.service.in"), *docs = read_source ("docs/privileges.md");
  g_autofree char *list = g_strjoinv (" ", (char **)banger_root_capabilities ());
  g_autofree char *line = g_strdup_printf ("\nCapabilityBoundingSet=%s\n", list);
  g_assert_nonnull (strstr (unit, line));
  g_autoptr (GRegex) word = g_regex_new ("`(CAP_[A-Z_]+)`", 0, 0, NULL);
  g_autoptr (GMatchInfo) match = NULL;
  const char *const *name = banger_root_capabilities ();
  for (g_regex_match (word, docs, 0, &match); g_match_info_matches (match); g_match_info_next (match, NULL)) {
    g_autofree char *documented = g_match_info_fetch (match, 1);
    g_assert_cmpstr (documented, ==, *name++);
  }
  g_assert_null (*name);
  g_assert_null (banger_root_capabilities ()[11]);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/methods/introspection", test_introspection);
  g_test_add_func ("/methods/rows", test_rows);
  g_test_add_func ("/methods/docs", test_docs);
  g_test_add_func ("/methods/capabilities", test_capabilities);
  return g_test_run ();
}

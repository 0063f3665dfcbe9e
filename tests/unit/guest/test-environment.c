/* Lines of /etc/environment, also those that are none. */
#include <glib.h>

#include "guest/environment.h"

static const struct {
  const char *line, *pair; /* @pair: NULL: none */
} lines[] = {
  { "A=b", "A=b" },
  { "PATH=\"/usr/bin:/bin\"", "PATH=/usr/bin:/bin" },
  { "  export LANG='de_DE.UTF-8'  # German", "LANG=de_DE.UTF-8" },
  { "A=b c \t", "A=b c" },
  { "A=b\r", "A=b" },
  { "A=", "A=" },
  { "A=\"\"", "A=" },
  { "A=\"", "A=" },
  { "A=\"b", "A=b" },
  { "A='b\"'", "A=b\"" },
  { "A=$HOME/x", "A=$HOME/x" },
  { "_a1=b=c", "_a1=b=c" },
  { "A=\xff", "A=\xff" },
  { "", NULL },
  { "#A=b", NULL },
  { " # A=b", NULL },
  { "A", NULL },
  { "=b", NULL },
  { "1A=b", NULL },
  { "A B=c", NULL },
  { "A =b", NULL },
  { "A-B=c", NULL },
  { "A\"=c", NULL },
  { "export", NULL },
  { "export =b", NULL },
  { "A#=b", NULL },
};

static void
test_lines (void)
{
  for (gsize i = 0; i < G_N_ELEMENTS (lines); i++) {
    g_autofree char *text = g_strdup (lines[i].line);
    char *rest = text;
    g_test_message ("line %" G_GSIZE_FORMAT, i);
    g_assert_cmpstr (guest_environment_next (&rest), ==, lines[i].pair);
    g_assert_null (rest ? guest_environment_next (&rest) : NULL);
  }
}

static void
test_file (void)
{
  g_autoptr (GString) text = g_string_new (NULL);
  for (gsize i = 0; i < G_N_ELEMENTS (lines); i++)
    g_string_append_printf (text, "%s\n", lines[i].line);
  char *rest = text->str;
  for (gsize i = 0; i < G_N_ELEMENTS (lines); i++)
    if (lines[i].pair)
      g_assert_cmpstr (guest_environment_next (&rest), ==, lines[i].pair);
  g_assert_null (guest_environment_next (&rest));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/guest/environment/lines", test_lines);
  g_test_add_func ("/guest/environment/file", test_file);
  return g_test_run ();
}

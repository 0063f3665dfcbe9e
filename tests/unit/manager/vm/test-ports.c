/* What a guest says of its listeners.
 * Run by meson test. */
#include "manager/vm/ports.h"

#include <string.h>

#include "common/error.h"

static char *
parse (const char *text, GError **error)
{
  g_autoptr (GPtrArray) ports = banger_ports_parse (text, strlen (text), error);
  g_autoptr (GString) all = g_string_new (NULL);
  for (guint i = 0; ports && i < ports->len; i++) {
    const BangerPort *port = ports->pdata[i];
    g_string_append_printf (all, "%s %s %u %u '%s';", port->protocol, port->address, port->port, port->pid,
                            port->process);
  }
  return ports ? g_string_free (g_steal_pointer (&all), FALSE) : NULL;
}

static void
test_lines (void)
{
  static const struct {
    const char *text, *wanted; /* NULL: refused */
  } rows[] = {
    { "", "" },
    { "udp 0.0.0.0 68 1 dhclient\ntcp 0.0.0.0 22 417 sshd\n",
      "tcp 0.0.0.0 22 417 'sshd';udp 0.0.0.0 68 1 'dhclient';" },
    { "tcp :: 80 5 a\ntcp 0.0.0.0 80 5 a\ntcp :: 80 6 b\n", "tcp 0.0.0.0 80 5 'a';tcp :: 80 5 'a';" },
    { "tcp 0:0:0:0:0:0:0:1 80 0 %00\n", "tcp ::1 80 0 '';" },
    { "tcp ::1 80 9 %1B%5B2J%0Aweb%20server\n", "tcp ::1 80 9 '\\x1b[2J\\x0aweb server';" },
    { "tcp ::1 80 9 %FF%C3\n", "tcp ::1 80 9 '\\xff\\xc3';" },
    { "tcp 0.0.0.0 22 417 sshd", NULL },        /* no end */
    { "tcp 0.0.0.0 22 417 sshd more\n", NULL }, /* a word too many */
    { "tcp 0.0.0.0 22 417\n", NULL },
    { "tcp 0.0.0.0 0 417 a\n", NULL },
    { "tcp 0.0.0.0 65536 417 a\n", NULL },
    { "tcp 0.0.0.0 -1 417 a\n", NULL },
    { "tcp 0.0.0.0 22 4294967296 a\n", NULL },
    { "tcp 0.0.0 22 1 a\n", NULL },
    { "tcp ../../etc 22 1 a\n", NULL },
    { "icmp 0.0.0.0 22 1 a\n", NULL },
    { "tcp 0.0.0.0 22 1 a\x1b[2J\n", NULL }, /* not coded */
    { "tcp 0.0.0.0 22 1 %1b\n", NULL },
    { "\n", NULL },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GError) error = NULL;
    g_autofree char *seen = parse (rows[i].text, &error);
    g_assert_cmpstr (seen, ==, rows[i].wanted);
    g_assert_true (rows[i].wanted || g_error_matches (error, BANGER_ERROR, BANGER_ERROR_GUEST_FAILED));
  }
}

/* However much it sends, what is made of it has an end. */
static void
test_bounds (void)
{
  g_autoptr (GString) text = g_string_new (NULL);
  for (guint port = 1; port <= 1024; port++)
    g_string_append_printf (text, "tcp 0.0.0.0 %u 1 a\n", port);
  g_autoptr (GError) error = NULL;
  g_autoptr (GPtrArray) ports = banger_ports_parse (text->str, text->len, &error);
  g_assert_cmpuint (ports->len, ==, 1024);
  g_string_append (text, "tcp 0.0.0.0 1 1 a\n");
  g_assert_null (banger_ports_parse (text->str, text->len, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_LIMITS_EXCEEDED);
  g_clear_error (&error);
  g_autofree char *name = g_strnfill (4096, 'a'), *line = g_strdup_printf ("tcp 0.0.0.0 1 1 %s\n", name);
  g_assert_null (banger_ports_parse (line, strlen (line), &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_GUEST_FAILED);
  g_clear_error (&error);
  g_assert_null (banger_ports_parse ("tcp 0.0.0.0 1 1 a\0\n", 19, &error));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/manager/ports/lines", test_lines);
  g_test_add_func ("/manager/ports/bounds", test_bounds);
  return g_test_run ();
}

/* Options dictionaries: every type, unknown keys, wrong types, twice.
 * Run by meson test.
 * Never opens a bus to anybody: messages go through a sealed buffer of an unconnected one. */
#include <fcntl.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/bus-source.h"
#include "common/error.h"
#include "common/options.h"

typedef struct {
  char *name;
  gboolean wait;
  guint32 cpus;
  guint64 bytes;
  char **list;
  int fd;
} Values;

static const char *const words[] = { "slow", "fast", NULL };
static const BangerOption table[] = {
  { "name", BANGER_OPTION_STRING, offsetof (Values, name), words },
  { "wait", BANGER_OPTION_BOOL, offsetof (Values, wait), NULL },
  { "cpus", BANGER_OPTION_UINT32, offsetof (Values, cpus), NULL },
  { "bytes", BANGER_OPTION_UINT64, offsetof (Values, bytes), NULL },
  { "list", BANGER_OPTION_STRV, offsetof (Values, list), NULL },
  { "fd", BANGER_OPTION_FD, offsetof (Values, fd), NULL },
  { NULL },
};

static sd_bus_message *
new_message (sd_bus **ret_bus)
{
  /* A socketpair stands in for the peer: only the message's encoding matters. */
  sd_bus_message *m = NULL;
  int pair[2];
  g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
  g_assert_cmpint (sd_bus_new (ret_bus), >=, 0);
  g_assert_cmpint (sd_bus_set_fd (*ret_bus, pair[0], pair[0]), >=, 0);
  sd_bus_negotiate_fds (*ret_bus, 1);
  g_assert_cmpint (sd_bus_start (*ret_bus), >=, 0);
  g_assert_cmpint (sd_bus_message_new_method_call (*ret_bus, &m, "a.b", "/", "a.b", "C"), >=, 0);
  close (pair[1]);
  return m;
}

static gboolean
read_back (sd_bus_message *m, Values *values, GError **error)
{
  g_assert_cmpint (sd_bus_message_seal (m, 1, 0), >=, 0);
  g_assert_cmpint (sd_bus_message_rewind (m, 1), >=, 0);
  return banger_options_read (m, table, values, error);
}

static void
test_all (void)
{
  sd_bus *bus = NULL;
  g_autoptr (sd_bus_message) m = new_message (&bus);
  Values values = { .fd = -1 };
  g_autoptr (GError) error = NULL;
  g_assert_cmpint (sd_bus_message_append (m, "a{sv}", 5, "name", "s", "fast", "wait", "b", 1, "cpus", "x", (gint64)4,
                                          "bytes", "y", 7, "list", "as", 2, "a", "b"),
                   >=, 0);
  g_assert_true (read_back (m, &values, &error));
  g_assert_no_error (error);
  g_assert_cmpstr (values.name, ==, "fast");
  g_assert_true (values.wait);
  g_assert_cmpuint (values.cpus, ==, 4);
  g_assert_cmpuint (values.bytes, ==, 7);
  g_assert_cmpstrv (values.list, ((const char *const[]){ "a", "b", NULL }));
  banger_options_clear (table, &values);
  g_assert_null (values.name);
  sd_bus_close_unref (bus);
}

static void
expect_refusal (const char *part, const char *types, ...)
{
  sd_bus *bus = NULL;
  g_autoptr (sd_bus_message) m = new_message (&bus);
  Values values = { .fd = -1 };
  g_autoptr (GError) error = NULL;
  va_list args;
  va_start (args, types);
  g_assert_cmpint (sd_bus_message_appendv (m, types, args), >=, 0);
  va_end (args);
  g_assert_false (read_back (m, &values, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_ARGS);
  g_assert_nonnull (g_strstr_len (error->message, -1, part));
  banger_options_clear (table, &values);
  sd_bus_close_unref (bus);
}

static void
test_refuse (void)
{
  expect_refusal ("'shoe' is not known here; known: name, wait", "a{sv}", 1, "shoe", "s", "x");
  expect_refusal ("'name' must be a string (s), not of type 'u'", "a{sv}", 1, "name", "u", 1);
  expect_refusal ("choose one of slow, fast", "a{sv}", 1, "name", "s", "medium");
  expect_refusal ("'wait' must be a boolean", "a{sv}", 1, "wait", "s", "yes");
  expect_refusal ("'cpus' must be a number", "a{sv}", 1, "cpus", "d", 1.0);
  expect_refusal ("'cpus' must be from 0 to 4294967295", "a{sv}", 1, "cpus", "t", G_GUINT64_CONSTANT (4294967296));
  expect_refusal ("'bytes' must be from 0", "a{sv}", 1, "bytes", "i", -1);
  expect_refusal ("'list' must be a list of strings (as)", "a{sv}", 1, "list", "s", "x");
  expect_refusal ("'wait' is given twice", "a{sv}", 2, "wait", "b", 1, "wait", "b", 0);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/options/all", test_all);
  g_test_add_func ("/options/refuse", test_refuse);
  return g_test_run ();
}

/* The error table: both ways, op ids in messages.
 * Run by meson test.
 * Never needs a bus. */
#include <errno.h>
#include <gio/gio.h>

#include "common/bus-source.h"
#include "common/error.h"
#include "common/op-id.h"

static void
test_table (void)
{
  for (int code = 0; code < BANGER_N_ERRORS; code++) {
    const char *name = banger_error_dbus_name ((BangerError)code);
    g_assert_nonnull (name);
    g_assert_cmpint (banger_error_from_dbus_name (name), ==, code);
    int status = banger_error_exit_status ((BangerError)code);
    g_assert_cmpint (status, >, 0);
    g_assert_cmpint (status, <, 124);
  }
  g_assert_cmpint (banger_error_from_dbus_name ("org.example.Other"), ==, BANGER_ERROR_FAILED);
  g_assert_cmpint (banger_error_from_dbus_name (NULL), ==, BANGER_ERROR_FAILED);
}

static void
test_op_id (void)
{
  g_autofree char *a = banger_op_id_new (), *b = banger_op_id_new ();
  g_assert_true (banger_op_id_valid (a));
  g_assert_cmpstr (a, !=, b);
  g_assert_true (banger_op_id_valid ("op-012abc"));
  const char *bad[] = {
    "", "op-", "op-12345", "op-12345G", "OP-123456", "op-123456 ", "op-123456789012345678901234567890123"
  };
  for (size_t i = 0; i < G_N_ELEMENTS (bad); i++)
    g_assert_false (banger_op_id_valid (bad[i]));
  g_assert_false (banger_op_id_valid (NULL));
}

static void
test_to_bus (void)
{
  g_auto (sd_bus_error) e = SD_BUS_ERROR_NULL, again = SD_BUS_ERROR_NULL;
  g_autoptr (GError) error = NULL, back = NULL;
  banger_set_error (&error, BANGER_ERROR_NO_SUCH_VM, "there is no VM '%s'", "web");
  g_assert_cmpint (banger_error_to_bus (error, "op-123456", &e), <, 0);
  g_assert_cmpstr (e.name, ==, "org.banger.Error.NoSuchVM");
  g_assert_cmpstr (e.message, ==, "there is no VM 'web' (op-123456)");
  g_assert_false (banger_error_from_bus (&back, &e, -1, "cannot start web"));
  g_assert_error (back, BANGER_ERROR, BANGER_ERROR_NO_SUCH_VM);
  /* The first op id stays the only one. */
  banger_error_to_bus (back, "op-abcdef", &again);
  g_assert_cmpstr (again.message, ==, "cannot start web: there is no VM 'web' (op-123456)");
  g_autofree char *plain = banger_error_strip_op_id (again.message);
  g_assert_cmpstr (plain, ==, "cannot start web: there is no VM 'web'");
  /* A file's name in it: bytes that are not UTF-8 would keep sd-bus from sending the reply. */
  g_auto (sd_bus_error) bytes = SD_BUS_ERROR_NULL;
  g_autoptr (GError) named = NULL;
  banger_set_error (&named, BANGER_ERROR_FAILED, "cannot read 'r\xe9sum\xe9'");
  banger_error_to_bus (named, "op-123456", &bytes);
  g_assert_cmpstr (bytes.message, ==, "cannot read 'r\xef\xbf\xbdsum\xef\xbf\xbd' (op-123456)");
  g_autofree char *kept = banger_error_strip_op_id ("a tail (not an id)");
  g_assert_cmpstr (kept, ==, "a tail (not an id)");
}

static void
test_errno (void)
{
  g_autoptr (GError) full = NULL, other = NULL, cancelled = NULL;
  g_auto (sd_bus_error) e = SD_BUS_ERROR_NULL;
  banger_set_error_errno (&full, BANGER_ERROR_FAILED, ENOSPC, "cannot write");
  g_assert_error (full, BANGER_ERROR, BANGER_ERROR_NO_SPACE);
  banger_set_error_errno (&other, BANGER_ERROR_FAILED, EPERM, "tap %s", "tap-fc-1");
  g_assert_cmpstr (other->message, ==, "tap tap-fc-1: Operation not permitted");
  g_set_error_literal (&cancelled, G_IO_ERROR, G_IO_ERROR_CANCELLED, "stopped");
  banger_error_to_bus (cancelled, NULL, &e);
  g_assert_cmpstr (e.name, ==, "org.banger.Error.Cancelled");
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/error/table", test_table);
  g_test_add_func ("/error/op-id", test_op_id);
  g_test_add_func ("/error/to-bus", test_to_bus);
  g_test_add_func ("/error/errno", test_errno);
  return g_test_run ();
}

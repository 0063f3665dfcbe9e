/* The manager's tables: words and codes both ways, a handler for every method, networks that overlap.
 * Run by meson test.
 * Never touches a bus. */
#include <string.h>

#include <unistd.h>

#include "manager/doctor.h"
#include "manager/bus/manager-dbus.h"
#include "manager/vm/vm.h"

/* Of a signature without structures: "sa{sv}" are two. */
static guint
count_types (const char *signature)
{
  guint n = 0, depth = 0;
  for (const char *c = signature; *c != '\0'; c++) {
    n += *c != 'a' && depth == 0;
    depth += *c == '{' || *c == '(';
    depth -= *c == '}' || *c == ')';
  }
  return n;
}

/* Every method and signal has a name for each argument and each result. */
static void
test_members (void)
{
  guint methods = 0;
  for (const BangerInterface *interface = banger_manager_interfaces (); interface->name != NULL; interface++)
    for (const BangerMember *row = interface->members; row->member != NULL; row++) {
      guint names = 0;
      for (const char *name = row->names; *name != '\0'; name += strlen (name) + 1)
        names++;
      g_test_message ("%s.%s", interface->name, row->member);
      g_assert_cmpuint (names, ==, count_types (row->arguments) + count_types (row->results));
      methods += row->handler != NULL;
    }
  g_assert_cmpuint (methods, >=, 26);
}

static void
test_overlaps (void)
{
  const guint32 a = 0x0ad50001; /* 10.213.0.1 */
  g_assert_true (banger_doctor_overlaps (a, 24, 0x0ad500ff, 32));
  g_assert_true (banger_doctor_overlaps (a, 24, 0x0a000000, 8));
  g_assert_true (banger_doctor_overlaps (a, 24, 0, 0));
  g_assert_false (banger_doctor_overlaps (a, 24, 0x0ad50101, 24));
  g_assert_false (banger_doctor_overlaps (a, 32, 0x0ad50002, 32));
}

/* As in /proc/misc: a part of a word is none. */
static void
test_has_word (void)
{
  g_autofree char *path = g_build_filename (g_get_tmp_dir (), "banger-misc-XXXXXX", NULL);
  int fd = g_mkstemp (path);
  g_assert_cmpint (fd, >=, 0);
  close (fd);
  g_assert_true (g_file_set_contents (path, "236 device-mapper\n  1 psaux\n 59 userfaultfd-like\n", -1, NULL));
  g_assert_true (banger_doctor_has_word (path, "device-mapper"));
  g_assert_true (banger_doctor_has_word (path, "psaux"));
  g_assert_false (banger_doctor_has_word (path, "userfaultfd"));
  g_assert_false (banger_doctor_has_word (path, "fuse"));
  unlink (path);
  g_assert_false (banger_doctor_has_word (path, "psaux"));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/tables/members", test_members);
  g_test_add_func ("/tables/overlaps", test_overlaps);
  g_test_add_func ("/manager/doctor/has-word", test_has_word);
  return g_test_run ();
}

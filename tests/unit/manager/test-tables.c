/* The manager's tables: words and codes both ways, a handler for every method, networks that overlap.
 * Run by meson test.
 * Never touches a bus. */
#include <string.h>

#include "manager/doctor.h"
#include "manager/manager-dbus.h"
#include "manager/vm.h"

#define BOTH_WAYS(type, n, to_string, from_string)                                                                     \
  do {                                                                                                                 \
    for (int i = 0; i < (int)(n); i++)                                                                                 \
      g_assert_cmpint (from_string (to_string ((type)i)), ==, i);                                                      \
    g_assert_cmpint (from_string ("nope"), ==, -1);                                                                    \
    g_assert_cmpint (from_string (NULL), ==, -1);                                                                      \
  } while (0)

static void
test_words (void)
{
  BOTH_WAYS (BangerDoctorStatus, BANGER_N_DOCTOR_STATUSES, banger_doctor_status_to_string,
             banger_doctor_status_from_string);
}

static const sd_bus_vtable *
find_method (const BangerInterface *interface, const char *member)
{
  for (const sd_bus_vtable *row = interface->vtable; row->type != _SD_BUS_VTABLE_END; row++)
    if (row->type == _SD_BUS_VTABLE_METHOD && g_str_equal (row->x.method.member, member))
      return row;
  return NULL;
}

static gboolean
has_handler (const BangerInterface *interface, const char *member)
{
  for (const BangerMember *row = interface->members; row->member != NULL; row++)
    if (g_str_equal (row->member, member))
      return row->handler != NULL;
  return FALSE;
}

static void
test_members (void)
{
  guint methods = 0;
  for (const BangerInterface *interface = banger_manager_interfaces (); interface->name != NULL; interface++) {
    for (const sd_bus_vtable *row = interface->vtable; row->type != _SD_BUS_VTABLE_END; row++) {
      if (row->type != _SD_BUS_VTABLE_METHOD)
        continue;
      methods++;
      g_test_message ("%s.%s", interface->name, row->x.method.member);
      g_assert_true (row->x.method.handler == banger_dispatch_call);
      g_assert_true (has_handler (interface, row->x.method.member));
    }
    for (const BangerMember *row = interface->members; row->member != NULL; row++)
      g_assert_nonnull (find_method (interface, row->member));
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

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/tables/words", test_words);
  g_test_add_func ("/tables/members", test_members);
  g_test_add_func ("/tables/overlaps", test_overlaps);
  return g_test_run ();
}

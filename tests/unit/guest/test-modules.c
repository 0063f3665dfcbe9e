/* Lines of /modules/order.
 * Run by meson test.
 * Never loads a module. */
#include <glib.h>

#include "guest/modules.h"

static void
test_good (void)
{
  char plain[] = "virtio_ring.ko", one[] = "virtio_blk.ko virtio:2", two[] = "failover.ko virtio:1,19";
  GuestModule module;
  g_assert_cmpint (guest_module_parse (plain, &module), ==, 0);
  g_assert_cmpstr (module.file, ==, "virtio_ring.ko");
  g_assert_cmpuint (module.virtio[0], ==, 0);
  g_assert_cmpint (guest_module_parse (one, &module), ==, 0);
  g_assert_cmpstr (module.file, ==, "virtio_blk.ko");
  g_assert_cmpuint (module.virtio[0], ==, 2);
  g_assert_cmpuint (module.virtio[1], ==, 0);
  g_assert_cmpint (guest_module_parse (two, &module), ==, 0);
  g_assert_cmpuint (module.virtio[1], ==, 19);
  g_assert_cmpuint (module.virtio[2], ==, 0);
}

static void
test_bad (void)
{
  static const char *const rows[] = {
    "",
    " virtio:2",
    "../a.ko",
    ".hidden.ko",
    "a/b.ko",
    "a.ko pci:2",
    "a.ko virtio:",
    "a.ko virtio:x",
    "a.ko virtio:0",
    "a.ko virtio:1,",
    "a.ko virtio:1,2,3,4,5,6,7,8,9",
    "a.ko virtio:1 b",
    "a.ko ",
    "a.ko virtio:99999999999",
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    GuestModule module = { .file = "untouched" };
    g_autofree char *line = g_strdup (rows[i]);
    if (guest_module_parse (line, &module) == 0)
      g_error ("'%s' was taken", rows[i]);
    g_assert_cmpstr (module.file, ==, "untouched");
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/guest/modules/good", test_good);
  g_test_add_func ("/guest/modules/bad", test_bad);
  return g_test_run ();
}

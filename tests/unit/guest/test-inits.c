/* Which init a path is, and whether process 1 hears what it would be told.
 * Run by meson test.
 * Never signals anybody. */
#include <glib.h>
#include <signal.h>

#include "guest/inits.h"

static void
test_kinds (void)
{
  static const struct {
    const char *real, *word;
  } rows[] = {
    { "/usr/lib/systemd/systemd", "systemd" },
    { "/lib/systemd/systemd", "systemd" },
    { "/nix/store/abc-systemd-254/lib/systemd/systemd", "systemd" },
    { "/bin/busybox", "busybox" },
    { "/usr/bin/busybox", "busybox" },
    { "/sbin/openrc-init", "openrc" },
    { "/usr/bin/runit-init", "runit" },
    { "/sbin/runit", "runit" },
    { "/etc/s6-linux-init/current/bin/init", "s6" },
    { "/usr/bin/s6-svscan", "s6" },
    { "/usr/sbin/dinit", "dinit" },
    { "/run/banger/guest", "banger" },
    { "/sbin/init", "other" }, /* of sysvinit */
    { "/opt/systemd-like", "other" },
    { "/", "other" },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    const GuestInitKind *kind = guest_init_kind (rows[i].real);
    g_assert_cmpstr (kind->word, ==, rows[i].word);
    g_assert_true (guest_init_kind_of_word (rows[i].word) == kind);
  }
  g_assert_cmpstr (guest_init_kind_of_word ("of a newer banger")->word, ==, "other");
}

static void
test_hears (void)
{
  static const char status[] = "Name:\tinit\nSigQ:\t0/1\nSigPnd:\tffffffffffffffff\nShdPnd:\tffffffffffffffff\n"
                               "SigBlk:\t0000000800000000\nSigIgn:\tffffffffffffffff\nSigCgt:\t0000000000000002\n";
  g_assert_true (guest_hears (status, SIGINT)); /* caught */
  g_assert_true (guest_hears (status, 36));     /* blocked, for a descriptor */
  g_assert_false (guest_hears (status, SIGHUP));
  g_assert_false (guest_hears (status, SIGTERM));
  g_assert_false (guest_hears ("", SIGINT));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/guest/inits/kinds", test_kinds);
  g_test_add_func ("/guest/inits/hears", test_hears);
  return g_test_run ();
}

/* The configuration that the manager gives a guest: what is read, what is refused.
 * Run by meson test.
 * Never needs a guest. */
#include <arpa/inet.h>
#include <glib.h>
#include <string.h>

#include "guest/settings.h"

static const char whole[] = "hostname=web\naddress=10.213.0.5/24\ngateway=10.213.0.1\ndns=10.213.0.1 fd00::1\n"
                            "mac=06:00:0a:bc:de:ff\nroot=/dev/vda\nwork=/dev/vdb\nmtu=1400\n"
                            "machine-id=0123456789abcdef0123456789abcdef\nboot-token=op_a-1\n";

static int
parse (const char *text, GuestSettings *settings, char *problem)
{
  g_autofree char *copy = g_strdup (text);
  return guest_settings_parse (copy, settings, problem, 128);
}

static void
test_whole (void)
{
  GuestSettings settings;
  char problem[128], address[INET_ADDRSTRLEN];
  g_assert_cmpint (parse (whole, &settings, problem), ==, 0);
  g_assert_cmpstr (settings.hostname, ==, "web");
  g_assert_cmpstr (inet_ntop (AF_INET, &settings.address, address, sizeof address), ==, "10.213.0.5");
  g_assert_cmpuint (settings.prefix, ==, 24);
  g_assert_cmpstr (inet_ntop (AF_INET, &settings.gateway, address, sizeof address), ==, "10.213.0.1");
  g_assert_cmpuint (settings.n_dns, ==, 2);
  g_assert_cmpstr (settings.dns[1], ==, "fd00::1");
  g_assert_cmpstr (settings.mac, ==, "06:00:0a:bc:de:ff");
  g_assert_cmpuint (settings.mtu, ==, 1400);
  g_assert_cmpstr (settings.root, ==, "/dev/vda");
  g_assert_cmpstr (settings.work, ==, "/dev/vdb");
  g_assert_cmpstr (settings.machine_id, ==, "0123456789abcdef0123456789abcdef");
  g_assert_cmpstr (settings.boot_token, ==, "op_a-1");
}

static void
test_unknown_keys_are_passed_over (void)
{
  GuestSettings settings;
  char problem[128];
  g_assert_cmpint (parse ("# made by banger\n\nhostname=a\nroot=/dev/vda\ncolour=red=blue\n", &settings, problem), ==,
                   0);
  g_assert_cmpstr (settings.work, ==, "");
  g_assert_cmpuint (settings.address.s_addr, ==, 0);
}

static void
test_refused (void)
{
  static const struct {
    const char *line, *problem;
  } rows[] = {
    { "hostname=", "bad hostname" },
    { "hostname=-web", "bad hostname" },
    { "hostname=Web", "bad hostname" },
    { "hostname=a.b", "bad hostname" },
    { "hostname=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "bad hostname" },
    { "address=10.213.0.5", "bad address" },
    { "address=10.213.0.5/7", "bad address" },
    { "address=10.213.0.5/33", "bad address" },
    { "address=10.213.0.5/24x", "bad address" },
    { "address=10.213.0/24", "bad address" },
    { "gateway=fd00::1", "bad gateway" },
    { "dns=10.213.0.1,10.213.0.2", "bad dns" },
    { "dns=1.1.1.1 1.1.1.2 1.1.1.3 1.1.1.4 1.1.1.5", "bad dns" },
    { "mac=06:00:0A:bc:de:ff", "bad mac" },
    { "mac=06-00-0a-bc-de-ff", "bad mac" },
    { "mac=06:00:0a:bc:de", "bad mac" },
    { "root=/dev/../etc", "bad root" },
    { "root=vda", "bad root" },
    { "root=/dev/", "bad root" },
    { "work=/dev/mapper/x", "bad work" },
    { "mtu=575", "bad mtu" },
    { "mtu=65536", "bad mtu" },
    { "mtu=-1", "bad mtu" },
    { "mtu=4294968696", "bad mtu" },
    { "machine-id=0123", "bad machine-id" },
    { "machine-id=0123456789ABCDEF0123456789abcdef", "bad machine-id" },
    { "boot-token=a b", "bad boot-token" },
    { "init=sbin/init", "bad init" },
    { "names=", "bad names" },
    { "names=10.213.0.5", "bad names" },
    { "names=db", "bad names" },
    { "names=10.213.0.5=", "bad names" },
    { "names=10.213.0.5=-db", "bad names" },
    { "names=10.213.0.5=DB", "bad names" },
    { "names=10.213.0.5=db.example", "bad names" },
    { "names=10.213.0.5=db localhost", "bad names" },
    { "names=10.213.0=db", "bad names" },
    { "names=::1=db", "bad names" },
    { "names=10.213.0.5=db,", "bad names" },
    { "names=,10.213.0.5=db", "bad names" },
    { "names=10.213.0.5=db,,10.213.0.6=web", "bad names" },
    { "names=10.213.0.5=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "bad names" },
    { "just words", "not key=value" },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    GuestSettings settings = { .mtu = 7 };
    char problem[128] = "";
    g_autofree char *text = g_strdup_printf ("%s%s\n", whole, rows[i].line);
    g_assert_cmpint (parse (text, &settings, problem), ==, -1);
    if (strstr (problem, rows[i].problem) == NULL)
      g_error ("'%s' gave '%s', not '%s'", rows[i].line, problem, rows[i].problem);
    g_assert_cmpuint (settings.mtu, ==, 7);
  }
}

static void
test_missing (void)
{
  GuestSettings settings;
  char problem[128];
  g_assert_cmpint (parse ("hostname=web\n", &settings, problem), ==, -1);
  g_assert_cmpstr (problem, ==, "no root");
  g_assert_cmpint (parse ("root=/dev/vda\n", &settings, problem), ==, -1);
  g_assert_cmpstr (problem, ==, "no hostname");
  g_assert_cmpint (parse ("hostname=a\nroot=/dev/vda\naddress=10.0.0.2/8\n", &settings, problem), ==, -1);
  g_assert_cmpstr (problem, ==, "no mac");
  g_assert_cmpint (parse ("", &settings, problem), ==, -1);
}

/* Bytes without sense: an answer, never a crash (the sanitizer build looks at the rest). */
static void
test_noise (void)
{
  g_autoptr (GRand) random = g_rand_new_with_seed (20261124);
  for (int round = 0; round < 20000; round++) {
    char text[sizeof whole], problem[128];
    GuestSettings settings;
    memcpy (text, whole, sizeof whole);
    for (int flips = g_rand_int_range (random, 1, 6); flips > 0; flips--)
      text[g_rand_int_range (random, 0, sizeof whole - 1)] = (char)g_rand_int_range (random, 0, 256);
    if (guest_settings_parse (text, &settings, problem, sizeof problem) == 0)
      g_assert_cmpuint (strlen (settings.hostname), <, sizeof settings.hostname);
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/guest/settings/whole", test_whole);
  g_test_add_func ("/guest/settings/unknown-keys", test_unknown_keys_are_passed_over);
  g_test_add_func ("/guest/settings/refused", test_refused);
  g_test_add_func ("/guest/settings/missing", test_missing);
  g_test_add_func ("/guest/settings/noise", test_noise);
  return g_test_run ();
}

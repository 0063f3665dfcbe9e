/* What banger writes into an image's files, and what it leaves as it is.
 * Run by meson test.
 * Never writes a file. */
#include <arpa/inet.h>
#include <glib.h>
#include <string.h>

#include "guest/text.h"

#define BEGIN "# banger: begin (these lines are replaced at every start)\n"
#define END "# banger: end\n"

static void
test_authorized_keys (void)
{
  static const struct {
    const char *old, *keys, *expected;
  } rows[] = {
    { NULL, "k1", BEGIN "k1\n" END },
    { "", "k1\nk2\n", BEGIN "k1\nk2\n" END },
    { "mine\n", "k1\n", "mine\n" BEGIN "k1\n" END },
    { "mine", "k1\n", "mine\n" BEGIN "k1\n" END },
    { BEGIN "old\n" END, "k1\n", BEGIN "k1\n" END },
    { "a\n" BEGIN "old\nolder\n" END "b\n", "k1\n", "a\nb\n" BEGIN "k1\n" END },
    { BEGIN "1\n" END "x\n" BEGIN "2\n" END, "k1\n", "x\n" BEGIN "k1\n" END },
    /* A block without its end is not ours to remove. */
    { BEGIN "mine\n", "k1\n", BEGIN "mine\n" BEGIN "k1\n" END },
    { "x" BEGIN "mine\n" END, "k1\n", "x" BEGIN "mine\n" END BEGIN "k1\n" END },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autofree char *text = guest_text_authorized_keys (rows[i].old, rows[i].keys);
    g_assert_cmpstr (text, ==, rows[i].expected);
  }
}

static void
test_keys_are_stable (void)
{
  g_autofree char *once = guest_text_authorized_keys ("mine\n", "k1\n");
  g_autofree char *twice = guest_text_authorized_keys (once, "k1\n");
  g_assert_cmpstr (once, ==, twice);
}

#define ACCOUNT "banger-exec:*:0:0:commands of banger:/root:/run/banger/shell\n"

static void
test_passwd (void)
{
  static const struct {
    const char *old, *expected;
  } rows[] = {
    { "", ACCOUNT },
    { "root:x:0:0:root:/root:/bin/zsh\n", "root:x:0:0:root:/root:/bin/zsh\n" ACCOUNT },
    { "root:x:0:0::/root:", "root:x:0:0::/root:\n" ACCOUNT },
    { "a:x:1:1::/:/x\nbanger-exec:x:7:7::/:/bin/sh\nb:x:2:2::/:/x\n", "a:x:1:1::/:/x\nb:x:2:2::/:/x\n" ACCOUNT },
    { "banger-execs:x:7:7::/:\n" ACCOUNT, "banger-execs:x:7:7::/:\n" ACCOUNT },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autofree char *text = guest_text_passwd (rows[i].old);
    g_assert_cmpstr (text, ==, rows[i].expected);
  }
}

static void
test_hosts (void)
{
  g_autofree char *fresh = guest_text_hosts (NULL, "web", "");
  g_assert_nonnull (strstr (fresh, "127.0.0.1\tlocalhost\n"));
  g_assert_true (g_str_has_suffix (fresh, "127.0.1.1\tweb # banger\n"));

  g_autofree char *kept = guest_text_hosts ("127.0.0.1 localhost\n127.0.1.1\told # banger\n10.0.0.9 db", "web", "-");
  g_assert_cmpstr (kept, ==, "127.0.0.1 localhost\n10.0.0.9 db\n127.0.1.1\tweb # banger\n");

  /* Those that were told before go, and nothing else. */
  g_autofree char *told = guest_text_names (kept, "10.213.0.5=db,10.213.0.1=host");
  g_assert_cmpstr (told, ==,
                   "127.0.0.1 localhost\n10.0.0.9 db\n127.0.1.1\tweb # banger\n"
                   "10.213.0.5\tdb.vm # banger\n10.213.0.1\thost.vm # banger\n");
  g_autofree char *same = guest_text_names (told, "10.213.0.5=db,10.213.0.1=host");
  g_assert_cmpstr (same, ==, told);
  g_autofree char *nobody = guest_text_names (told, "-");
  g_assert_cmpstr (nobody, ==, kept);
  g_autofree char *again = guest_text_hosts (told, "web", "10.213.0.7=web");
  g_assert_cmpstr (again, ==,
                   "127.0.0.1 localhost\n10.0.0.9 db\n127.0.1.1\tweb # banger\n10.213.0.7\tweb.vm # banger\n");
}

static void
test_network (void)
{
  GuestSettings settings = { .hostname = "web", .mac = "06:00:00:00:00:05", .prefix = 24, .n_dns = 1 };
  strcpy (settings.dns[0], "10.213.0.1");
  inet_pton (AF_INET, "10.213.0.5", &settings.address);
  g_autofree char *without = guest_text_networkd (&settings);
  g_assert_null (strstr (without, "Gateway"));
  inet_pton (AF_INET, "10.213.0.1", &settings.gateway);

  g_autofree char *networkd = guest_text_networkd (&settings);
  g_assert_nonnull (strstr (networkd, "\nMACAddress=06:00:00:00:00:05\n"));
  g_assert_nonnull (strstr (networkd, "\nKeepConfiguration=static\n"));
  g_assert_nonnull (strstr (networkd, "\nAddress=10.213.0.5/24\n"));
  g_assert_nonnull (strstr (networkd, "\nDNS=10.213.0.1\n"));
  g_assert_nonnull (strstr (networkd, "\nGateway=10.213.0.1\n"));

  g_autofree char *resolv = guest_text_resolv_conf (&settings);
  g_assert_true (g_str_has_suffix (resolv, "\nnameserver 10.213.0.1\n"));
  g_autofree char *state = guest_text_ifstate ("eth0");
  g_assert_cmpstr (state, ==, "eth0=eth0\n");
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/guest/text/authorized-keys", test_authorized_keys);
  g_test_add_func ("/guest/text/stable", test_keys_are_stable);
  g_test_add_func ("/guest/text/passwd", test_passwd);
  g_test_add_func ("/guest/text/hosts", test_hosts);
  g_test_add_func ("/guest/text/network", test_network);
  return g_test_run ();
}

/* Guest addresses and resolvers.
 * Run by meson test.
 * Never asks the network. */
#include "manager/net/address.h"

#include <arpa/inet.h>
#include <glib/gstdio.h>
#include <ifaddrs.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"

static BangerSubnet
subnet (const char *cidr)
{
  BangerSubnet parsed = { 0 };
  g_autoptr (GError) error = NULL;
  g_assert_true (banger_subnet_parse (cidr, &parsed, &error));
  g_assert_no_error (error);
  return parsed;
}

static char *
allocate (const char *cidr, const char *const *taken)
{
  BangerSubnet net = subnet (cidr);
  guint32 list[8];
  gsize n = 0;
  for (; taken && taken[n]; n++)
    list[n] = banger_address_parse (taken[n]);
  guint32 address;
  return banger_subnet_allocate (&net, list, n, &address, NULL) ? banger_address_format (address) : NULL;
}

static void
test_allocate (void)
{
  static const struct {
    const char *cidr;
    const char *taken[6];
    const char *expected;
  } rows[] = {
    { "10.213.0.1/24", { NULL }, "10.213.0.2" },
    { "10.213.0.1/24", { "10.213.0.2", NULL }, "10.213.0.3" },
    { "10.213.0.1/24", { "10.213.0.4", "10.213.0.2", NULL }, "10.213.0.3" },
    { "10.213.0.1/24", { "10.9.0.2", "0.0.0.0", "10.213.0.2", "10.213.0.2", NULL }, "10.213.0.3" },
    { "10.213.0.2/24", { NULL }, "10.213.0.1" },
    { "10.213.0.254/24", { NULL }, "10.213.0.1" },
    { "192.168.7.1/30", { NULL }, "192.168.7.2" },
    { "192.168.7.1/30", { "192.168.7.2", NULL }, NULL },
    { "255.255.255.1/24", { NULL }, "255.255.255.2" },
  };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autofree char *got = allocate (rows[i].cidr, rows[i].taken);
    g_assert_cmpstr (got, ==, rows[i].expected);
  }
}

static void
test_narrow (void)
{
  BangerSubnet parsed;
  g_autoptr (GError) error = NULL;
  g_assert_false (banger_subnet_parse ("10.0.0.1/31", &parsed, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_NETWORK);
}

static void
test_resolvers (void)
{
  g_autofree char *first = NULL, *second = NULL;
  close (g_file_open_tmp ("resolv-XXXXXX", &first, NULL));
  close (g_file_open_tmp ("resolv-XXXXXX", &second, NULL));
  g_assert_true (g_file_set_contents (first, "# stub\nnameserver 127.0.0.53\nnameserver ::1\nsearch x\n", -1, NULL));
  g_assert_true (g_file_set_contents (second, "nameserver\t9.9.9.9 \nnameserver bad\n  nameserver 1.2.3.4\noptions x\n",
                                      -1, NULL));
  const char *const paths[] = { "/does/not/exist", first, second, NULL };
  g_auto (GStrv) found = banger_resolvers (paths);
  g_autofree char *joined = g_strjoinv (" ", found);
  g_assert_cmpstr (joined, ==, "9.9.9.9 1.2.3.4");
  /* One at an address of this host's own. */
  g_autofree char *own = NULL;
  struct ifaddrs *list = NULL;
  g_assert_cmpint (getifaddrs (&list), ==, 0);
  for (const struct ifaddrs *each = list; each; each = each->ifa_next) {
    struct sockaddr_in in = { 0 };
    if (!each->ifa_addr || each->ifa_addr->sa_family != AF_INET)
      continue;
    memcpy (&in, each->ifa_addr, sizeof in);
    g_autofree char *text = banger_address_format (ntohl (in.sin_addr.s_addr));
    char *more = g_strdup_printf ("%snameserver %s\n", own ? own : "", text);
    g_free (own);
    own = more;
  }
  freeifaddrs (list);
  if (own) {
    const char *const mine[] = { first, NULL };
    g_assert_true (g_file_set_contents (first, own, -1, NULL));
    g_auto (GStrv) none = banger_resolvers (mine);
    g_assert_null (none[0]);
  }
  g_unlink (first);
  g_unlink (second);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/address/allocate", test_allocate);
  g_test_add_func ("/address/narrow", test_narrow);
  g_test_add_func ("/address/resolvers", test_resolvers);
  return g_test_run ();
}

/* Bridge, tap and NAT for real, in a network namespace that nobody else has.
 * Run by meson test as root. */
#include "net-guests.h"

#include <sys/resource.h>
#include <sys/select.h>

#include "common/ids.h"
#include "privileged/filter.h"
#include "privileged/netlink.h"

static void
test_bridge (void)
{
  g_autoptr (GError) overlap = NULL, second = NULL;
  g_assert_true (banger_bridge_ensure (&root, "br-fc-one", CIDR, NULL));
  g_assert_true (banger_bridge_ensure (&root, "br-fc-one", CIDR, NULL));
  g_assert_false (banger_bridge_ensure (&root, "br-fc-one", "10.99.0.1/24", &second));
  g_assert_error (second, BANGER_ERROR, BANGER_ERROR_INVALID_NETWORK);
  g_assert_false (banger_bridge_ensure (&root, "br-fc-two", "10.213.0.129/25", &overlap));
  g_assert_error (overlap, BANGER_ERROR, BANGER_ERROR_INVALID_NETWORK);
  g_assert_cmpuint (if_nametoindex ("br-fc-two"), ==, 0);
  g_assert_false (banger_bridge_ensure (&root, "eth0", CIDR, NULL));
  g_assert_true (banger_bridge_remove ("br-fc-one", NULL));
  g_assert_true (banger_bridge_remove ("br-fc-one", NULL));
  g_assert_cmpuint (if_nametoindex ("br-fc-one"), ==, 0);
}

static void
test_bridge_quota (void)
{
  g_autoptr (GError) error = NULL, full = NULL;
  g_free (run ("ip link add br-other type bridge"));
  g_assert_true (banger_bridge_ensure (&root, "br-fc-one", CIDR, &error));
  g_assert_true (banger_bridge_ensure (&root, "br-fc-two", "10.213.1.1/24", &error));
  g_assert_false (banger_bridge_ensure (&root, "br-fc-three", "10.213.2.1/24", &full));
  g_assert_error (full, BANGER_ERROR, BANGER_ERROR_LIMITS_EXCEEDED);
  g_assert_nonnull (strstr (full->message, "limits.bridges"));
  g_assert_cmpuint (if_nametoindex ("br-fc-three"), ==, 0);
  g_assert_true (banger_bridge_ensure (&root, "br-fc-one", CIDR, &error));
  g_assert_true (banger_bridge_remove ("br-fc-two", NULL));
  g_assert_true (banger_bridge_ensure (&root, "br-fc-three", "10.213.2.1/24", &error));
  g_assert_true (banger_bridge_remove ("br-fc-one", NULL) && banger_bridge_remove ("br-fc-three", NULL));
  g_free (run ("ip link del br-other"));
}

static const BangerTapPlace place = { "br-fc-one", CIDR, "10.213.0.5" };

static char *
elements (void)
{
  return run ("nft list ruleset");
}

/* libnftables waits for its socket with select(2): opened when so many are open already, it would end the helper. */
static void
test_many_descriptors (void)
{
  g_autoptr (GError) error = NULL;
  struct rlimit limit;
  g_assert_cmpint (getrlimit (RLIMIT_NOFILE, &limit), ==, 0);
  const struct rlimit more = { limit.rlim_max, limit.rlim_max };
  if (more.rlim_cur <= FD_SETSIZE + 64 || setrlimit (RLIMIT_NOFILE, &more) < 0) {
    g_test_skip ("more than 1088 descriptors are not allowed here");
    return;
  }
  g_assert_true (banger_filter_start (&error));
  g_assert_no_error (error);
  g_autoptr (GArray) fds = g_array_new (FALSE, FALSE, sizeof (int));
  for (int fd = 0; fd <= FD_SETSIZE;) {
    fd = open ("/dev/null", O_RDONLY | O_CLOEXEC);
    g_assert_cmpint (fd, >=, 0);
    g_array_append_val (fds, fd);
  }
  g_autoptr (BangerLease) lease = banger_lease_ensure (&root, VM, 54321, NULL, NULL);
  g_autofree char *tap = banger_tap_create (&root, lease, &place, &error);
  g_assert_no_error (error);
  g_assert_true (banger_tap_delete (&root, lease, NULL));
  for (guint i = 0; i < fds->len; i++)
    close (g_array_index (fds, int, i));
  g_assert_cmpint (setrlimit (RLIMIT_NOFILE, &limit), ==, 0);
}

static void
test_tap_and_nat (void)
{
  g_autoptr (GError) error = NULL, busy = NULL, elsewhere = NULL, other = NULL;
  g_autoptr (BangerLease) lease = banger_lease_ensure (&root, VM, 54321, NULL, NULL);
  g_autofree char *tap = banger_tap_create (&root, lease, &place, &error);
  g_assert_no_error (error);
  g_autofree char *again = banger_tap_create (&root, lease, &place, &error);
  g_assert_no_error (error);
  g_assert_cmpstr (again, ==, tap);
  g_assert_false (banger_bridge_remove ("br-fc-one", &busy));
  g_assert_error (busy, BANGER_ERROR, BANGER_ERROR_IN_USE);
  const BangerTapPlace another = { "br-fc-one", CIDR, "10.213.0.6" };
  g_assert_null (banger_tap_create (&root, lease, &another, &elsewhere));
  g_assert_error (elsewhere, BANGER_ERROR, BANGER_ERROR_WRONG_STATE);
  g_autofree char *links = run ("ip -d link show dev tap-fc-01234567");
  static const char *const flags[] = { "isolated on",     "learning off",     " flood off",      "mcast_flood off",
                                       "bcast_flood off", "addrgenmode none", "group 1898136935" };
  for (size_t i = 0; i < G_N_ELEMENTS (flags); i++)
    if (!strstr (links, flags[i]))
      g_error ("no %s: %s", flags[i], links);
  g_assert_null (strstr (links, "user 54321"));
  g_autofree char *neighbours = run ("ip neigh show dev br-fc-one");
  g_assert_nonnull (strstr (neighbours, "10.213.0.5 lladdr 06:"));
  g_assert_nonnull (strstr (neighbours, "PERMANENT"));

  g_autofree char *closed = elements ();
  g_assert_nonnull (strstr (closed, "table inet banger {"));
  g_assert_nonnull (strstr (closed, "\"tap-fc-01234567\" . 06:"));
  g_assert_null (strstr (closed, "\"br-fc-one\" . 10.213.0.5"));
  g_autofree char *before = run ("cat /proc/sys/net/ipv4/ip_forward");
  g_assert_true (banger_nat_ensure (&root, lease, "10.213.0.5", &error));
  g_assert_no_error (error);
  g_assert_true (banger_nat_ensure (&root, lease, "10.213.0.5", NULL));
  g_assert_false (banger_nat_ensure (&root, lease, "10.213.0.6", &other));
  g_assert_error (other, BANGER_ERROR, BANGER_ERROR_WRONG_STATE);
  g_autofree char *open = elements ();
  g_assert_nonnull (strstr (open, "\"br-fc-one\" . 10.213.0.5"));

  g_assert_true (banger_nat_remove (&root, lease, &error));
  g_autofree char *again_closed = elements ();
  g_autofree char *after = run ("cat /proc/sys/net/ipv4/ip_forward");
  g_assert_cmpstr (again_closed, ==, closed);
  g_assert_cmpstr (after, ==, before);
  g_assert_true (banger_tap_delete (&root, lease, NULL));
  g_assert_null (lease->guest_address);
  g_assert_true (banger_tap_delete (&root, lease, NULL));
  g_assert_true (banger_nat_remove (&root, lease, NULL));
  g_autofree char *tables = run ("nft list tables");
  g_assert_null (strstr (tables, "banger"));
  g_autofree char *gone = run ("ip neigh show dev br-fc-one nud permanent");
  g_assert_cmpstr (gone, ==, "");
  g_assert_true (banger_bridge_remove ("br-fc-one", NULL));
  g_assert_true (banger_lease_remove (&root, VM, NULL));
}

static char *
link_mac (const char *name)
{
  g_autofree char *command = g_strdup_printf ("sh -c 'ip -o link show dev %s | grep -oE \"ether [0-9a-f:]+\"'", name);
  return run (command);
}

/* It never takes a port's: neighbour entries would go with each change. */
static void
test_bridge_mac (void)
{
  g_autoptr (GError) error = NULL;
  g_assert_true (banger_bridge_ensure (&root, "br-fc-one", CIDR, &error));
  g_autofree char *born = link_mac ("br-fc-one");
  g_assert_true (g_str_has_prefix (born, "ether 0a:"));
  g_autoptr (BangerLease) lease = banger_lease_ensure (&root, VM, 54321, NULL, NULL);
  g_autofree char *tap = banger_tap_create (&root, lease, &place, &error);
  g_assert_no_error (error);
  g_free (run ("ip link add low0 address 02:00:00:00:00:01 type veth peer name low1"));
  g_free (run ("ip link set low0 master br-fc-one"));
  g_autofree char *more = link_mac ("br-fc-one");
  g_free (run ("ip link del low0"));
  g_autofree char *less = link_mac ("br-fc-one"), *neighbours = run ("ip neigh show dev br-fc-one nud permanent");
  g_assert_cmpstr (more, ==, born);
  g_assert_cmpstr (less, ==, born);
  g_assert_nonnull (strstr (neighbours, "10.213.0.5"));
  g_assert_true (banger_tap_delete (&root, lease, NULL) && banger_lease_remove (&root, VM, NULL));
  g_assert_true (banger_bridge_remove ("br-fc-one", NULL));
  /* One of a former version gets it late. */
  g_free (run ("ip link add br-fc-one address 02:00:00:00:00:07 type bridge"));
  g_free (run ("ip link set br-fc-one alias banger"));
  g_assert_true (banger_bridge_ensure (&root, "br-fc-one", CIDR, &error));
  g_autofree char *late = link_mac ("br-fc-one");
  g_assert_cmpstr (late, ==, born);
  g_assert_true (banger_bridge_remove ("br-fc-one", NULL));
}

/* With other VMs there, a VM more and less is its own elements and nothing else; two have no address in common. */
static void
test_two_guests (void)
{
  g_autoptr (GError) error = NULL, taken = NULL;
  g_autoptr (BangerLease) first = banger_lease_ensure (&root, "aaaaaaaaaaaa", 54321, NULL, NULL);
  g_autoptr (BangerLease) second = banger_lease_ensure (&root, "bbbbbbbbbbbb", 54321, NULL, NULL);
  const BangerTapPlace other = { "br-fc-one", CIDR, "10.213.0.6" };
  g_free (banger_tap_create (&root, first, &place, &error));
  g_assert_true (banger_nat_ensure (&root, first, "10.213.0.5", &error));
  g_autofree char *alone = run ("nft -a list ruleset");
  g_assert_null (banger_tap_create (&root, second, &place, &taken));
  g_assert_error (taken, BANGER_ERROR, BANGER_ERROR_IN_USE);
  g_free (banger_tap_create (&root, second, &other, &error));
  g_assert_true (banger_nat_ensure (&root, second, "10.213.0.6", &error));
  g_autofree char *both = elements ();
  g_assert_nonnull (strstr (both, "tap-fc-aaaaaaaa") && strstr (both, "tap-fc-bbbbbbbb") ? both : NULL);
  g_assert_true (banger_nat_remove (&root, second, &error) && banger_tap_delete (&root, second, &error));
  g_autofree char *again = run ("nft -a list ruleset"); /* with the rules' handles: they are the same rules */
  g_assert_cmpstr (again, ==, alone);
  g_assert_true (banger_nat_remove (&root, first, &error) && banger_tap_delete (&root, first, &error));
  g_assert_no_error (error);
  g_assert_true (banger_lease_remove (&root, first->vm, NULL) && banger_lease_remove (&root, second->vm, NULL));
  g_assert_true (banger_bridge_remove ("br-fc-one", NULL));
}

/* limits.taps is 2 here. */
static void
test_tap_quota (void)
{
  static const BangerTapPlace at[] = { { "br-fc-one", CIDR, "10.213.0.5" },
                                       { "br-fc-one", CIDR, "10.213.0.6" },
                                       { "br-fc-one", CIDR, "10.213.0.7" } };
  static const char *const ids[] = { "aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc" };
  g_autoptr (GPtrArray) leases = g_ptr_array_new_with_free_func ((GDestroyNotify)banger_lease_free);
  for (int i = 0; i < 3; i++) {
    g_autoptr (GError) error = NULL;
    BangerLease *lease = banger_lease_ensure (&root, ids[i], 54321, NULL, NULL);
    g_ptr_array_add (leases, lease);
    g_autofree char *tap = banger_tap_create (&root, lease, &at[i], &error);
    if (i < 2)
      g_assert_no_error (error);
    else
      g_assert_error (error, BANGER_ERROR, BANGER_ERROR_LIMITS_EXCEEDED);
  }
  g_assert_cmpuint (if_nametoindex ("tap-fc-cccccccc"), ==, 0);
  for (int i = 0; i < 3; i++)
    g_assert_true (banger_tap_delete (&root, leases->pdata[i], NULL) && banger_lease_remove (&root, ids[i], NULL));
  g_assert_true (banger_bridge_remove ("br-fc-one", NULL));
}

/* No tap without its filter: what cannot be written fails the tap. */
static void
test_filter_fails (void)
{
  g_autoptr (GError) error = NULL, failed = NULL;
  g_autoptr (BangerLease) first = banger_lease_ensure (&root, "aaaaaaaaaaaa", 54321, NULL, NULL);
  g_autoptr (BangerLease) second = banger_lease_ensure (&root, "bbbbbbbbbbbb", 54321, NULL, NULL);
  BangerRoot broken = root;
  BangerInstall wrong = install;
  broken.install = &wrong;
  wrong.bridge = (char *)"br-fc{";
  g_assert_null (banger_tap_create (&broken, first, &places[0], &failed));
  g_assert_nonnull (failed);
  g_assert_cmpuint (if_nametoindex ("tap-fc-aaaaaaaa"), ==, 0);
  g_assert_nonnull (first->tap); /* the tables could not be looked after: the release does */
  g_free (banger_tap_create (&root, first, &places[0], &error));
  g_assert_no_error (error);
  g_autofree char *before = run ("nft list ruleset");
  g_assert_null (banger_tap_create (&broken, second, &places[1], NULL));
  g_assert_cmpuint (if_nametoindex ("tap-fc-bbbbbbbb"), ==, 0);
  g_autofree char *after = run ("nft list ruleset");
  g_assert_cmpstr (after, ==, before);
  BangerLease *const both[] = { second, first };
  for (int i = 0; i < 2; i++)
    g_assert_true (banger_tap_delete (&root, both[i], NULL) && banger_lease_remove (&root, both[i]->vm, NULL));
  g_autofree char *tables = run ("nft list tables");
  g_assert_null (strstr (tables, "banger"));
  g_assert_true (banger_bridge_remove ("br-fc-one", NULL));
}

static void
test_bridge_find (void)
{
  struct in_addr address = { 0 };
  int index = 7;
  g_autoptr (GError) foreign = NULL;
  g_assert_true (banger_bridge_find ("br-fc-two", &index, &address, NULL));
  g_assert_cmpint (index, ==, 0);
  g_assert_true (banger_bridge_ensure (&root, "br-fc-two", CIDR, NULL));
  g_assert_true (banger_bridge_find ("br-fc-two", &index, &address, NULL));
  g_assert_cmpint (index, ==, (int)if_nametoindex ("br-fc-two"));
  g_assert_cmphex (ntohl (address.s_addr), ==, 0x0ad50001);
  g_assert_true (banger_bridge_remove ("br-fc-two", NULL));
  g_autofree char *made = run ("ip link add br-fc-two type bridge");
  g_assert_false (banger_bridge_find ("br-fc-two", &index, &address, &foreign));
  g_assert_error (foreign, BANGER_ERROR, BANGER_ERROR_IN_USE);
  g_assert_false (banger_bridge_find ("lo", &index, &address, NULL));
}

static void
test_foreign_tap (void)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *made = run ("ip tuntap add tap-fc-ffffffff mode tap");
  g_autoptr (BangerLease) lease = banger_lease_ensure (&root, "ffffffff", 1000, NULL, NULL);
  g_assert_null (banger_tap_create (&root, lease, &place, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_IN_USE);
  g_assert_null (lease->tap);
  g_assert_true (banger_tap_delete (&root, lease, NULL));
  g_assert_cmpuint (if_nametoindex ("tap-fc-ffffffff"), !=, 0);
}

static void
add_tests (void)
{
  g_test_add_func ("/bridge", test_bridge);
  g_test_add_func ("/bridge-quota", test_bridge_quota);
  g_test_add_func ("/many-descriptors", test_many_descriptors);
  g_test_add_func ("/tap-and-nat", test_tap_and_nat);
  g_test_add_func ("/tap-quota", test_tap_quota);
  g_test_add_func ("/bridge-mac", test_bridge_mac);
  g_test_add_func ("/two-guests", test_two_guests);
  g_test_add_func ("/filter-fails", test_filter_fails);
  g_test_add_func ("/bridge-find", test_bridge_find);
  g_test_add_func ("/foreign-tap", test_foreign_tap);
}

int
main (int argc, char **argv)
{
  return network_main (argc, argv, add_tests);
}

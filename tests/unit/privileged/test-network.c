/* Bridge, tap and NAT for real, in a network namespace that nobody else has.
 * Run by meson test as root.
 * Never changes the host's network. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <net/if.h>
#include <sched.h>

#include "common/safe-path.h"
#include "privileged/bridge.h"
#include "privileged/lease.h"
#include "privileged/nat.h"
#include "privileged/tap.h"

#define VM "0123456789ab"
#define CIDR "10.213.0.1/24"

static BangerInstall install = {
  .max_vms = 4, .max_taps = 2, .max_bridges = 2, .bridge_address = (char *)"10.213.0.2/24"
};
static BangerRoot root = { .install = &install };

static void
test_script (void)
{
  g_autoptr (GPtrArray) none = g_ptr_array_new ();
  g_autofree char *empty = banger_nat_script (none);
  g_assert_cmpstr (empty, ==, "add table inet banger\ndelete table inet banger\n");
}

static char *
run (const char *command)
{
  char *out = NULL;
  g_autoptr (GError) error = NULL;
  g_spawn_command_line_sync (command, &out, NULL, NULL, &error);
  g_assert_no_error (error);
  return out;
}

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

/* The traffic that the host sends elsewhere is not drawn to a bridge, whatever table and kind the route is of. */
static void
test_routes (void)
{
  static const char *const routes[] = {
    "10.213.0.128/25 dev wg0",  "10.213.0.0/24 dev wg0 metric 50",
    "10.0.0.0/8 via 10.99.0.2", "10.213.0.9/32 dev wg0 table 7",
    "blackhole 10.213.0.0/16",  "10.213.0.0/16 nexthop via 10.99.0.2 nexthop via 10.99.0.3",
  };
  static const char *const others[] = { "default via 10.99.0.2", "128.0.0.0/1 dev wg0", "0.0.0.0/1 dev wg0",
                                        "10.213.1.0/24 dev wg0", "8.0.0.0/6 dev wg0" };
  g_free (run ("ip link add wg0 type bridge"));
  g_free (run ("ip addr add 10.99.0.1/24 dev wg0"));
  g_free (run ("ip link set wg0 up"));
  for (size_t i = 0; i < G_N_ELEMENTS (routes); i++) {
    g_autoptr (GError) error = NULL;
    g_autofree char *add = g_strconcat ("ip route add ", routes[i], NULL), *before = NULL, *after = NULL;
    g_autofree char *del = g_strconcat ("ip route del ", routes[i], NULL);
    before = run ("ip -d route show table all");
    g_free (run (add));
    after = run ("ip -d route show table all");
    g_assert_cmpstr (before, !=, after);
    if (banger_bridge_ensure (&root, "br-fc-one", CIDR, &error))
      g_error ("a bridge beside the route %s", routes[i]);
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_NETWORK);
    g_assert_nonnull (strstr (error->message, "has a route to 10."));
    g_assert_cmpuint (if_nametoindex ("br-fc-one"), ==, 0);
    g_assert_true (banger_bridge_ensure (&root, "br-fc-one", install.bridge_address, NULL));
    g_assert_true (banger_bridge_remove ("br-fc-one", NULL));
    g_free (run (del));
  }
  for (size_t i = 0; i < G_N_ELEMENTS (others); i++) {
    g_autofree char *add = g_strconcat ("ip route add ", others[i], NULL);
    g_free (run (add));
  }
  g_autoptr (GError) none = NULL;
  g_assert_true (banger_bridge_ensure (&root, "br-fc-one", CIDR, &none));
  /* It has its address: a VPN that comes later does not stop VMs. */
  g_free (run ("ip route add 10.213.0.128/25 dev wg0"));
  g_assert_true (banger_bridge_ensure (&root, "br-fc-one", CIDR, &none));
  /* Nor does a route over the bridge itself, but one that also leads elsewhere is the host's. */
  g_free (run ("ip route del 10.213.0.128/25 dev wg0"));
  static const struct {
    const char *route;
    gboolean ok;
  } own[] = { { "dev br-fc-one", TRUE }, { "nexthop dev br-fc-one nexthop via 10.99.0.2", FALSE } };
  for (size_t i = 0; i < G_N_ELEMENTS (own); i++) {
    g_autoptr (GError) error = NULL;
    g_autofree char *add = g_strconcat ("ip route add 10.213.0.0/25 ", own[i].route, NULL);
    g_free (run ("ip addr flush dev br-fc-one"));
    g_free (run (add));
    if (banger_bridge_ensure (&root, "br-fc-one", CIDR, &error) != own[i].ok)
      g_error ("the route %s: %s", own[i].route, error ? error->message : "no error");
    g_free (run ("ip route del 10.213.0.0/25"));
  }
  g_assert_true (banger_bridge_remove ("br-fc-one", NULL));
  g_free (run ("ip link del wg0"));
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

static void
test_tap_and_nat (void)
{
  g_autoptr (GError) error = NULL, busy = NULL;
  g_autoptr (BangerLease) lease = banger_lease_ensure (&root, VM, 54321, NULL, NULL);
  g_autofree char *tap = banger_tap_create (&root, lease, "br-fc-one", CIDR, &error);
  g_assert_no_error (error);
  g_autofree char *again = banger_tap_create (&root, lease, "br-fc-one", CIDR, &error);
  g_assert_no_error (error);
  g_assert_cmpstr (again, ==, tap);
  g_assert_false (banger_bridge_remove ("br-fc-one", &busy));
  g_assert_error (busy, BANGER_ERROR, BANGER_ERROR_IN_USE);
  g_autofree char *links = run ("ip -d link show dev tap-fc-01234567");
  g_assert_nonnull (strstr (links, "isolated on"));
  g_assert_nonnull (strstr (links, "learning off"));
  g_assert_nonnull (strstr (links, "user 54321"));

  g_autofree char *before = run ("cat /proc/sys/net/ipv4/ip_forward");
  g_assert_true (banger_nat_ensure (&root, lease, "10.213.0.5", &error));
  g_assert_no_error (error);
  g_assert_true (banger_nat_ensure (&root, lease, "10.213.0.5", NULL));
  g_assert_false (banger_nat_ensure (&root, lease, "10.213.0.6", NULL));
  g_autofree char *table = run ("nft list table inet banger"), *on = run ("cat /proc/sys/net/ipv4/ip_forward");
  g_assert_nonnull (strstr (table, "ip saddr 10.213.0.5 oifname != \"br-fc-one\" masquerade"));
  g_assert_nonnull (strstr (table, "device \"tap-fc-01234567\""));
  g_assert_cmpstr (on, ==, "1\n");
  g_autofree char *neighbours = run ("ip neigh show dev br-fc-one");
  g_assert_nonnull (strstr (neighbours, "10.213.0.5 lladdr 06:"));
  g_assert_nonnull (strstr (neighbours, "PERMANENT"));

  g_assert_true (banger_nat_remove (&root, lease, &error));
  g_autofree char *tables = run ("nft list tables"), *after = run ("cat /proc/sys/net/ipv4/ip_forward");
  g_assert_null (strstr (tables, "banger"));
  g_assert_cmpstr (after, ==, before);
  g_assert_true (banger_tap_delete (lease, NULL));
  g_assert_true (banger_tap_delete (lease, NULL));
  g_assert_true (banger_bridge_remove ("br-fc-one", NULL));
  g_assert_true (banger_lease_remove (&root, VM, NULL));
}

/* Forwarding goes off with the last guest, and only if banger switched it on. */
static void
test_forwarding (void)
{
  g_autoptr (GError) error = NULL, full = NULL;
  const char *vms[] = { "aaaaaaaaaaaa", "bbbbbbbbbbbb" }, *guests[] = { "10.213.0.5", "10.213.0.6" };
  g_autoptr (GPtrArray) leases = g_ptr_array_new_with_free_func ((GDestroyNotify)banger_lease_free);
  for (int before = 0; before <= 1; before++) {
    g_autofree char *command = g_strdup_printf ("sh -c 'echo %d > /proc/sys/net/ipv4/ip_forward'", before);
    g_autofree char *set = run (command);
    for (int i = 0; i < 2; i++) {
      BangerLease *lease = banger_lease_ensure (&root, vms[i], 54321, NULL, NULL);
      g_ptr_array_add (leases, lease);
      g_autofree char *tap = banger_tap_create (&root, lease, "br-fc-one", CIDR, &error);
      g_assert_no_error (error);
      g_assert_true (banger_nat_ensure (&root, lease, guests[i], &error));
    }
    /* limits.taps is 2 here. */
    g_autoptr (BangerLease) third = banger_lease_ensure (&root, "cccccccccccc", 54321, NULL, NULL);
    g_assert_null (banger_tap_create (&root, third, "br-fc-one", CIDR, &full));
    g_assert_error (full, BANGER_ERROR, BANGER_ERROR_LIMITS_EXCEEDED);
    g_assert_cmpuint (if_nametoindex ("tap-fc-cccccccc"), ==, 0);
    g_clear_error (&full);
    g_assert_true (banger_lease_remove (&root, "cccccccccccc", NULL));
    for (int i = 0; i < 2; i++) {
      BangerLease *lease = leases->pdata[i];
      g_assert_true (banger_nat_remove (&root, lease, NULL) && banger_tap_delete (lease, NULL)
                     && banger_lease_remove (&root, lease->vm, NULL));
      g_autofree char *now = run ("cat /proc/sys/net/ipv4/ip_forward");
      g_assert_cmpstr (now, ==, i == 0 || before ? "1\n" : "0\n");
    }
    g_ptr_array_set_size (leases, 0);
  }
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
  g_assert_null (banger_tap_create (&root, lease, "br-fc-one", CIDR, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_IN_USE);
  g_assert_null (lease->tap);
  g_assert_true (banger_tap_delete (lease, NULL));
  g_assert_cmpuint (if_nametoindex ("tap-fc-ffffffff"), !=, 0);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/nat/script", test_script);
  /* Taps, bridges and tables go with the namespace. */
  if (unshare (CLONE_NEWNET) < 0) {
    g_test_message ("the tests of bridge, tap and NAT need root for a network namespace");
    return g_test_run ();
  }
  g_autofree char *dir = g_dir_make_tmp ("banger-net-XXXXXX", NULL);
  root.leases_fd = root.runtime_fd = open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  g_test_add_func ("/bridge", test_bridge);
  g_test_add_func ("/bridge-routes", test_routes);
  g_test_add_func ("/bridge-quota", test_bridge_quota);
  g_test_add_func ("/tap-and-nat", test_tap_and_nat);
  g_test_add_func ("/forwarding", test_forwarding);
  g_test_add_func ("/bridge-find", test_bridge_find);
  g_test_add_func ("/foreign-tap", test_foreign_tap);
  int status = g_test_run ();
  banger_autofd int tmp = open (g_get_tmp_dir (), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  g_autofree char *name = g_path_get_basename (dir);
  g_assert_true (banger_safe_remove_tree (tmp, name, NULL));
  return status;
}

/* How long a VM's network takes to make and to take away, beside 1 and beside 200 other VMs, in one run.
 * Run by people, as root: build/bench/taps. It works in a network namespace of its own.
 * Never asserts a time: the ratio is what counts. */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/safe-path.h"
#include "privileged/bridge.h"
#include "privileged/lease-cache.h"
#include "privileged/nat.h"
#include "privileged/tap.h"

#define ROUNDS 41

static BangerInstall install = { .max_vms = 240, .max_taps = 240, .max_bridges = 2, .max_connections = 4096 };
static BangerRoot root = { .install = &install };

static BangerLease *
add (guint n)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *vm = g_strdup_printf ("%08x", n), *guest = g_strdup_printf ("10.213.0.%u", 2 + n);
  const BangerTapPlace place = { "br-fc-bench", "10.213.0.1/24", guest };
  BangerLease *lease = banger_lease_ensure (&root, vm, 54321, NULL, &error);
  g_autofree char *tap = lease ? banger_tap_create (&root, lease, &place, &error) : NULL;
  if (!tap || !banger_nat_ensure (&root, lease, guest, &error))
    g_error ("VM %u: %s", n, error->message);
  return lease;
}

static void
take_away (BangerLease *lease)
{
  g_autoptr (GError) error = NULL;
  if (!banger_nat_remove (&root, lease, &error) || !banger_tap_delete (&root, lease, &error)
      || !banger_lease_remove (&root, lease->vm, &error))
    g_error ("VM %s: %s", lease->vm, error->message);
  banger_lease_free (lease);
}

static const char *const what[] = { "made", "taken away" };

typedef struct {
  double took[2], busy[2]; /* ms */
} Costs;

static gint64
busy_usec (void)
{
  struct timespec now;
  clock_gettime (CLOCK_PROCESS_CPUTIME_ID, &now);
  return now.tv_sec * G_USEC_PER_SEC + now.tv_nsec / 1000;
}

static int
by_value (const void *a, const void *b)
{
  gint64 x = *(const gint64 *)a, y = *(const gint64 *)b;
  return (x > y) - (x < y);
}

static double
median_ms (gint64 *values)
{
  qsort (values, ROUNDS, sizeof *values, by_value);
  return (double)values[ROUNDS / 2] / 1000;
}

/* Medians: the machine has other things to do. */
static Costs
measure (guint others)
{
  gint64 took[2][ROUNDS], busy[2][ROUNDS];
  Costs costs;
  for (int i = 0; i < ROUNDS; i++) {
    BangerLease *lease = NULL;
    for (int step = 0; step < 2; step++) {
      gint64 began = g_get_monotonic_time (), busy_before = busy_usec ();
      if (step == 0)
        lease = add (others);
      else
        take_away (lease);
      busy[step][i] = busy_usec () - busy_before;
      took[step][i] = g_get_monotonic_time () - began;
    }
  }
  printf ("beside %3u VMs: tap and NAT", others);
  for (int step = 0; step < 2; step++) {
    costs.took[step] = median_ms (took[step]);
    costs.busy[step] = median_ms (busy[step]);
    printf ("%s %s in %.2f ms (processor %.2f ms)", step ? "," : "", what[step], costs.took[step], costs.busy[step]);
  }
  printf ("\n");
  return costs;
}

int
main (void)
{
  BangerLease *leases[200];
  if (unshare (CLONE_NEWNET) < 0) {
    fprintf (stderr, "bench/taps needs root for a network namespace\n");
    return 1;
  }
  g_autofree char *dir = g_dir_make_tmp ("banger-bench-XXXXXX", NULL);
  root.leases_fd = root.runtime_fd = open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  root.leases = banger_lease_cache_new (root.leases_fd, TRUE);
  leases[0] = add (0);
  const Costs few = measure (1);
  for (guint i = 1; i < G_N_ELEMENTS (leases); i++)
    leases[i] = add (i);
  const Costs many = measure (G_N_ELEMENTS (leases));
  for (int step = 0; step < 2; step++)
    printf ("ratio: %s %.2f, processor %.2f\n", what[step], many.took[step] / few.took[step],
            many.busy[step] / few.busy[step]);
  for (guint i = 0; i < G_N_ELEMENTS (leases); i++)
    take_away (leases[i]);
  banger_autofd int tmp = open (g_get_tmp_dir (), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  g_autofree char *name = g_path_get_basename (dir);
  return banger_safe_remove_tree (tmp, name, NULL) ? 0 : 1;
}

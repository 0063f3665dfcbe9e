/* limits.workers: how many programs that look into disks run at once, and in which order.
 * Run by meson test as root; this program is the one that is run.
 * Never takes another's turn. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "privileged/worker.h"

#define NOBODY 65534
#define NAP_MS 150
#define MANY 5

typedef struct {
  guint64 at_once;
  gint64 asked;        /* when its request was made */
  gint64 began, ended; /* CLOCK_MONOTONIC in microseconds, by the program */
} Nap;

/* What runs: says when it began and when it ended. */
static int
nap (void)
{
  gint64 began = g_get_monotonic_time ();
  g_usleep (NAP_MS * 1000);
  printf ("%" G_GINT64_FORMAT " %" G_GINT64_FORMAT "\n", began, g_get_monotonic_time ());
  fflush (stdout);
  _exit (0);
}

static int
note_request (gpointer data, GError **error)
{
  ((Nap *)data)->asked = g_get_monotonic_time ();
  return open ("/dev/null", O_RDONLY | O_CLOEXEC);
}

static gpointer
run_nap (gpointer data)
{
  static const char *const argv[] = { "nap", "--nap", NULL };
  Nap *self = data;
  int status = -1;
  g_autoptr (GError) error = NULL;
  banger_autofd int program = open ("/proc/self/exe", O_PATH | O_CLOEXEC);
  const BangerWorker worker = { .program_fd = program,
                                .argv = argv,
                                .at_once = self->at_once,
                                .uid = NOBODY,
                                .gid = NOBODY,
                                .request = note_request,
                                .request_data = self,
                                .image_fd = -1,
                                .memory_bytes = G_GUINT64_CONSTANT (1) << 40,
                                .seconds = 30,
                                .max_output = 100 };
  g_autoptr (GByteArray) output = banger_worker_run (&worker, "the nap", &status, &error);
  g_assert_no_error (error);
  g_byte_array_append (output, (const guint8 *)"", 1);
  g_assert_cmpint (
      sscanf ((const char *)output->data, "%" G_GINT64_FORMAT " %" G_GINT64_FORMAT, &self->began, &self->ended), ==, 2);
  return NULL;
}

/* The most that ran at one time, or had their request made: when one of them was. */
static guint
most_at_once (const Nap *naps, guint n)
{
  guint most = 0;
  for (guint i = 0; i < n; i++) {
    guint running = 0;
    for (guint j = 0; j < n; j++)
      running += naps[j].asked <= naps[i].asked && naps[i].asked < naps[j].ended;
    most = MAX (most, running);
  }
  return most;
}

static void
test_at_once (void)
{
  for (guint at_once = 1; at_once <= 2; at_once++) {
    GThread *threads[MANY];
    Nap naps[MANY];
    for (guint i = 0; i < MANY; i++) {
      naps[i] = (Nap){ .at_once = at_once };
      threads[i] = g_thread_new ("nap", run_nap, &naps[i]);
    }
    for (guint i = 0; i < MANY; i++)
      g_thread_join (threads[i]);
    g_assert_cmpuint (most_at_once (naps, MANY), ==, at_once);
  }
}

/* Who has just had a turn and asks again comes after those who wait. */
static gpointer
run_again_and_again (gpointer data)
{
  Nap *naps = data;
  for (guint i = 0; i < MANY; i++)
    run_nap (&naps[i]);
  return NULL;
}

static void
test_order (void)
{
  Nap greedy[MANY], waiting[2];
  GThread *threads[2];
  for (guint i = 0; i < MANY; i++)
    greedy[i] = (Nap){ .at_once = 1 };
  g_autoptr (GThread) thread = g_thread_new ("greedy", run_again_and_again, greedy);
  for (guint i = 0; i < 2; i++) {
    g_usleep (NAP_MS * 1000 / 4);
    waiting[i] = (Nap){ .at_once = 1 };
    threads[i] = g_thread_new ("waiting", run_nap, &waiting[i]);
  }
  for (guint i = 0; i < 2; i++)
    g_thread_join (threads[i]);
  g_thread_join (g_steal_pointer (&thread));
  g_assert_cmpint (greedy[0].began, <, waiting[0].began);
  g_assert_cmpint (waiting[0].began, <, waiting[1].began);
  g_assert_cmpint (waiting[1].began, <, greedy[MANY - 1].began);
  g_assert_cmpint (waiting[0].began, <, greedy[2].began);
}

int
main (int argc, char **argv)
{
  if (argc == 2 && strcmp (argv[1], "--nap") == 0)
    return nap ();
  g_test_init (&argc, &argv, NULL);
  if (geteuid () != 0) {
    printf ("1..0 # SKIP needs root, whose rights are given up\n");
    return 0;
  }
  g_test_add_func ("/turns/at-once", test_at_once);
  g_test_add_func ("/turns/order", test_order);
  return g_test_run ();
}

/* Filters of system calls: what passes, what is answered how, for good, in children, too.
 * Run by meson test.
 * Never filters the test program itself: each case is a child of its own. */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cage.h"

#define END                                                                                                            \
  {                                                                                                                    \
    NULL, 0, 0,                                                                                                        \
    {                                                                                                                  \
      {                                                                                                                \
        0                                                                                                              \
      }                                                                                                                \
    }                                                                                                                  \
  }

static const BangerCageRow deny_rows[] = {
  { "getppid", EACCES, 0, { { 0 } } },
  { "socket", EPERM, 1, { { 0, SCMP_CMP_NE, AF_UNIX, 0 } } },
  { "socket", EPERM, 1, { { 1, SCMP_CMP_MASKED_EQ, 0xf, SOCK_DGRAM } } },
  { "clone3", ENOSYS, 0, { { 0 } } },
  END,
};
static const BangerCageTable deny = { 0, { deny_rows } };

/* Runs @probe below @table. Returns: what it returned, a number below 256. */
static int
below (const BangerCageTable *table, int (*probe) (void))
{
  BangerCage *cage = banger_cage_new (table);
  g_assert_nonnull (cage);
  pid_t pid = fork ();
  if (pid == 0)
    _exit (banger_cage_enter (cage) < 0 ? 255 : probe ());
  int status = 0;
  g_assert_cmpint (waitpid (pid, &status, 0), ==, pid);
  banger_cage_free (cage);
  g_assert_true (WIFEXITED (status));
  return WEXITSTATUS (status);
}

static int
error_of (long r)
{
  return r < 0 ? errno : 0;
}

static int
named (void)
{
  return error_of (syscall (SYS_getppid));
}

static int
unnamed (void)
{
  return error_of (syscall (SYS_getuid));
}

static int
unix_stream (void)
{
  return error_of (socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

static int
unix_datagram (void)
{
  return error_of (socket (AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

static int
inet_stream (void)
{
  return error_of (socket (AF_INET, SOCK_STREAM, 0));
}

/* The kernel reads an int, the filter sees the whole register. */
static int
upper_half (void)
{
  return error_of (syscall (SYS_socket, (long)AF_UNIX, SOCK_DGRAM | 0x700000000L, 0L));
}

static int
newest (void)
{
  return error_of (syscall (450, 0L, 0L, 0L, 0L)); /* set_mempolicy_home_node */
}

static int
newer (void)
{
  return error_of (syscall (451, -1L, 0L, 0L, 0L)); /* cachestat */
}

static int
far_newer (void)
{
  return error_of (syscall (100000));
}

static int
x32 (void)
{
  return error_of (syscall (0x40000000L + SYS_getuid));
}

static int
no_new_privileges (void)
{
  return prctl (PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
}

static int
grandchild (void)
{
  pid_t pid = fork ();
  if (pid == 0)
    _exit (named ());
  int status = 0;
  return waitpid (pid, &status, 0) == pid ? WEXITSTATUS (status) : 254;
}

static void
test_deny (void)
{
  g_assert_cmpint (below (&deny, named), ==, EACCES);
  g_assert_cmpint (below (&deny, unnamed), ==, 0);
  g_assert_cmpint (below (&deny, unix_stream), ==, 0);
  g_assert_cmpint (below (&deny, unix_datagram), ==, EPERM);
  g_assert_cmpint (below (&deny, inet_stream), ==, EPERM);
  g_assert_cmpint (below (&deny, upper_half), ==, EPERM);
  g_assert_cmpint (below (&deny, no_new_privileges), ==, 1);
  g_assert_cmpint (below (&deny, grandchild), ==, EACCES);
}

/* Whatever the table says: nobody has judged them. */
static void
test_newer_than_known (void)
{
  g_assert_cmpint (below (&deny, newest), !=, ENOSYS);
  g_assert_cmpint (below (&deny, newer), ==, ENOSYS);
  g_assert_cmpint (below (&deny, far_newer), ==, ENOSYS);
  g_assert_cmpint (below (&deny, x32), ==, ENOSYS);
}

static const BangerCageTable allow = { EPERM, { banger_cage_basic, banger_cage_threads } };

static int
works (void)
{
  g_autofree char *memory = g_malloc (8 << 20);
  memory[0] = 1;
  return getpid () > 0 && fcntl (0, F_GETFD) >= -1 && sched_yield () == 0 ? 0 : 1;
}

static int
opens (void)
{
  return error_of (openat (AT_FDCWD, "/dev/null", O_RDONLY));
}

static int
kills (void)
{
  return error_of (kill (getpid (), 0));
}

static int
forks (void)
{
  return error_of (syscall (SYS_clone, SIGCHLD, NULL, NULL, NULL, 0));
}

static int
forks_new (void)
{
  return error_of (syscall (SYS_clone3, NULL, 0));
}

static int
owns_signals (void)
{
  return error_of (fcntl (0, F_SETOWN, getpid ()));
}

#ifndef __SANITIZE_ADDRESS__
static gpointer
in_thread (gpointer data)
{
  return GINT_TO_POINTER (17);
}

static int
threads (void)
{
  g_autoptr (GThread) thread = g_thread_try_new ("test", in_thread, NULL, NULL);
  return thread ? GPOINTER_TO_INT (g_thread_join (g_steal_pointer (&thread))) : 1;
}
#endif

static void
test_allow (void)
{
  g_assert_cmpint (below (&allow, works), ==, 0);
#ifndef __SANITIZE_ADDRESS__ /* which needs more than a thread does */
  g_assert_cmpint (below (&allow, threads), ==, 17);
#endif
  g_assert_cmpint (below (&allow, opens), ==, EPERM);
  g_assert_cmpint (below (&allow, kills), ==, EPERM);
  g_assert_cmpint (below (&allow, forks), ==, EPERM);
  g_assert_cmpint (below (&allow, forks_new), ==, ENOSYS);
  g_assert_cmpint (below (&allow, owns_signals), ==, EPERM);
  g_assert_cmpint (below (&allow, newer), ==, ENOSYS);
}

/* "exec" allows without a condition what "basic" allows with one. */
static void
test_more_rows_allow_more (void)
{
  static const BangerCageTable table = { EPERM, { banger_cage_basic, banger_cage_exec } };
  g_assert_cmpint (below (&table, opens), ==, 0);
  g_assert_cmpint (below (&table, kills), ==, EPERM);
}

static void
test_unknown_name (void)
{
  static const BangerCageRow rows[] = { { "no_such_call", EPERM, 0, { { 0 } } }, END };
  static const BangerCageTable table = { 0, { rows } };
  errno = 0;
  g_assert_null (banger_cage_new (&table));
  g_assert_cmpint (errno, ==, ENOSYS);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/cage/deny", test_deny);
  g_test_add_func ("/cage/newer-than-known", test_newer_than_known);
  g_test_add_func ("/cage/allow", test_allow);
  g_test_add_func ("/cage/more-rows-allow-more", test_more_rows_allow_more);
  g_test_add_func ("/cage/unknown-name", test_unknown_name);
  return g_test_run ();
}

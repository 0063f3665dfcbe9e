/* A session's child, up to execve(2).
 * Called in the child alone.
 * Never reads a start-up file of a user's. */
#include "guest/command.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "guest/account.h"
#include "guest/environment.h"
#include "guest/exec.h"
#include "guest/file.h"
#include "guest/shell.h"

#define EXIT_OURS 125
#define MAX_ACCOUNTS_BYTES (4 << 20)
#define PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define TERMINAL "xterm-256color"

/* As systemd gives them to its services; the kernel's own are other ones. */
#define FILES 1024
#define MAX_FILES 524288

static char *
read_accounts (const char *path)
{
  char *text = guest_read_file (path, MAX_ACCOUNTS_BYTES);
  return text ? text : strdup ("");
}

static void
find_account (const char *who, GuestAccount *ret)
{
  char *passwd = read_accounts ("/etc/passwd"), *group = read_accounts ("/etc/group");
  if (passwd && group && guest_account_find (passwd, group, who, ret) == 0)
    return;
  fprintf (stderr, "banger-guest: there is no user '%s' in the guest\n", who);
  _exit (EXIT_OURS);
}

static void
limit_files (void)
{
  struct rlimit limit;
  if (getrlimit (RLIMIT_NOFILE, &limit) < 0)
    return;
  limit.rlim_cur = FILES;
  setrlimit (RLIMIT_NOFILE, &limit);
  limit.rlim_max = MAX_FILES;
  setrlimit (RLIMIT_NOFILE, &limit);
}

static void
leave_the_agent (const GuestRun *run, const int *fds)
{
  sigset_t none;
  setsid ();
  for (int i = 0; i < 3; i++)
    dup2 (fds[i], i);
  if (run->terminal)
    ioctl (STDIN_FILENO, TIOCSCTTY, 0);
  for (int number = 1; number < NSIG; number++)
    signal (number, SIG_DFL);
  sigemptyset (&none);
  sigprocmask (SIG_SETMASK, &none, NULL);
  umask (022);
  limit_files ();
  int fd = open ("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd >= 0 && write (fd, "0", 1) == 1)
    close (fd);
}

static void
set_environment (const GuestRun *run, const GuestAccount *account)
{
  clearenv ();
  setenv ("PATH", PATH, 1);
  guest_environment_set ();
  setenv ("HOME", account->home, 1);
  setenv ("SHELL", account->shell, 1);
  if (account->name[0] != '\0') {
    setenv ("USER", account->name, 1);
    setenv ("LOGNAME", account->name, 1);
  }
  if (run->terminal)
    setenv ("TERM", TERMINAL, 1);
  for (char **pair = run->environment; *pair; pair++)
    putenv (*pair);
  guest_set_term ();
}

static void
take_rights (const GuestRun *run, const GuestAccount *account)
{
  if (run->terminal)
    (void)!fchown (STDIN_FILENO, account->uid, (gid_t)-1);
  if (setgroups (account->n_groups, account->groups) == 0 && setresgid (account->gid, account->gid, account->gid) == 0
      && setresuid (account->uid, account->uid, account->uid) == 0)
    return;
  fprintf (stderr, "banger-guest: cannot become user %u: %s\n", (unsigned)account->uid, strerror (errno));
  _exit (EXIT_OURS);
}

static void
enter (const GuestRun *run, const GuestAccount *account)
{
  /* What is named without a slash before it is seen from there, as by ssh. */
  if ((!run->cwd || run->cwd[0] != '/') && chdir (account->home) < 0)
    (void)!chdir ("/");
  if (run->cwd && chdir (run->cwd) < 0) {
    fprintf (stderr, "banger-guest: cannot enter '%s': %s\n", run->cwd, strerror (errno));
    _exit (EXIT_OURS);
  }
}

void
guest_command_become (const GuestRun *run, const int *fds, int apart)
{
  GuestAccount account;
  leave_the_agent (run, fds);
  close (apart);
  find_account (run->user ? run->user : "root", &account);
  set_environment (run, &account);
  take_rights (run, &account);
  enter (run, &account);
  _exit (guest_exec_become (run->arguments));
}

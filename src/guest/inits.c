/* The table of inits. What each does on a signal: systemd(1), busybox's init.c, openrc-init(8), runit(8),
 * s6-svscan(1) with s6-linux-init, dinit(8), init(8) of sysvinit.
 * Never signals anything but process 1. */
#include "guest/inits.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/guest-protocol.h"
#include "guest/file.h"
#include "guest/report.h"

#define MAX_STATUS_BYTES 16384
#define OWN "banger"
#define SYSTEMD "systemd"

/* runit-init(8) does the same: process 1 looks at the modes of two files when SIGCONT comes. */
static void
prepare_runit (void)
{
  static const char *const files[] = { "/etc/runit/stopit", "/etc/runit/reboot" };
  for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
    int fd = open (files[i], O_WRONLY | O_CREAT | O_CLOEXEC, 0100);
    if (fd < 0 || fchmod (fd, 0100) < 0)
      guest_note ("cannot prepare %s: %s", files[i], strerror (errno));
    if (fd >= 0)
      close (fd);
  }
}

/* SIGINT is what the kernel sends for Ctrl-Alt-Del: a restart to most. busybox may have no line for it in its inittab,
 * and always restarts on SIGTERM. */
static const GuestInitKind kinds[] = {
  { SYSTEMD, "*/systemd", -5, NULL },
  { "busybox", "*/busybox*", SIGTERM, NULL },
  { "openrc", "*/openrc-init", SIGINT, NULL },
  { "runit", "*/runit*", SIGCONT, prepare_runit },
  { "s6", "*/s6-*", SIGINT, NULL },
  { "dinit", "*/dinit", SIGINT, NULL },
  { OWN, BANGER_GUEST_BINARY, SIGINT, NULL },
  { "other", NULL, 0, NULL },
};
#define N_KINDS (sizeof kinds / sizeof kinds[0])

const GuestInitKind *
guest_init_kind (const char *real)
{
  const GuestInitKind *kind = kinds;
  while (kind->pattern && fnmatch (kind->pattern, real, 0) != 0)
    kind++;
  return kind;
}

const GuestInitKind *
guest_init_kind_of_word (const char *word)
{
  const GuestInitKind *kind = kinds;
  while (kind->pattern && strcmp (kind->word, word) != 0)
    kind++;
  return kind;
}

int
guest_init_is_systemd (const GuestInitKind *kind)
{
  return strcmp (kind->word, SYSTEMD) == 0;
}

int
guest_init_is_own (const GuestInitKind *kind)
{
  return strcmp (kind->word, OWN) == 0;
}

static int
can_be_run (const char *path, char real[PATH_MAX])
{
  struct stat st;
  if (access (path, X_OK) < 0 || stat (path, &st) < 0 || !realpath (path, real))
    return 0;
  if (S_ISREG (st.st_mode))
    return 1;
  errno = EISDIR;
  return 0;
}

const char *
guest_find_init (const char *wanted, const GuestInitKind **ret_kind)
{
  static const char *const paths[] = { BANGER_GUEST_INITS };
  const char *found = wanted[0] != '\0' ? wanted : NULL;
  char real[PATH_MAX];
  if (found && !can_be_run (found, real))
    return NULL;
  for (size_t i = 0; i < sizeof paths / sizeof paths[0] && !found; i++)
    if (can_be_run (paths[i], real))
      found = paths[i];
  *ret_kind = guest_init_kind (found ? real : BANGER_GUEST_BINARY);
  return found ? found : BANGER_GUEST_BINARY;
}

int
guest_has_sshd (const GuestInitKind *kind)
{
  static const char *const servers[] = { BANGER_GUEST_SSH_SERVERS };
  for (size_t i = 0; i < sizeof servers / sizeof servers[0]; i++)
    if (access (servers[i], X_OK) == 0)
      return !guest_init_is_own (kind); /* which starts nothing */
  return 0;
}

int
guest_hears (const char *status, int signal)
{
  static const char *const lines[] = { "\nSigBlk:", "\nSigCgt:" }; /* blocked: it reads them from a descriptor */
  for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
    const char *line = strstr (status, lines[i]);
    if (line && strtoull (line + strlen (lines[i]), NULL, 16) >> (signal - 1) & 1)
      return 1;
  }
  return 0;
}

int
guest_ask_init_to_restart (const GuestInitKind *kind)
{
  const int choice[] = { SIGINT, SIGTERM };
  int found = kind->signal < 0 ? SIGRTMIN - kind->signal : kind->signal;
  char *status = guest_read_file ("/proc/1/status", MAX_STATUS_BYTES);
  for (size_t i = 0; status && found == 0 && i < sizeof choice / sizeof choice[0]; i++)
    if (guest_hears (status, choice[i]))
      found = choice[i];
  int heard = status && found > 0 && guest_hears (status, found);
  free (status);
  if (!heard) {
    guest_note ("process 1 (%s) hears no signal that has it restart", kind->word);
    return -1;
  }
  if (kind->prepare)
    kind->prepare ();
  if (kill (1, found) == 0)
    return 0;
  guest_note ("cannot signal process 1: %s", strerror (errno));
  return -1;
}

/* The table of what a copy must have of its own, and how each is set. Entropy comes first: nothing may draw a number before it.
 * Never goes on behind a row that failed: the host ends such a machine. */
#include "guest/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <linux/random.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/folder.h"
#include "common/guest-protocol.h"
#include "guest/clock.h"
#include "guest/configure.h"
#include "guest/devices.h"
#include "guest/file.h"
#include "guest/identity-request.h"
#include "guest/network.h"
#include "guest/ready.h"
#include "guest/relink.h"
#include "guest/report.h"
#include "guest/servers.h"

#define LOCK_FILE BANGER_GUEST_RUN_DIR "/identity.lock"
#define OWN_BOOT_ID BANGER_GUEST_RUN_DIR "/boot_id"
#define MAX_MOUNTS 8

typedef struct {
  GuestIdentity want;
  long long received_ms;
  char interface[IFNAMSIZ];
  GuestServers servers;
} Becoming;

static void
remove_matching (const char *folder, const char *pattern)
{
  banger_autofolder DIR *dir = banger_folder_open (AT_FDCWD, folder);
  for (const struct dirent *entry; (entry = banger_folder_next (dir));)
    if (fnmatch (pattern, entry->d_name, FNM_PERIOD) == 0 && unlinkat (dirfd (dir), entry->d_name, 0) < 0)
      guest_note ("cannot remove %s/%s: %s", folder, entry->d_name, strerror (errno));
  if (errno != 0 && errno != ENOENT)
    guest_warn ("cannot look for %s in %s: %s", pattern, folder, strerror (errno));
}

/* Counted, then mixed in at once: getrandom(2) of programs that run draws from the new state, too. */
static int
apply_entropy (Becoming *becoming)
{
  struct {
    struct rand_pool_info info;
    char bytes[BANGER_GUEST_MAX_ENTROPY];
  } pool = { 0 };
  size_t length = becoming->want.entropy_length;
  banger_autofd int fd = open ("/dev/urandom", O_RDWR | O_CLOEXEC);
  pool.info.entropy_count = (int)length * 8;
  pool.info.buf_size = (int)length;
  memcpy (pool.bytes, becoming->want.entropy, length);
  return fd < 0 || ioctl (fd, RNDADDENTROPY, &pool) < 0 || ioctl (fd, RNDRESEEDCRNG) < 0 ? -1 : 0;
}

static int
apply_clock (Becoming *becoming)
{
  return guest_clock_set (becoming->want.usec + (guest_now_ms () - becoming->received_ms) * 1000);
}

/* What a service would add to the pool at a later boot, or ask a network for again. */
static int
apply_leftovers (Becoming *becoming)
{
  static const struct {
    const char *folder, *pattern;
  } rows[] = {
    { "/var/lib/systemd", "random-seed" }, { "/var/lib/urandom", "random-seed" },
    { "/var/lib/dhcp", "*.lease*" },       { "/var/lib/dhclient", "*.lease*" },
    { "/var/lib/dhcpcd", "*.lease*" },     { "/var/lib/NetworkManager", "*.lease" },
    { "/run/systemd/netif/leases", "*" },
  };
  (void)becoming;
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
    remove_matching (rows[i].folder, rows[i].pattern);
  return 0;
}

static int
apply_names (Becoming *becoming)
{
  return guest_configure_names (&becoming->want.settings);
}

static int
apply_machine_id (Becoming *becoming)
{
  return guest_configure_machine_id (&becoming->want.settings);
}

/* The kernel has no call for it: a file lies over its own, as in containers. */
static int
apply_boot_id (Becoming *becoming)
{
  char text[sizeof becoming->want.boot_id + 1], now[64];
  for (int i = 0; i < MAX_MOUNTS && umount2 (GUEST_BOOT_ID_FILE, MNT_DETACH) == 0; i++)
    continue;
  snprintf (text, sizeof text, "%s\n", becoming->want.boot_id);
  if (guest_make_dirs (BANGER_GUEST_RUN_DIR) < 0 || guest_write_file (OWN_BOOT_ID, text, 0444) < 0
      || mount (OWN_BOOT_ID, GUEST_BOOT_ID_FILE, NULL, MS_BIND, NULL) < 0
      || mount (NULL, GUEST_BOOT_ID_FILE, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
                NULL)
             < 0
      || guest_read_word (GUEST_BOOT_ID_FILE, now, sizeof now) < 0)
    return -1;
  errno = EIO;
  return strcmp (now, becoming->want.boot_id) == 0 ? 0 : -1;
}

static int
apply_keys (Becoming *becoming)
{
  return guest_configure_keys (&becoming->want.keys);
}

/* It has its keys, and reads them while the rest is done. */
static int
apply_ssh_server (Becoming *becoming)
{
  return guest_servers_begin (&becoming->servers);
}

/* Before the network is up nobody can see the old key. */
static int
apply_servers (Becoming *becoming)
{
  return guest_servers_reload (&becoming->servers);
}

/* What a service that is started again reads is there before. */
static int
apply_network_files (Becoming *becoming)
{
  const GuestSettings *settings = &becoming->want.settings;
  if (guest_net_find (settings->mac, becoming->interface, sizeof becoming->interface) < 0
      && guest_net_find_own (becoming->interface, sizeof becoming->interface) < 0)
  {
    errno = ENODEV;
    return -1;
  }
  return guest_configure_network (settings, becoming->interface);
}

static int
apply_link (Becoming *becoming)
{
  return guest_unlink (becoming->interface);
}

static int
apply_network (Becoming *becoming)
{
  return guest_network_set (&becoming->want.settings, becoming->interface);
}

static const struct {
  const char *name;
  int of_new; /* not for a machine that stays who it is */
  int (*apply) (Becoming *becoming);
} rows[] = {
  { "entropy", 0, apply_entropy },
  { "clock", 0, apply_clock },
  { "keys", 1, apply_keys },
  { "ssh server", 1, apply_ssh_server },
  { "host name", 1, apply_names },
  { "machine id", 1, apply_machine_id },
  { "boot id", 1, apply_boot_id },
  { "leases", 1, apply_leftovers },
  { "network files", 1, apply_network_files },
  { "link", 1, apply_link },
  { "servers", 1, apply_servers },
  { "network", 1, apply_network },
};

static void
say (const GuestSession *session, const char *text)
{
  char line[BANGER_GUEST_MAX_LINE / 8];
  int length = snprintf (line, sizeof line, "%s %s\n", session->token, text);
  if (send (session->control, line, (size_t)length, MSG_NOSIGNAL) < 0)
    guest_note ("the host has left before it knew who this is: %s", strerror (errno));
}

static void
fail (const GuestSession *session, const char *what, const char *why)
{
  char text[256];
  guest_warn ("this machine cannot become another: %s: %s", what, why);
  snprintf (text, sizeof text, "error %s: %s", what, why);
  say (session, text);
  _exit (1);
}

/* Returns: what is held. */
static int
be_alone (const GuestSession *session)
{
  int fd = open (LOCK_FILE, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0 || flock (fd, LOCK_EX | LOCK_NB) < 0)
    fail (session, "lock", strerror (errno));
  return fd;
}

/* A restored guest does much at once that can wait. Without the right to it, it waits its turn. */
static void
be_first (int first)
{
  const struct sched_param priority = { .sched_priority = first ? 1 : 0 };
  if (sched_setscheduler (0, (first ? SCHED_FIFO : SCHED_OTHER) | SCHED_RESET_ON_FORK, &priority) < 0)
    guest_note ("this takes its turn: %s", strerror (errno));
}

/* The network is there, and its ssh server comes: who needs that waits until the agent says again that it is ready. */
__attribute__ ((noreturn)) static void
finish (const GuestSession *session, const Becoming *becoming, const char *text, int lock)
{
  if (becoming->want.is_new && guest_ready_tell (GUEST_TELLS_WAIT) < 0)
    fail (session, "agent", strerror (errno));
  say (session, text);
  be_first (0);
  close (lock);
  close (session->control);
  if (becoming->want.is_new
      && (guest_servers_wait (&becoming->servers) < 0 || guest_ready_tell (GUEST_TELLS_READY) < 0))
    guest_warn ("ssh: %s", strerror (errno));
  _exit (0);
}

void
guest_identity_main (const GuestSession *session)
{
  static Becoming becoming;
  char problem[160], text[128], id[64] = "";
  const int kept[] = { session->control };
  becoming.received_ms = guest_now_ms ();
  prctl (PR_SET_NAME, "banger-identity");
  guest_close_all_but (kept, 1);
  char *body = malloc (session->request_length);
  if (!body || guest_session_read (session, body) < 0)
    fail (session, "request", "it did not come");
  if (guest_identity_parse (body, session->request_length, &becoming.want, problem, sizeof problem) < 0)
    fail (session, "request", problem);
  int lock = be_alone (session);
  be_first (1);
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
    if ((becoming.want.is_new || !rows[i].of_new) && rows[i].apply (&becoming) < 0)
      fail (session, rows[i].name, strerror (errno));
  if (guest_read_word (GUEST_BOOT_ID_FILE, id, sizeof id) < 0)
    fail (session, "boot id", strerror (errno));
  guest_note ("this machine is %s, %lld ms after it was asked",
              becoming.want.is_new ? becoming.want.settings.hostname : "who it was",
              guest_now_ms () - becoming.received_ms);
  snprintf (text, sizeof text, "ok %s %lld", id, guest_clock_usec ());
  finish (session, &becoming, text, lock);
}

/* Writing of the image's files, each only if it differs.
 * Never leaves a host key that the manager did not make. */
#include "guest/configure.h"

#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/folder.h"
#include "common/guest-protocol.h"
#include "guest/cover.h"
#include "guest/devices.h"
#include "guest/file.h"
#include "guest/fstab.h"
#include "guest/report.h"
#include "guest/text.h"

#define MAX_TEXT_BYTES (4 << 20)
#define UNIT_DIR "/run/systemd/system"
#define READY_UNIT "banger-ready.service"
#define FSTAB_UNIT "banger-fstab.service"

static int
fail (const char *path)
{
  int saved = errno;
  guest_warn ("cannot write %s: %s", path, strerror (saved));
  errno = saved;
  return -1;
}

/* Takes @text. */
static int
put (const char *path, char *text, mode_t mode)
{
  int r = !text ? -1 : guest_write_file (path, text, mode);
  int saved = errno;
  free (text);
  errno = saved;
  return r < 0 ? fail (path) : 0;
}

/* A file that cannot be read whole is left alone: what is in it is not ours to lose. @hostname (nullable): as it was. */
static int
configure_hosts (const char *hostname, const char *names)
{
  char *old = guest_read_file ("/etc/hosts", MAX_TEXT_BYTES);
  if (!old && errno != ENOENT) {
    guest_warn ("/etc/hosts is left as it is, it cannot be read: %s", strerror (errno));
    return hostname ? 0 : -1;
  }
  char *hosts = hostname ? guest_text_hosts (old, hostname, names) : guest_text_names (old, names);
  free (old);
  return put ("/etc/hosts", hosts, 0644);
}

int
guest_configure_reach (const char *names)
{
  return configure_hosts (NULL, names);
}

int
guest_configure_names (const GuestSettings *settings)
{
  char line[80];
  if (sethostname (settings->hostname, strlen (settings->hostname)) < 0)
    return fail ("the host name");
  snprintf (line, sizeof line, "%s\n", settings->hostname);
  if (put ("/etc/hostname", strdup (line), 0644) < 0)
    return -1;
  return configure_hosts (settings->hostname, settings->names);
}

/* D-Bus has a file of its own where it is older than systemd's. */
int
guest_configure_machine_id (const GuestSettings *settings)
{
  static const char dbus[] = "/var/lib/dbus/machine-id";
  char line[80];
  struct stat st;
  if (settings->machine_id[0] == '\0')
    return 0;
  snprintf (line, sizeof line, "%s\n", settings->machine_id);
  if (lstat (dbus, &st) == 0 && S_ISREG (st.st_mode) && put (dbus, strdup (line), 0444) < 0)
    return -1;
  return put ("/etc/machine-id", strdup (line), 0444);
}

static void
remove_other_host_keys (void)
{
  banger_autofolder DIR *dir = banger_folder_open (AT_FDCWD, "/etc/ssh");
  for (const struct dirent *entry; (entry = banger_folder_next (dir));)
    if (fnmatch ("ssh_host_*key*", entry->d_name, 0) == 0
        && strncmp (entry->d_name, "ssh_host_ed25519_key", strlen ("ssh_host_ed25519_key")) != 0
        && unlinkat (dirfd (dir), entry->d_name, 0) < 0)
      guest_warn ("cannot remove /etc/ssh/%s: %s", entry->d_name, strerror (errno));
  if (errno != 0)
    guest_warn ("cannot look for other host keys in /etc/ssh: %s", strerror (errno));
}

static int
configure_host_key (const GuestKeys *keys)
{
  if (!keys->host_key)
    return 0;
  if (guest_make_dirs ("/etc/ssh") < 0)
    return fail ("/etc/ssh");
  remove_other_host_keys ();
  unlink ("/etc/ssh/ssh_host_ed25519_key-cert.pub");
  if (put ("/etc/ssh/ssh_host_ed25519_key", strdup (keys->host_key), 0600) < 0)
    return -1;
  return put ("/etc/ssh/ssh_host_ed25519_key.pub", strdup (keys->host_key_public ? keys->host_key_public : ""), 0644);
}

/* sshd's StrictModes wants each directory on the way to be root's and not writable by others. */
static int
make_private_dir (const char *path)
{
  struct stat st;
  if (mkdir (path, 0700) < 0 && errno != EEXIST)
    return fail (path);
  if (lstat (path, &st) < 0 || !S_ISDIR (st.st_mode)) {
    guest_warn ("%s in the image is not a directory", path);
    return -1;
  }
  if ((st.st_uid != 0 && chown (path, 0, 0) < 0) || ((st.st_mode & 022) != 0 && chmod (path, st.st_mode & 07755) < 0))
    return fail (path);
  return 0;
}

static int
configure_login (const GuestKeys *keys)
{
  if (!keys->authorized_keys)
    return 0;
  if (make_private_dir ("/root") < 0 || make_private_dir ("/root/.ssh") < 0)
    return -1;
  char *old = guest_read_file ("/root/.ssh/authorized_keys", MAX_TEXT_BYTES);
  if (!old && errno != ENOENT)
    return fail ("/root/.ssh/authorized_keys");
  char *text = guest_text_authorized_keys (old, keys->authorized_keys);
  free (old);
  return put ("/root/.ssh/authorized_keys", text, 0600);
}

/* A second name of root's, whose shell is this program: what root's own shell reads at its start prints into a
 * command's output, or ends it. */
static int
configure_account (void)
{
  char *old = guest_read_file ("/etc/passwd", MAX_TEXT_BYTES);
  if (!old && errno != ENOENT)
    return fail ("/etc/passwd");
  char *text = guest_text_passwd (old ? old : "root:*:0:0:root:/root:/bin/sh\n");
  free (old);
  if (put ("/etc/passwd", text, 0644) < 0)
    return -1;
  return symlink (BANGER_GUEST_BINARY, BANGER_GUEST_SHELL) < 0 && errno != EEXIST ? fail (BANGER_GUEST_SHELL) : 0;
}

/* A resolv.conf that is a link into /run belongs to a resolver of the image: it finds our servers there until that
 * resolver writes its own. */
static void
resolv_conf_path (char *path, size_t size)
{
  char target[PATH_MAX];
  snprintf (path, size, "/etc/resolv.conf");
  ssize_t n = readlink (path, target, sizeof target - 1);
  if (n <= 0)
    return;
  target[n] = '\0';
  const char *absolute = strncmp (target, "../run/", 7) == 0 ? target + 2 : target;
  if (strncmp (absolute, "/run/", 5) == 0 && !strstr (absolute, "/.."))
    snprintf (path, size, "%s", absolute);
}

static void
configure_resolver (const GuestSettings *settings)
{
  if (settings->n_dns == 0)
    return;
  char path[PATH_MAX], folder[PATH_MAX];
  resolv_conf_path (path, sizeof path);
  snprintf (folder, sizeof folder, "%s", path);
  *strrchr (folder, '/') = '\0';
  if (guest_make_dirs (folder) < 0)
    fail (folder);
  else
    put (path, guest_text_resolv_conf (settings), 0644);
}

static int
put_below (const char *folder, const char *name, char *text)
{
  char path[PATH_MAX];
  if (guest_make_dirs (folder) < 0) {
    free (text);
    return fail (folder);
  }
  snprintf (path, sizeof path, "%s/%s", folder, name);
  return put (path, text, 0644);
}

/* ifup(8) reads one file, older versions the other. */
static int
configure_ifupdown (const char *interface)
{
  char own[IFNAMSIZ + 16], line[IFNAMSIZ + 2];
  snprintf (own, sizeof own, "ifstate.%s", interface);
  snprintf (line, sizeof line, "%s\n", interface);
  if (put_below ("/run/network", "ifstate", guest_text_ifstate (interface)) < 0)
    return -1;
  return put_below ("/run/network", own, strdup (line));
}

/* Each network service that an image may run is told that this interface is as it should be. */
int
guest_configure_network (const GuestSettings *settings, const char *name)
{
  configure_resolver (settings);
  if (settings->address.s_addr == 0 || name[0] == '\0')
    return 0;
  if (put_below ("/run/systemd/network", "05-banger.network", guest_text_networkd (settings)) < 0
      || put_below ("/run/systemd/network", "05-banger.link", guest_text_networkd_link (settings)) < 0
      || put_below ("/run/NetworkManager/conf.d", "05-banger.conf", guest_text_network_manager (settings)) < 0)
    return -1;
  return configure_ifupdown (name);
}

/* systemd tells when it is done with it; elsewhere the agent does this when ssh answers. */
static void
uncover_fstab_after_mounts (void)
{
  static const char folder[] = UNIT_DIR "/local-fs.target.wants";
  static const char unit[] = "[Unit]\n"
                             "Description=Show the image's own /etc/fstab again\n"
                             "DefaultDependencies=no\n"
                             "After=local-fs.target swap.target systemd-remount-fs.service\n\n"
                             "[Service]\n"
                             "Type=oneshot\n"
                             "ExecStart=" BANGER_GUEST_BINARY " fstab\n";
  if (put_below (UNIT_DIR, FSTAB_UNIT, strdup (unit)) < 0)
    return;
  if (guest_make_dirs (folder) < 0
      || (symlink (UNIT_DIR "/" FSTAB_UNIT, UNIT_DIR "/local-fs.target.wants/" FSTAB_UNIT) < 0 && errno != EEXIST))
    fail (folder);
}

static int
configure_ready_unit (void)
{
  static const char unit[] = "[Unit]\n"
                             "Description=Tell banger that ssh answers\n"
                             "After=ssh.service sshd.service ssh.socket sshd.socket\n\n"
                             "[Service]\n"
                             "Type=oneshot\n"
                             "ExecStart=" BANGER_GUEST_BINARY " ready\n";
  static const char *const wanted_by[] = { "ssh.service", "sshd.service", "ssh.socket", "sshd.socket" };

  if (put_below (UNIT_DIR, READY_UNIT, strdup (unit)) < 0)
    return -1;
  for (size_t i = 0; i < sizeof wanted_by / sizeof wanted_by[0]; i++) {
    char folder[128], path[192];
    snprintf (folder, sizeof folder, UNIT_DIR "/%s.wants", wanted_by[i]);
    snprintf (path, sizeof path, "%s/" READY_UNIT, folder);
    if (guest_make_dirs (folder) < 0 || (symlink (UNIT_DIR "/" READY_UNIT, path) < 0 && errno != EEXIST))
      return fail (path);
  }
  return 0;
}

/* A disk that never comes would be waited for. */
static int
has_idle_crypttab (const char *path)
{
  char *text = strcmp (path, "/etc/crypttab") == 0 ? guest_read_file (path, MAX_TEXT_BYTES) : NULL;
  int idle = text && guest_crypttab_idle (text, guest_disk_look, NULL);
  free (text);
  return idle;
}

/* systemd starts its generators at every boot; one that has nothing to read is masked for this one
 * (systemd.generator(7)). Those without a file read the kernel's command line, which is banger's, or partitions and
 * firmware, which no VM has. */
static int
mask_idle_generators (void)
{
  static const char folder[] = "/run/systemd/system-generators";
  static const struct {
    const char *name, *reads;
  } generators[] = {
    { "bless-boot", NULL },
    { "cryptsetup", "/etc/crypttab" },
    { "debug", NULL },
    { "gpt-auto", NULL },
    { "hibernate-resume", NULL },
    { "integritysetup", "/etc/integritytab" },
    { "rc-local", "/etc/rc.local" },
    { "run", NULL },
    { "system-update", "/system-update" },
    { "veritysetup", "/etc/veritytab" },
  };
  struct stat st;
  if (guest_make_dirs (folder) < 0)
    return fail (folder);
  for (size_t i = 0; i < sizeof generators / sizeof generators[0]; i++) {
    char path[96];
    snprintf (path, sizeof path, "%s/systemd-%s-generator", folder, generators[i].name);
    if (generators[i].reads && lstat (generators[i].reads, &st) == 0 && !has_idle_crypttab (generators[i].reads))
      continue;
    if (symlink ("/dev/null", path) < 0 && errno != EEXIST)
      return fail (path);
  }
  return 0;
}

/* What programs take for granted and an image of a few files has not. */
static void
make_tmp (void)
{
  struct stat st;
  if (stat ("/tmp", &st) == 0)
    return;
  if (lstat ("/tmp", &st) == 0 && S_ISLNK (st.st_mode)) { /* to a folder that was not packed along */
    char target[PATH_MAX];
    ssize_t n = readlink ("/tmp", target, sizeof target - 1);
    target[n > 0 ? n : 0] = '\0';
    if (chdir ("/") < 0 || guest_make_dirs (target) < 0 || chmod (target, 01777) < 0)
      fail ("/tmp");
  } else if (mkdir ("/tmp", 0700) < 0 || chmod ("/tmp", 01777) < 0)
    fail ("/tmp");
}

int
guest_configure_keys (const GuestKeys *keys)
{
  return configure_host_key (keys) < 0 || configure_login (keys) < 0 ? -1 : 0;
}

/* Without them nobody gets in by ssh; without an ssh server they are for nobody. */
static int
configure_ssh (const GuestKeys *keys)
{
  return guest_configure_keys (keys) < 0 || configure_account () < 0 ? -1 : 0;
}

int
guest_configure_image (const GuestSettings *settings, const GuestKeys *keys, const GuestInitKind *init, int has_sshd)
{
  int is_systemd = guest_init_is_systemd (init);
  char interface[IFNAMSIZ] = "";
  guest_cover_if_unwritable ("/etc");
  guest_cover_if_unwritable ("/root");
  if (guest_make_dirs ("/etc") < 0)
    return fail ("/etc");
  if (configure_ssh (keys) < 0 && has_sshd)
    return -1;
  /* A machine without its name or name servers is worth more than none: what failed is on the console. */
  make_tmp ();
  guest_configure_names (settings);
  guest_configure_machine_id (settings);
  if (settings->mac[0] != '\0' && guest_net_find (settings->mac, interface, sizeof interface) < 0)
    interface[0] = '\0';
  guest_configure_network (settings, interface);
  if (!guest_init_is_own (init) && guest_fstab_cover (settings->root, is_systemd) > 0 && is_systemd)
    uncover_fstab_after_mounts ();
  if (is_systemd && configure_ready_unit () == 0)
    mask_idle_generators ();
  return 0;
}

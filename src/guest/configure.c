/* Writing of the image's files, each only if it differs.
 * Called by the start-up code inside the new root.
 * Never leaves a host key that the manager did not make. */
#include "guest/configure.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/guest-protocol.h"
#include "guest/devices.h"
#include "guest/file.h"
#include "guest/report.h"
#include "guest/text.h"

#define MAX_TEXT_BYTES (4 << 20)
#define UNIT_DIR "/run/systemd/system"
#define READY_UNIT "banger-ready.service"

static int
fail (const char *path)
{
  guest_warn ("cannot write %s: %s", path, strerror (errno));
  return -1;
}

/* Takes @text. */
static int
put (const char *path, char *text, mode_t mode)
{
  int r = text == NULL ? -1 : guest_write_file (path, text, mode);
  int saved = errno;
  free (text);
  errno = saved;
  return r < 0 ? fail (path) : 0;
}

/* A file that cannot be read whole is left alone: what is in it is not ours to lose. */
static int
configure_hosts (const GuestSettings *settings)
{
  char *old = guest_read_file ("/etc/hosts", MAX_TEXT_BYTES);
  if (old == NULL && errno != ENOENT) {
    guest_warn ("/etc/hosts is left as it is, it cannot be read: %s", strerror (errno));
    return 0;
  }
  char *hosts = guest_text_hosts (old, settings->hostname);
  free (old);
  return put ("/etc/hosts", hosts, 0644);
}

static int
configure_names (const GuestSettings *settings)
{
  char line[80];
  if (sethostname (settings->hostname, strlen (settings->hostname)) < 0)
    return fail ("the host name");
  snprintf (line, sizeof line, "%s\n", settings->hostname);
  if (put ("/etc/hostname", strdup (line), 0644) < 0)
    return -1;
  if (configure_hosts (settings) < 0)
    return -1;
  if (settings->machine_id[0] == '\0')
    return 0;
  snprintf (line, sizeof line, "%s\n", settings->machine_id);
  return put ("/etc/machine-id", strdup (line), 0444);
}

static void
remove_other_host_keys (void)
{
  DIR *dir = opendir ("/etc/ssh");
  if (dir == NULL)
    return;
  for (struct dirent *entry = readdir (dir); entry != NULL; entry = readdir (dir))
    if (fnmatch ("ssh_host_*key*", entry->d_name, 0) == 0
        && strncmp (entry->d_name, "ssh_host_ed25519_key", strlen ("ssh_host_ed25519_key")) != 0
        && unlinkat (dirfd (dir), entry->d_name, 0) < 0)
      guest_warn ("cannot remove /etc/ssh/%s: %s", entry->d_name, strerror (errno));
  closedir (dir);
}

static int
configure_host_key (const GuestKeys *keys)
{
  if (keys->host_key == NULL)
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
  if (keys->authorized_keys == NULL)
    return 0;
  if (make_private_dir ("/root") < 0 || make_private_dir ("/root/.ssh") < 0)
    return -1;
  char *old = guest_read_file ("/root/.ssh/authorized_keys", MAX_TEXT_BYTES);
  if (old == NULL && errno != ENOENT)
    return fail ("/root/.ssh/authorized_keys");
  char *text = guest_text_authorized_keys (old, keys->authorized_keys);
  free (old);
  return put ("/root/.ssh/authorized_keys", text, 0600);
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
  if (strncmp (absolute, "/run/", 5) == 0 && strstr (absolute, "/..") == NULL)
    snprintf (path, size, "%s", absolute);
}

static int
configure_resolver (const GuestSettings *settings)
{
  if (settings->n_dns == 0)
    return 0;
  char path[PATH_MAX], folder[PATH_MAX];
  resolv_conf_path (path, sizeof path);
  snprintf (folder, sizeof folder, "%s", path);
  *strrchr (folder, '/') = '\0';
  if (guest_make_dirs (folder) < 0)
    return fail (folder);
  return put (path, guest_text_resolv_conf (settings), 0644);
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
static int
configure_network_services (const GuestSettings *settings)
{
  char name[IFNAMSIZ];
  if (settings->address.s_addr == 0 || guest_net_find (settings->mac, name, sizeof name) < 0)
    return 0;
  if (put_below ("/run/systemd/network", "05-banger.network", guest_text_networkd (settings)) < 0
      || put_below ("/run/systemd/network", "05-banger.link", guest_text_networkd_link (settings)) < 0
      || put_below ("/run/NetworkManager/conf.d", "05-banger.conf", guest_text_network_manager (settings)) < 0)
    return -1;
  return configure_ifupdown (name);
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
    if (generators[i].reads != NULL && lstat (generators[i].reads, &st) == 0)
      continue;
    if (symlink ("/dev/null", path) < 0 && errno != EEXIST)
      return fail (path);
  }
  return 0;
}

int
guest_configure_image (const GuestSettings *settings, const GuestKeys *keys, int is_systemd)
{
  if (guest_make_dirs ("/etc") < 0)
    return fail ("/etc");
  if (configure_names (settings) < 0 || configure_host_key (keys) < 0 || configure_login (keys) < 0
      || configure_resolver (settings) < 0 || configure_network_services (settings) < 0)
    return -1;
  return is_systemd && (configure_ready_unit () < 0 || mask_idle_generators () < 0) ? -1 : 0;
}

/* The start-up steps, in order; each either works or ends the machine with a line on the console.
 * Never waits without an end: a watchdog covers what has no bound of its own. */
#include "guest/start.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/guest-protocol.h"
#include "guest/agent.h"
#include "guest/configure.h"
#include "guest/devices.h"
#include "guest/disks.h"
#include "guest/file.h"
#include "guest/keeper.h"
#include "guest/modules.h"
#include "guest/network.h"
#include "guest/own-init.h"
#include "guest/report.h"
#include "guest/settings.h"
#include "guest/switch-root.h"

#define NEW_ROOT "/new-root"
#define START_SECONDS 90
#define MAX_CONFIG_BYTES 65536
#define VSOCK_MODULE "vsock.ko"

static const char *step = "mounting /dev";

static void
mount_kernel_filesystems (void)
{
  static const struct {
    const char *type, *target;
    unsigned long flags;
    const char *options;
  } mounts[] = {
    { "devtmpfs", "/dev", MS_NOSUID, "mode=0755" },
    { "proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL },
    { "sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL },
    { "tmpfs", "/run", MS_NOSUID | MS_NODEV | MS_STRICTATIME, "mode=0755,size=20%,nr_inodes=800k" },
  };
  for (size_t i = 0; i < sizeof mounts / sizeof mounts[0]; i++) {
    mkdir (mounts[i].target, 0755);
    if (mount (mounts[i].type, mounts[i].target, mounts[i].type, mounts[i].flags, mounts[i].options) < 0)
      guest_die ("cannot mount %s: %s", mounts[i].target, strerror (errno));
  }
}

/* The image's init expects three open descriptors. */
static void
open_console (void)
{
  int fd = open ("/dev/console", O_RDWR | O_NOCTTY);
  if (fd < 0)
    fd = open ("/dev/null", O_RDWR);
  for (int target = 0; fd >= 0 && target < 3; target++)
    if (fd != target)
      dup2 (fd, target);
  if (fd > 2)
    close (fd);
}

static void
read_settings (GuestSettings *settings, GuestKeys *keys)
{
  char problem[128];
  char *text = guest_read_file (BANGER_GUEST_CONFIG_FILE, MAX_CONFIG_BYTES);
  if (!text)
    guest_die ("cannot read " BANGER_GUEST_CONFIG_FILE ": %s", strerror (errno));
  if (guest_settings_parse (text, settings, problem, sizeof problem) < 0)
    guest_die (BANGER_GUEST_CONFIG_FILE ": %s", problem);
  free (text);
  keys->authorized_keys = guest_read_file (BANGER_GUEST_AUTHORIZED_KEYS, MAX_CONFIG_BYTES);
  keys->host_key = guest_read_file (BANGER_GUEST_HOST_KEY, MAX_CONFIG_BYTES);
  keys->host_key_public = guest_read_file (BANGER_GUEST_HOST_KEY ".pub", MAX_CONFIG_BYTES);
}

/* The agent listens before the transport is there, so that no connection of the host is refused for being early. */
static void
listen_once (const char *file, void *data)
{
  int *listener = data;
  if (*listener < 0 && strcmp (file, VSOCK_MODULE) == 0)
    *listener = guest_agent_listen ();
}

static int
load_modules (void)
{
  static const unsigned vsock_device[] = { 19, 0 };
  int listener = -1;
  guest_modules_load (BANGER_GUEST_MODULES_DIR, listen_once, &listener);
  if (listener < 0 && guest_virtio_present (vsock_device))
    listener = guest_agent_listen (); /* built into the kernel */
  return listener;
}

static void
keep_own_binary (void)
{
  if (guest_make_dirs (BANGER_GUEST_RUN_DIR) < 0 || guest_copy_file ("/proc/self/exe", BANGER_GUEST_BINARY, 0755) < 0)
    guest_die ("cannot write " BANGER_GUEST_BINARY ": %s", strerror (errno));
}

/* What an init makes first, if it does: a terminal needs it. systemd is particular about its own. */
static void
mount_for_programs (int init_is_own)
{
  static const struct {
    const char *type, *target;
    mode_t mode;
    const char *options;
    int only_own;
  } mounts[] = {
    { "devpts", "/dev/pts", 0755, "gid=5,mode=620,ptmxmode=666", 0 },
    { "tmpfs", "/dev/shm", 01777, "mode=1777", 0 },
    { "cgroup2", "/sys/fs/cgroup", 0755, NULL, 1 },
  };
  for (size_t i = 0; i < sizeof mounts / sizeof mounts[0]; i++) {
    if (mounts[i].only_own && !init_is_own)
      continue;
    mkdir (mounts[i].target, mounts[i].mode);
    if (mount (mounts[i].type, mounts[i].target, mounts[i].type, MS_NOSUID, mounts[i].options) < 0)
      guest_note ("cannot mount %s: %s", mounts[i].target, strerror (errno));
  }
}

typedef struct {
  const char *path;
  const GuestInitKind *kind;
  int has_sshd;
} Image;

static void
enter_image (const GuestSettings *settings, const GuestKeys *keys, Image *ret)
{
  step = "changing to the image";
  keep_own_binary ();
  if (guest_switch_root (NEW_ROOT) < 0)
    guest_die ("no root");
  ret->path = guest_find_init (settings->init, &ret->kind);
  if (!ret->path)
    guest_die ("the init %s that is asked for cannot be run: %s", settings->init, strerror (errno));
  ret->has_sshd = guest_has_sshd (ret->kind);
  if (!guest_init_is_systemd (ret->kind))
    mount_for_programs (guest_init_is_own (ret->kind));
  if (guest_configure_image (settings, keys, ret->kind, ret->has_sshd) < 0)
    guest_die ("the image cannot be configured");
}

static void
become_init (const Image *image, char **environment)
{
  static char command[] = GUEST_INIT_COMMAND;
  char *arguments[] = { (char *)image->path, guest_init_is_own (image->kind) ? command : NULL, NULL };
  guest_note ("%s takes over", image->path);
  guest_stop_watchdog ();
  execve (image->path, arguments, environment);
  guest_die ("cannot run %s: %s", image->path, strerror (errno));
}

void
guest_start (char **environment)
{
  GuestSettings settings = { 0 };
  GuestKeys keys = { 0 };
  umask (022);
  guest_start_watchdog (START_SECONDS, &step);
  mount_kernel_filesystems ();
  open_console ();
  guest_note ("started");

  step = "reading its configuration";
  read_settings (&settings, &keys);
  int uevents_fd = guest_uevents_open ();
  if (uevents_fd < 0)
    guest_die ("cannot listen for device events: %s", strerror (errno));

  step = "loading modules";
  int listener = load_modules ();
  guest_note ("modules are loaded");

  step = "setting up the network";
  if (guest_network_up (&settings, uevents_fd) < 0)
    guest_die ("no network");

  step = "mounting disks";
  mkdir (NEW_ROOT, 0755);
  if (guest_disks_mount (&settings, NEW_ROOT, uevents_fd) < 0)
    guest_die ("no disks");
  close (uevents_fd);
  guest_note ("disks are mounted");

  Image image = { 0 };
  enter_image (&settings, &keys, &image);

  step = "starting the agent";
  const GuestAgentOptions options = { listener, image.kind, !image.has_sshd, settings.boot_token };
  if (guest_agent_spawn (&options) < 0)
    guest_die ("cannot start the agent: %s", strerror (errno));
  become_init (&image, environment);
  __builtin_unreachable ();
}

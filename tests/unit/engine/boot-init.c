/* First process of the guest in test_boot.py: says what the machine looks like, echoes on the agent's port.
 * Runs in an initramfs that also holds a kernel's /modules.
 * Never mounts a disk. */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/mux.h"

#include <linux/vm_sockets.h>

static void
restart (int number)
{
  (void)number;
  static const char text[] = "FACT ctrl-alt-del=1\n";
  ssize_t n = write (STDOUT_FILENO, text, sizeof text - 1);
  (void)n;
  reboot (RB_AUTOBOOT);
}

static int listener = -1;

/* Before the transport is there, so that an early connection finds somebody. */
static void
listen_vsock (void)
{
  struct sockaddr_vm address = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = 1024 };
  listener = socket (AF_VSOCK, SOCK_STREAM, 0);
  if (listener >= 0 && (bind (listener, (struct sockaddr *)&address, sizeof address) < 0 || listen (listener, 4) < 0))
    printf ("vsock: %m\n");
}

static void
load_modules (void)
{
  char line[256], path[300];
  FILE *order = fopen ("/modules/order", "r");
  while (order != NULL && fgets (line, sizeof line, order) != NULL) {
    line[strcspn (line, " \n")] = '\0';
    snprintf (path, sizeof path, "/modules/%s", line);
    if (strcmp (line, "vmw_vsock_virtio_transport.ko") == 0)
      listen_vsock ();
    int fd = open (path, O_RDONLY);
    if (fd >= 0 && syscall (SYS_finit_module, fd, "", 0) < 0)
      printf ("module %s: %m\n", line);
    close (fd);
  }
}

static void
show_file (const char *name, const char *path)
{
  char text[2048] = "";
  int fd = open (path, O_RDONLY);
  ssize_t n = fd >= 0 ? read (fd, text, sizeof text - 1) : -1;
  text[n > 0 ? n : 0] = '\0';
  text[strcspn (text, "\n")] = '\0';
  printf ("FACT %s=%s\n", name, text);
  close (fd);
}

static int
open_agent_port (void)
{
  char path[400], name[64];
  for (int i = 0; i < 50; i++, usleep (20000)) {
    DIR *ports = opendir ("/sys/class/virtio-ports");
    struct dirent *entry;
    while (ports != NULL && (entry = readdir (ports)) != NULL) {
      snprintf (path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name);
      int fd = open (path, O_RDONLY);
      ssize_t n = fd >= 0 ? read (fd, name, sizeof name - 1) : -1;
      close (fd);
      if (n <= 0 || strncmp (name, "org.banger.agent.0", strlen ("org.banger.agent.0")) != 0)
        continue;
      snprintf (path, sizeof path, "/dev/%s", entry->d_name);
      return open (path, O_RDWR | O_NONBLOCK);
    }
  }
  return -1;
}

static int stream = -1; /* the last one of the port's */

static int
accept_stream (void *data)
{
  int ends[2];
  if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) < 0)
    return -1;
  stream = ends[0];
  return ends[1];
}

int
main (void)
{
  static const BangerMuxCalls calls = { .opened = accept_stream };
  char data[512], answer[600];
  mkdir ("/proc", 0755);
  mkdir ("/sys", 0755);
  mkdir ("/dev", 0755);
  mount ("proc", "/proc", "proc", 0, NULL);
  mount ("sys", "/sys", "sysfs", 0, NULL);
  mount ("dev", "/dev", "devtmpfs", 0, NULL);
  setvbuf (stdout, NULL, _IOLBF, 0);
  reboot (RB_DISABLE_CAD);
  signal (SIGINT, restart);
  load_modules ();
  int port = open_agent_port ();
  show_file ("cmdline", "/proc/cmdline");
  show_file ("vda", "/sys/block/vda/size");
  show_file ("vdb", "/sys/block/vdb/size");
  show_file ("vdb-ro", "/sys/block/vdb/ro");
  show_file ("mac", "/sys/class/net/eth0/address");
  show_file ("mtu", "/sys/class/net/eth0/mtu");
  printf ("FACT cpus=%ld\nFACT epoch=%lld\nFACT port=%d\nFACT ready=1\n", sysconf (_SC_NPROCESSORS_ONLN),
          (long long)time (NULL), port >= 0);
  BangerMux *mux = port >= 0 ? banger_mux_new (port, &calls, NULL) : NULL;
  for (;;) {
    struct pollfd ends[3] = { { mux ? banger_mux_fd (mux) : -1, POLLIN, 0 },
                              { listener, POLLIN, 0 },
                              { stream, POLLIN, 0 } };
    poll (ends, 3, 100);
    if (ends[0].revents != 0)
      banger_mux_run (mux);
    if ((ends[1].revents & POLLIN) != 0)
      stream = accept (listener, NULL, NULL);
    ssize_t n = (ends[2].revents & POLLIN) != 0 ? read (stream, data, sizeof data - 1) : 0;
    if (n <= 0)
      continue;
    data[n] = '\0';
    int length = snprintf (answer, sizeof answer, "guest:%s", data);
    n = write (stream, answer, (size_t)length);
  }
}

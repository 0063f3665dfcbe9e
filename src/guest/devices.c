/* Device events (NETLINK_KOBJECT_UEVENT) and look-ups in /sys.
 * Never opens a device. */
#include "guest/devices.h"

#include <errno.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/folder.h"
#include "guest/file.h"
#include "guest/report.h"

#define KERNEL_EVENTS_GROUP 1

int
guest_uevents_open (void)
{
  int fd = socket (AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
  if (fd < 0)
    return -1;
  struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = KERNEL_EVENTS_GROUP };
  if (bind (fd, (struct sockaddr *)&address, sizeof address) == 0)
    return fd;
  int saved = errno;
  close (fd);
  errno = saved;
  return -1;
}

void
guest_uevents_drain (int fd)
{
  char event[4096];
  /* ENOBUFS says that events were lost: the caller looks at the state itself anyway. */
  while (recv (fd, event, sizeof event, MSG_DONTWAIT) > 0 || errno == ENOBUFS || errno == EINTR)
    errno = 0;
}

int
guest_wait_for (int uevents_fd, int (*is_there) (void *data), void *user_data, int ms)
{
  long long deadline = guest_now_ms () + ms;
  while (!is_there (user_data)) {
    long long left = deadline - guest_now_ms ();
    if (left <= 0)
      return -1;
    struct pollfd wait = { .fd = uevents_fd, .events = POLLIN };
    if (poll (&wait, 1, (int)left) > 0)
      guest_uevents_drain (uevents_fd);
  }
  return 0;
}

/* Calls @match for each name below @folder until it returns 0. */
static int
find_below (const char *folder, int (*match) (const char *name, void *data), void *user_data)
{
  banger_autofolder DIR *dir = banger_folder_open (AT_FDCWD, folder);
  int found = -1;
  for (const struct dirent *entry; found < 0 && (entry = banger_folder_next (dir));)
    if (entry->d_name[0] != '.')
      found = match (entry->d_name, user_data);
  return found;
}

static int
match_virtio (const char *name, void *data)
{
  char path[300], word[32];
  snprintf (path, sizeof path, "/sys/bus/virtio/devices/%s/device", name);
  if (guest_read_word (path, word, sizeof word) < 0)
    return -1;
  unsigned type = (unsigned)strtoul (word, NULL, 16);
  for (const unsigned *wanted = data; *wanted != 0; wanted++)
    if (*wanted == type)
      return 0;
  return -1;
}

int
guest_virtio_present (const unsigned *types)
{
  return find_below ("/sys/bus/virtio/devices", match_virtio, (void *)types) == 0;
}

typedef struct {
  const char *folder, *attribute, *wanted;
  char *name;
  size_t size;
} Search;

static int
match_attribute (const char *name, void *data)
{
  Search *search = data;
  char path[400], word[128];
  snprintf (path, sizeof path, "%s/%s/%s", search->folder, name, search->attribute);
  if (guest_read_word (path, word, sizeof word) < 0 || strcmp (word, search->wanted) != 0
      || strlen (name) >= search->size)
    return -1;
  strcpy (search->name, name);
  return 0;
}

int
guest_serial_port_find (const char *name, char *ret_path, size_t size)
{
  char device[64];
  Search search = { "/sys/class/virtio-ports", "name", name, device, sizeof device };
  if (find_below (search.folder, match_attribute, &search) < 0)
    return -1;
  return snprintf (ret_path, size, "/dev/%s", device) < (int)size ? 0 : -1;
}

int
guest_net_find (const char *mac, char *ret_name, size_t size)
{
  Search search = { "/sys/class/net", "address", mac, ret_name, size };
  return find_below (search.folder, match_attribute, &search);
}

int
guest_net_mac (const char *name, char *ret_mac, size_t size)
{
  char path[64];
  snprintf (path, sizeof path, "/sys/class/net/%.15s/address", name);
  return guest_read_word (path, ret_mac, size);
}

/* Ethernet of a device; or, where no interface has one, the only Ethernet that there is. */
static int
match_ethernet (const char *name, void *data)
{
  Search *search = data;
  char path[400], type[16];
  struct stat st;
  snprintf (path, sizeof path, "%s/%s/type", search->folder, name);
  if (guest_read_word (path, type, sizeof type) < 0 || strcmp (type, "1") != 0 || strlen (name) >= search->size)
    return -1;
  snprintf (path, sizeof path, "%s/%s/device", search->folder, name);
  int has_device = stat (path, &st) == 0;
  if (!has_device && search->name[0] != '\0') {
    search->wanted = ""; /* of several, none is it */
    return -1;
  }
  strcpy (search->name, name);
  return has_device ? 0 : -1;
}

int
guest_net_find_own (char *ret_name, size_t size)
{
  Search search = { "/sys/class/net", NULL, NULL, ret_name, size };
  ret_name[0] = '\0';
  if (find_below (search.folder, match_ethernet, &search) == 0)
    return 0;
  return ret_name[0] != '\0' && !search.wanted ? 0 : -1;
}

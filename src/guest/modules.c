/* Loading of modules with finit_module(2).
 * Never follows an order outside its folder. */
#include "guest/modules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "guest/devices.h"
#include "guest/file.h"
#include "guest/report.h"

#define MAX_ORDER_BYTES 65536

static int
parse_condition (const char *word, GuestModule *module)
{
  if (strncmp (word, "virtio:", 7) != 0)
    return -1;
  const char *in = word + 7;
  for (unsigned n = 0; n < GUEST_MAX_VIRTIO_TYPES; n++) {
    char *end = NULL;
    unsigned long type = strtoul (in, &end, 10);
    if (end == in || type == 0 || type > 1000)
      return -1;
    module->virtio[n] = (unsigned)type;
    if (*end == '\0')
      return 0;
    if (*end != ',')
      return -1;
    in = end + 1;
  }
  return -1;
}

int
guest_module_parse (char *line, GuestModule *ret)
{
  GuestModule module = { 0 };
  char *condition = strchr (line, ' ');
  if (condition)
    *condition++ = '\0';
  if (line[0] == '\0' || line[0] == '.' || strchr (line, '/'))
    return -1;
  if (condition && parse_condition (condition, &module) < 0)
    return -1;
  module.file = line;
  *ret = module;
  return 0;
}

static int
load (const char *folder, const GuestModule *module)
{
  char path[300];
  snprintf (path, sizeof path, "%s/%s", folder, module->file);
  banger_autofd int fd = open (path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return -1;
  return syscall (SYS_finit_module, fd, "", 0) == 0 || errno == EEXIST ? 0 : -1;
}

void
guest_modules_load (const char *folder, void (*loaded) (const char *file, void *data), void *user_data)
{
  char path[300];
  snprintf (path, sizeof path, "%s/order", folder);
  char *order = guest_read_file (path, MAX_ORDER_BYTES);
  if (!order)
    return; /* a kernel with everything built in */

  char *rest = NULL;
  for (char *line = strtok_r (order, "\n", &rest); line; line = strtok_r (NULL, "\n", &rest)) {
    GuestModule module;
    if (guest_module_parse (line, &module) < 0) {
      guest_warn ("%s: line '%.60s' is not understood", path, line);
      continue;
    }
    if (module.virtio[0] != 0 && !guest_virtio_present (module.virtio))
      continue;
    if (load (folder, &module) < 0)
      guest_warn ("cannot load module %s: %s", module.file, strerror (errno));
    else
      loaded (module.file, user_data);
  }
  free (order);
}

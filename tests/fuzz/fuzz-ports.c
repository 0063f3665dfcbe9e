/* What a guest says of its listeners.
 * Run as replay.c says.
 * Never lets through a byte that a terminal would obey. */
#include <glib.h>
#include <string.h>

#include "fuzz.h"
#include "manager/vm/ports.h"

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GPtrArray) ports = banger_ports_parse ((const char *)data, size, &error);
  g_assert_true ((ports != NULL) == !error);
  for (guint i = 0; ports && i < ports->len; i++) {
    const BangerPort *port = ports->pdata[i];
    g_assert_true (strlen (port->process) <= 64 && g_utf8_validate (port->process, -1, NULL));
    for (const char *c = port->process; *c != '\0'; c++)
      g_assert_false (g_ascii_iscntrl (*c));
    g_assert_cmpuint (strspn (port->address, "0123456789abcdef:."), ==, strlen (port->address));
    g_assert_cmpuint (port->port, >, 0);
  }
  return 0;
}

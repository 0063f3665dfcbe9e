/* Gates on block devices: device-mapper names and loops (requirement B6).
 * Never asks the system: values in, verdict out. */
#include <string.h>

#include "common/ids.h"
#include "common/log.h"
#include "common/validate.h"
#include "privileged/gate.h"

gboolean
banger_gate_dm_name (const char *name, const char *vm, GError **error)
{
  g_autofree char *own = banger_dm_name (vm), *shown = banger_log_escape (name, 64);
  return g_str_equal (name, own)
         || banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "device '%s' is not the root disk of VM %s", shown, vm);
}

gboolean
banger_gate_loop_path (const char *path, GError **error)
{
  guint64 number;
  g_autofree char *shown = banger_log_escape (path, 64);
  if (g_str_has_prefix (path, "/dev/loop")
      && banger_uint_parse (path + strlen ("/dev/loop"), 0, 1048575, &number, NULL))
    return TRUE;
  return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "'%s' is not a loop device", shown);
}

/* The end on the bus: each call that was sent to us has an answer before we are gone.
 * Never waits long for a bus that does not answer. */
#include "manager/bus/leave.h"

#include "common/error.h"
#include "common/names.h"
#include "common/op-id.h"
#include "manager/core/job.h"

#define RELEASE_USEC (2 * G_USEC_PER_SEC)

static int
refuse (sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
  guint8 type = 0;
  if (sd_bus_message_get_type (message, &type) < 0 || type != SD_BUS_MESSAGE_METHOD_CALL)
    return 0;
  g_autofree char *op_id = banger_op_id_new ();
  return sd_bus_error_setf (ret_error, banger_error_dbus_name (BANGER_ERROR_WRONG_STATE), BANGER_TEXT_ENDING " (%s)",
                            op_id);
}

/* What the bus gave us before it took the name is in front of its answer. */
void
banger_leave_bus (sd_bus *bus)
{
  g_autoptr (sd_bus_message) release = NULL;
  int r = sd_bus_add_filter (bus, NULL, refuse, NULL);
  if (r >= 0)
    r = sd_bus_message_new_method_call (bus, &release, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                        "org.freedesktop.DBus", "ReleaseName");
  if (r >= 0)
    r = sd_bus_message_append (release, "s", BANGER_MANAGER_BUS_NAME);
  if (r >= 0)
    (void)sd_bus_call (bus, release, RELEASE_USEC, NULL, NULL);
  while (r >= 0 && sd_bus_process (bus, NULL) > 0)
    ;
  sd_bus_flush (bus);
}

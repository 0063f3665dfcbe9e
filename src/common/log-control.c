/* org.freedesktop.LogControl1: the log level over D-Bus, as `systemctl service-log-level` uses it.
 * Never lets the target be changed: it is where stderr goes. */
#include <errno.h>

#include "common/log.h"
#include "common/names.h"

static int
get_level (sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
           void *userdata, sd_bus_error *error)
{
  return sd_bus_message_append (reply, "s", banger_log_level_to_string (banger_log_get_level ()));
}

static int
set_level (sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *value,
           void *userdata, sd_bus_error *error)
{
  const char *word = NULL;
  int r = sd_bus_message_read (value, "s", &word);
  if (r < 0)
    return r;
  int level = banger_log_level_from_string (word);
  if (level < 0)
    return sd_bus_error_setf (error, SD_BUS_ERROR_INVALID_ARGS,
                              "log level '%s': use one of emerg, alert, crit, err, warning, notice, info, debug", word);
  banger_log_set_level (level);
  return 0;
}

static int
get_target (sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
            void *userdata, sd_bus_error *error)
{
  return sd_bus_message_append (reply, "s", g_getenv ("JOURNAL_STREAM") ? "journal" : "console");
}

static int
set_target (sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *value,
            void *userdata, sd_bus_error *error)
{
  return sd_bus_error_set (error, SD_BUS_ERROR_NOT_SUPPORTED, "the log target follows stderr and cannot be changed");
}

static int
get_identifier (sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                void *userdata, sd_bus_error *error)
{
  return sd_bus_message_append (reply, "s", g_get_prgname () ? g_get_prgname () : "banger");
}

/* The bus daemon's policy and sd-bus's own rule (not UNPRIVILEGED) leave writing to root on the system bus. */
static const sd_bus_vtable vtable[] = {
  SD_BUS_VTABLE_START (0),
  SD_BUS_WRITABLE_PROPERTY ("LogLevel", "s", get_level, set_level, 0, 0),
  SD_BUS_WRITABLE_PROPERTY ("LogTarget", "s", get_target, set_target, 0, 0),
  SD_BUS_PROPERTY ("SyslogIdentifier", "s", get_identifier, 0, SD_BUS_VTABLE_PROPERTY_CONST),
  SD_BUS_VTABLE_END,
};

int
banger_log_add_control (sd_bus *bus)
{
  return sd_bus_add_object_vtable (bus, NULL, BANGER_LOG_CONTROL_PATH, BANGER_LOG_CONTROL_INTERFACE, vtable, NULL);
}

/* What udev makes of banger's disks: nothing, by the rule that is shipped (udev/).
 * Runs in worker threads.
 * Never lets a disk be made that a running udev would look into. */
#include "privileged/udev.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-device.h>
#include <systemd/sd-event.h>

#include "common/names.h"
#include "privileged/loop.h"

#define CONTROL "/run/udev/control"
#define ANSWER_SECONDS 5

/* udev(7), "Rules files": it reads them again when one of these folders changes. */
static const char *const places[] = {
  CONTROL,
  "/etc/udev/rules.d",
  "/run/udev/rules.d",
  "/usr/local/lib/udev/rules.d",
  "/usr/lib/udev/rules.d",
  "/lib/udev/rules.d",
};

/* All that the rule is for; a later rule of somebody's could take one back. */
static const struct {
  const char *key, *value;
} wanted[] = {
  { "BANGER_DISK", "1" },
  { "UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG", "1" },
  { "SYSTEMD_READY", "0" },
  { "UDISKS_IGNORE", "1" },
};

typedef struct {
  const char *name;
  gboolean seen;
  const char *missing; /* key of the first that is not as wanted */
} Probe;

G_LOCK_DEFINE_STATIC (verified);
static char *verified; /* identity() of the udev that was seen to go by the rule */

gboolean
banger_udev_runs (void)
{
  return g_file_test (CONTROL, G_FILE_TEST_EXISTS);
}

static char *
identity (void)
{
  GString *text = g_string_new (NULL);
  for (size_t i = 0; i < G_N_ELEMENTS (places); i++) {
    struct stat st;
    if (stat (places[i], &st) == 0)
      g_string_append_printf (text, "%ju:%ju:%jd.%09ld ", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino,
                              (intmax_t)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    else
      g_string_append (text, "- ");
  }
  return g_string_free (text, FALSE);
}

static int
on_device (sd_device_monitor *monitor, sd_device *device, void *data)
{
  Probe *probe = data;
  const char *name = NULL;
  sd_device_action_t action;
  if (sd_device_get_sysname (device, &name) < 0 || !g_str_equal (name, probe->name)
      || sd_device_get_action (device, &action) < 0 || action != SD_DEVICE_ADD)
    return 0;
  probe->seen = TRUE;
  for (size_t i = 0; i < G_N_ELEMENTS (wanted) && !probe->missing; i++) {
    const char *value = NULL;
    (void)sd_device_get_property_value (device, wanted[i].key, &value);
    if (g_strcmp0 (value, wanted[i].value) != 0)
      probe->missing = wanted[i].key;
  }
  return sd_event_exit (sd_device_monitor_get_event (monitor), 0);
}

/* Who listens to udev hears of every block device: until the probe's, or the time is over. */
static int
listen (sd_event *event, sd_device_monitor *monitor, Probe *probe, GError **error)
{
  int r = sd_device_monitor_filter_add_match_subsystem_devtype (monitor, "block", "disk");
  if (r >= 0)
    r = sd_device_monitor_attach_event (monitor, event);
  if (r >= 0)
    r = sd_device_monitor_start (monitor, on_device, probe);
  if (r >= 0)
    r = sd_event_add_time_relative (event, NULL, CLOCK_MONOTONIC, ANSWER_SECONDS * G_USEC_PER_SEC, 0, NULL, NULL);
  if (r < 0)
    return r;
  if (!banger_loop_add_probe (error))
    return 0;
  r = sd_event_loop (event);
  banger_loop_remove_probe ();
  return r;
}

static gboolean
ask (GError **error)
{
  sd_event *event = NULL;
  sd_device_monitor *monitor = NULL;
  g_autoptr (GError) why = NULL;
  Probe probe = { BANGER_LOOP_PROBE, FALSE, NULL };
  int r = sd_event_new (&event);
  if (r >= 0)
    r = sd_device_monitor_new (&monitor);
  if (r >= 0)
    r = listen (event, monitor, &probe, &why);
  sd_device_monitor_unref (monitor);
  sd_event_unref (event);
  if (why)
    return g_propagate_error (error, g_steal_pointer (&why)), FALSE;
  if (r < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, -r, "cannot listen to udev");
  if (!probe.seen)
    return banger_set_error (error, BANGER_ERROR_TIMEOUT,
                             "udev said nothing about a new device within %d s; see: systemctl status systemd-udevd",
                             ANSWER_SECONDS);
  return !probe.missing
         || banger_set_error (error, BANGER_ERROR_UNSAFE_HOST,
                              "udev does not go by banger's rule " BANGER_UDEV_RULE
                              " (%s is not set) and would look into the disks of VMs: install the rule, then run "
                              "'udevadm control --reload'",
                              probe.missing);
}

gboolean
banger_udev_check_rule (GError **error)
{
  if (!banger_udev_runs ())
    return TRUE;
  G_LOCK (verified);
  g_autofree char *now = identity ();
  gboolean ok = g_strcmp0 (now, verified) == 0;
  if (!ok && ask (error)) {
    g_free (verified);
    verified = g_steal_pointer (&now);
    ok = TRUE;
  }
  G_UNLOCK (verified);
  return ok;
}

/* system install, status, restart, stop, uninstall: the one part of the command line that runs as root.
 * Called through the command table.
 * Never touches the owner's home, and removes only what install made. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <json-glib/json-glib.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-login.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/objects.h"
#include "cli/system-firewall.h"
#include "cli/system-paths.h"
#include "cli/system-remove.h"
#include "cli/table.h"
#include "common/bus-source.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/install.h"
#include "common/log.h"
#include "common/names.h"
#include "common/pidfd.h"
#include "common/safe-path.h"
#include "common/state-file.h"

#define HELPER_UNIT "bangerd-root.service"
#define MANAGER_UNIT "bangerd.service"
#define SLICE_UNIT "banger.slice"
#define UDEV_UNIT "systemd-udevd.service"
#define FIRST_PERSON_UID 1000 /* login.defs(5): below are the system's own accounts */
#define NOBODY_UID 65534      /* everyone's whose identity is unknown: user_namespaces(7), NFS */
#define UNIT_TIMEOUT_USEC (90 * G_USEC_PER_SEC)
#define OWNER_PATIENCE_MS 180000
#define ANSWER_TIMEOUT_USEC (10 * G_USEC_PER_SEC)
#define RELEASE_ROUNDS 5
#define SHOWN_IDS 400 /* bytes */

static gboolean
need_root (GError **error)
{
  if (geteuid () == 0)
    return TRUE;
  return banger_set_error (error, BANGER_ERROR_ACCESS_DENIED, _ ("this needs root: run it with sudo"));
}

/* The account of @name; refuses what must not own VMs. Requirement A5. */
static gboolean
find_owner (const char *name, gboolean system_account, struct passwd *ret, GError **error)
{
  errno = 0;
  struct passwd *entry = getpwnam (name);
  if (!entry)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, _ ("there is no user '%s' on this machine"), name);
  if (entry->pw_uid == 0 || entry->pw_gid == 0)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS,
                             _ ("'%s' has the rights of root and cannot own VMs: name an ordinary user"), name);
  if (entry->pw_uid == NOBODY_UID)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS,
                             _ ("'%s' is nobody in particular: name an ordinary user"), name);
  if (entry->pw_uid < FIRST_PERSON_UID && !system_account)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS,
                             _ ("'%s' is a system account: name an ordinary user, or add --system-account if the "
                                "account was made for banger"),
                             name);
  if (!entry->pw_dir || entry->pw_dir[0] != '/')
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, _ ("user '%s' has no home directory"), name);
  *ret = *entry;
  return TRUE;
}

/* A directory below @parent: made if missing, then brought to owner and mode by its descriptor. */
static int
ensure_directory (int parent, const char *name, mode_t mode, uid_t uid, gid_t gid, GError **error)
{
  if (mkdirat (parent, name, 0700) < 0 && errno != EEXIST) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot make the folder '%s'"), name);
    return -1;
  }
  int fd = openat (parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0 || fchown (fd, uid, gid) < 0 || fchmod (fd, mode) < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot prepare the folder '%s'"), name);
    banger_clear_fd (&fd);
  }
  return fd;
}

static int
ensure_root_directory (const char *path, GError **error)
{
  g_autofree char *parent_path = g_path_get_dirname (path), *name = g_path_get_basename (path);
  banger_autofd int parent = open (parent_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (parent < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot open '%s'"), parent_path);
    return -1;
  }
  return ensure_directory (parent, name, 0755, 0, 0, error);
}

/* Each uid's state: <state>/<uid>/{vms,images,kernels}, owner's alone. */
static gboolean
ensure_state (const BangerInstall *install, GError **error)
{
  static const char *const folders[] = { BANGER_STATE_FOLDERS };
  banger_autofd int state = ensure_root_directory (install->state_dir, error);
  if (state < 0)
    return FALSE;
  g_autofree char *uid = g_strdup_printf ("%u", install->owner_uid);
  banger_autofd int own = ensure_directory (state, uid, 0700, install->owner_uid, install->owner_gid, error);
  if (own < 0)
    return FALSE;
  for (size_t i = 0; i < G_N_ELEMENTS (folders); i++) {
    banger_autofd int folder = ensure_directory (own, folders[i], 0700, install->owner_uid, install->owner_gid, error);
    if (folder < 0)
      return FALSE;
  }
  return TRUE;
}

static char *
toml_quote (const char *text)
{
  g_autoptr (GString) out = g_string_new ("\"");
  for (; *text; text++) {
    if (*text == '"' || *text == '\\')
      g_string_append_c (out, '\\');
    g_string_append_c (out, *text);
  }
  g_string_append_c (out, '"');
  return g_string_free (g_steal_pointer (&out), FALSE);
}

static char *
install_text (const struct passwd *owner)
{
  g_autofree char *user = toml_quote (owner->pw_name), *home = toml_quote (owner->pw_dir);
  return g_strdup_printf ("# Written by `banger system install`. Who may use the root helper, and where things are.\n"
                          "version = \"%s\"\n\n"
                          "[owner]\nuser = %s\nuid = %u\ngid = %u\nhome = %s\n",
                          BANGER_VERSION, user, owner->pw_uid, owner->pw_gid, home);
}

/* The template's @OWNER@ becomes a JavaScript string. */
static char *
rules_text (const char *user, GError **error)
{
  g_autofree char *template = NULL;
  g_autoptr (GError) why = NULL;
  if (!g_file_get_contents (BANGER_DATADIR "/50-banger.rules.in", &template, NULL, &why)) {
    banger_set_error (error, BANGER_ERROR_FAILED, _ ("the installation is not whole: %s"), why->message);
    return NULL;
  }
  g_autoptr (JsonNode) node = json_node_init_string (json_node_alloc (), user);
  g_autofree char *quoted = json_to_string (node, FALSE);
  g_autoptr (GString) text = g_string_new (template);
  g_string_replace (text, "\"@OWNER@\"", quoted, 0);
  return g_string_free (g_steal_pointer (&text), FALSE);
}

static gboolean
write_below (const char *directory, const char *name, const char *text, GError **error)
{
  banger_autofd int dir = open (directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot open '%s'"), directory);
  return banger_state_write (dir, name, text, strlen (text), 0644, error);
}

static sd_bus *
open_system_bus (GError **error)
{
  sd_bus *bus = NULL;
  int r = sd_bus_open_system (&bus);
  if (r < 0)
    banger_set_error_errno (error, BANGER_ERROR_FAILED, -r, _ ("cannot reach the system bus"));
  return bus;
}

/* One call without an answer that matters. */
static gboolean
call (sd_bus *bus, const char *service, const char *path, const char *interface, const char *member, const char *what,
      GError **error, const char *types, ...)
{
  g_auto (sd_bus_error) bus_error = SD_BUS_ERROR_NULL;
  g_autoptr (sd_bus_message) m = NULL;
  va_list args;
  va_start (args, types);
  int r = sd_bus_message_new_method_call (bus, &m, service, path, interface, member);
  if (r >= 0 && types && *types)
    r = sd_bus_message_appendv (m, types, args);
  va_end (args);
  if (r >= 0)
    r = sd_bus_call (bus, m, UNIT_TIMEOUT_USEC, &bus_error, NULL);
  return r >= 0 || banger_error_from_bus (error, &bus_error, r, what);
}

#define SYSTEMD "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"

typedef struct {
  const char *job, *systemd;
  char result[32];
} UnitWait;

static int
job_removed (sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
  UnitWait *wait = data;
  const char *job = NULL, *result = NULL;
  if (banger_bus_is_from (m, wait->systemd) && sd_bus_message_read (m, "uoss", NULL, &job, NULL, &result) >= 0
      && g_strcmp0 (job, wait->job) == 0)
    g_strlcpy (wait->result, result, sizeof wait->result);
  return 0;
}

/* StartUnit, StopUnit, RestartUnit, and the end of their job. Subscribed before the call, so no end is missed. */
static gboolean
unit_verb (sd_bus *bus, const char *verb, const char *unit, GError **error)
{
  g_auto (sd_bus_error) bus_error = SD_BUS_ERROR_NULL;
  g_autoptr (sd_bus_message) reply = NULL;
  g_autoptr (sd_bus_slot) slot = NULL;
  UnitWait wait = { 0 };
  g_autofree char *what = g_strdup_printf ("%s %s", verb, unit);
  int r = sd_bus_match_signal (bus, &slot, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                               "org.freedesktop.systemd1.Manager", "JobRemoved", job_removed, &wait);
  if (r >= 0)
    (void)call (bus, SYSTEMD, "Subscribe", what, NULL, NULL);
  if (r >= 0)
    r = sd_bus_call_method (bus, SYSTEMD, verb, &bus_error, &reply, "ss", unit, "replace");
  if (r >= 0)
    r = sd_bus_message_read (reply, "o", &wait.job);
  wait.systemd = reply ? sd_bus_message_get_sender (reply) : NULL;
  gint64 end = g_get_monotonic_time () + UNIT_TIMEOUT_USEC;
  while (r >= 0 && !wait.result[0]) {
    gint64 left = end - g_get_monotonic_time ();
    if (left <= 0)
      return banger_set_error (error, BANGER_ERROR_TIMEOUT, _ ("%s: not done after 90 s"), what);
    r = sd_bus_process (bus, NULL);
    if (r == 0)
      r = sd_bus_wait (bus, (guint64)left);
  }
  if (r < 0)
    return banger_error_from_bus (error, &bus_error, r, what);
  if (!g_str_equal (wait.result, "done"))
    return banger_set_error (error, BANGER_ERROR_FAILED, _ ("%s ended with '%s'; see: journalctl -u %s"), what,
                             wait.result, unit);
  return TRUE;
}

static gboolean
set_linger (sd_bus *bus, uid_t uid, gboolean linger, GError **error)
{
  return call (bus, "org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager",
               "SetUserLinger", _ ("cannot switch lingering"), error, "ubb", (guint32)uid, linger, FALSE);
}

static gboolean
lingers (const char *user)
{
  g_autofree char *path = g_build_filename ("/var/lib/systemd/linger", user, NULL);
  return access (path, F_OK) == 0;
}

static char *
unit_state (sd_bus *bus, const char *unit)
{
  g_autoptr (sd_bus_message) reply = NULL;
  const char *path = NULL;
  char *state = NULL;
  if (sd_bus_call_method (bus, SYSTEMD, "LoadUnit", NULL, &reply, "s", unit) < 0
      || sd_bus_message_read (reply, "o", &path) < 0
      || sd_bus_get_property_string (bus, "org.freedesktop.systemd1", path, "org.freedesktop.systemd1.Unit",
                                     "ActiveState", NULL, &state)
             < 0)
    return g_strdup ("unknown");
  char *copy = g_strdup (state);
  free (state);
  return copy;
}

/* By itself it looks for new rules every few seconds at most. Best effort: the helper asks it before it makes a disk.
 */
static void
reload_udev (sd_bus *bus)
{
  g_autofree char *state = unit_state (bus, UDEV_UNIT);
  if (g_str_equal (state, "active"))
    unit_verb (bus, "ReloadUnit", UDEV_UNIT, NULL);
}

/* The owner's daemon must run without a session, so that VMs outlive a logout. */
static gboolean
enable_services (const BangerInstall *install, GError **error)
{
  g_autoptr (sd_bus) bus = open_system_bus (error);
  if (!bus)
    return FALSE;
  if (!call (bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "ReloadConfig",
             _ ("cannot reload the bus"), error, NULL)
      || !call (bus, SYSTEMD, "Reload", _ ("cannot reload systemd"), error, NULL)
      || !call (bus, SYSTEMD, "EnableUnitFiles", _ ("cannot enable the root helper"), error, "asbb", 1, HELPER_UNIT,
                FALSE, TRUE)
      || !call (bus, SYSTEMD, "Reload", _ ("cannot reload systemd"), error, NULL)
      || !unit_verb (bus, "RestartUnit", HELPER_UNIT, error))
    return FALSE;
  reload_udev (bus);
  if (lingers (install->owner_user))
    return TRUE;
  return write_below (BANGER_ETC_DIR, BANGER_LINGER_FILE, "", error)
         && set_linger (bus, install->owner_uid, TRUE, error);
}

/* One owner per host: another one's metadata is not written over, and what the admin changed in it is kept.
 * Returns: the metadata to install by; @metadata is its text if there is none yet. */
static BangerInstall *
load_or_parse (const struct passwd *owner, const char *metadata, gboolean *ret_kept, GError **error)
{
  *ret_kept = access (BANGER_INSTALL_FILE, F_OK) == 0;
  if (!*ret_kept)
    return banger_install_parse (metadata, strlen (metadata), BANGER_INSTALL_FILE, error);
  g_autoptr (BangerInstall) old = banger_install_load_trusted (NULL, error);
  if (!old || old->owner_uid == owner->pw_uid)
    return g_steal_pointer (&old);
  banger_set_error (error, BANGER_ERROR_IN_USE, _ ("banger is installed for '%s'; first run: banger system uninstall"),
                    old->owner_user);
  return NULL;
}

static gboolean
check_polkit (GError **error)
{
  return access (BANGER_POLKIT_RULES_DIR, F_OK) == 0
         || banger_set_error (error, BANGER_ERROR_FAILED, _ ("there is no '%s': install polkit (Debian: polkitd)"),
                              BANGER_POLKIT_RULES_DIR);
}

int
banger_system_install (const BangerInvocation *invocation, GError **error)
{
  const char *name = banger_invocation_string (invocation, "owner");
  struct passwd owner = { 0 };
  if (!name)
    return banger_usage_error (error, _ ("--owner USER is needed"));
  if (!need_root (error) || !find_owner (name, banger_invocation_flag (invocation, "system-account"), &owner, error)
      || !check_polkit (error))
    return -1;
  gboolean kept;
  g_autofree char *metadata = install_text (&owner);
  g_autoptr (BangerInstall) install = load_or_parse (&owner, metadata, &kept, error);
  g_autofree char *rules = install ? rules_text (owner.pw_name, error) : NULL;
  if (!rules)
    return -1;
  banger_autofd int etc = ensure_root_directory (BANGER_ETC_DIR, error);
  if (etc < 0 || !(kept || banger_state_write (etc, "install.toml", metadata, strlen (metadata), 0644, error))
      || !write_below (BANGER_POLKIT_RULES_DIR, BANGER_POLKIT_RULES_FILE, rules, error)
      || !ensure_state (install, error))
    return -1;
  if (sd_booted () > 0 && !enable_services (install, error))
    return -1;
  banger_system_allow_guests (install);
  g_print (_ ("banger is installed for %s.\n"), owner.pw_name);
  if (sd_booted () <= 0)
    g_print (_ ("systemd does not run here: start the services with scripts/dev-stack up.\n"));
  return 0;
}

/* VM ids of the helper's leases; NULL with error. */
static GPtrArray *
list_leases (sd_bus *bus, GError **error)
{
  g_auto (sd_bus_error) bus_error = SD_BUS_ERROR_NULL;
  g_autoptr (sd_bus_message) reply = NULL;
  g_autoptr (GPtrArray) ids = g_ptr_array_new_with_free_func (g_free);
  const char *id = NULL;
  int r = sd_bus_call_method (bus, BANGER_PRIVILEGED_BUS_NAME, BANGER_PRIVILEGED_PATH, BANGER_PRIVILEGED_INTERFACE,
                              "ListLeases", &bus_error, &reply, "a{sv}", 0);
  if (r >= 0)
    r = sd_bus_message_enter_container (reply, 'a', "(ssu)");
  while (r >= 0 && (r = sd_bus_message_read (reply, "(ssu)", &id, NULL, NULL)) > 0)
    g_ptr_array_add (ids, g_strdup (id));
  if (r < 0) {
    banger_error_from_bus (error, &bus_error, r, _ ("cannot ask the root helper"));
    return NULL;
  }
  return g_steal_pointer (&ids);
}

/* A line of `banger system status`; @value NULL: not known. */
typedef struct {
  const char *key, *json, *value;
} StatusRow;

static void
print_status_json (const StatusRow *rows, size_t n, GPtrArray *leases)
{
  JsonObject *object = json_object_new ();
  json_object_set_boolean_member (object, "installed", n > 0);
  for (size_t i = 0; i < n; i++)
    if (rows[i].value)
      json_object_set_string_member (object, rows[i].json, rows[i].value);
    else
      json_object_set_null_member (object, rows[i].json);
  if (leases) /* a number */
    json_object_set_int_member (object, "vms_held", leases->len);
  JsonNode *node = json_node_new (JSON_NODE_OBJECT);
  json_node_take_object (node, object);
  banger_json_print (node);
}

int
banger_system_status (const BangerInvocation *invocation, GError **error)
{
  gboolean json = banger_invocation_flag (invocation, "json");
  if (!g_getenv (BANGER_ENV_CONFIG) && access (BANGER_INSTALL_FILE, F_OK) < 0) {
    if (json)
      print_status_json (NULL, 0, NULL);
    else
      g_print (_ ("banger is not installed: sudo banger system install --owner USER\n"));
    return 1;
  }
  g_autoptr (BangerInstall) install = banger_install_load (NULL, error);
  if (!install)
    return -1;
  g_autoptr (sd_bus) bus = open_system_bus (error);
  if (!bus)
    return -1;
  g_autoptr (GError) unreachable = NULL;
  g_autoptr (GPtrArray) leases = list_leases (bus, &unreachable);
  g_autofree char *unit = sd_booted () > 0 ? unit_state (bus, HELPER_UNIT) : NULL;
  g_autofree char *count = leases ? g_strdup_printf ("%u", leases->len) : NULL;
  const StatusRow rows[] = {
    { "owner", "owner", install->owner_user },
    { "version", "version", install->version },
    { "state", "state", install->state_dir },
    { "runtime", "runtime", install->runtime_dir },
    { "bridge", "bridge", install->bridge },
    { "helper unit", "helper_unit", unit },
    { "helper", "helper", leases ? "answers" : unreachable->message },
    { "VMs held", "vms_held", count },
  };
  if (json)
    print_status_json (rows, G_N_ELEMENTS (rows), leases);
  for (size_t i = 0; i < G_N_ELEMENTS (rows) && !json; i++)
    g_print ("%-12s %s\n", rows[i].key, rows[i].value ? rows[i].value : "-");
  return leases ? 0 : 1;
}

int
banger_system_restart (const BangerInvocation *invocation, GError **error)
{
  if (!need_root (error))
    return -1;
  g_autoptr (BangerInstall) install = banger_install_load_trusted (NULL, error);
  if (!install)
    return -1;
  if (sd_booted () <= 0) {
    banger_set_error (error, BANGER_ERROR_NOT_SUPPORTED,
                      _ ("systemd does not run here: use scripts/dev-stack down and up"));
    return -1;
  }
  g_autoptr (sd_bus) bus = open_system_bus (error);
  if (!bus || !unit_verb (bus, "RestartUnit", HELPER_UNIT, error))
    return -1;
  g_autofree char *machine = g_strdup_printf ("%s@.host", install->owner_user);
  g_autoptr (sd_bus) user = NULL;
  int r = sd_bus_open_user_machine (&user, machine);
  if (r < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, -r, _ ("cannot reach the services of %s"), install->owner_user);
    return -1;
  }
  return unit_verb (user, "RestartUnit", MANAGER_UNIT, error) ? 0 : -1;
}

/* Every step runs even if the one before failed; the first error is told, with how many there were. */
typedef struct {
  GError *first;
  guint failed;
} Steps;

static void
step_done (Steps *steps, GError *error)
{
  if (!error)
    return;
  if (steps->failed++ == 0)
    steps->first = error;
  else {
    g_printerr ("banger: %s\n", error->message);
    g_error_free (error);
  }
}

static int
shutdown_answered (sd_bus_message *reply, void *data, sd_bus_error *ret_error)
{
  guint *pending = data;
  (*pending)--;
  return 0;
}

/* All at once and in order, through the owner's manager: guests write out what they hold. Best effort: whatever is left
 * after that is released by force. */
static void
shut_down_vms (sd_bus *user, GPtrArray *ids)
{
  guint pending = 0;
  for (guint i = 0; i < ids->len; i++) {
    g_autoptr (sd_bus_message) m = NULL;
    int r = sd_bus_message_new_method_call (user, &m, BANGER_MANAGER_BUS_NAME, BANGER_MANAGER_PATH,
                                            BANGER_MANAGER_INTERFACE, "StopVM");
    if (r >= 0)
      r = sd_bus_message_append (m, "sa{sv}", (const char *)ids->pdata[i], 1, "wait", "b", 1);
    if (r >= 0)
      r = sd_bus_call_async (user, NULL, m, shutdown_answered, &pending, UNIT_TIMEOUT_USEC);
    pending += r >= 0;
  }
  while (pending > 0) {
    int r = sd_bus_process (user, NULL);
    if (r < 0 || (r == 0 && sd_bus_wait (user, UNIT_TIMEOUT_USEC) < 0))
      return; /* the bus is gone; a call that is never answered ends by its timeout */
  }
}

/* The owner, or a VM that was under way, may have had more made meanwhile: until there are none, so many times. */
static void
release_vms (sd_bus *bus, Steps *steps)
{
  GError *error = NULL;
  for (guint round = 0; round < RELEASE_ROUNDS; round++) {
    g_clear_error (&error);
    g_autoptr (GPtrArray) ids = list_leases (bus, &error);
    if (ids && ids->len == 0)
      break;
    for (guint i = 0; ids && i < ids->len; i++) {
      g_autoptr (GError) why = NULL;
      if (!call (bus, BANGER_PRIVILEGED_BUS_NAME, BANGER_PRIVILEGED_PATH, BANGER_PRIVILEGED_INTERFACE, "ReleaseVm",
                 _ ("cannot end a VM"), &why, "sa{sv}", (const char *)ids->pdata[i], 0)
          && !error)
        error = g_steal_pointer (&why);
    }
  }
  step_done (steps, error);
}

/* One that stands still is not waited for as long as a guest may take to end. It is asked for a property: Peer.Ping is
 * answered by systemd-stdio-bridge on the way. */
static gboolean
manager_hangs (sd_bus *user)
{
  g_autoptr (sd_bus_message) m = NULL;
  int r = sd_bus_message_new_method_call (user, &m, BANGER_MANAGER_BUS_NAME, BANGER_MANAGER_PATH,
                                          "org.freedesktop.DBus.Properties", "Get");
  if (r >= 0)
    r = sd_bus_message_append (m, "ss", BANGER_MANAGER_INTERFACE, "Version");
  if (r >= 0)
    r = sd_bus_call (user, m, ANSWER_TIMEOUT_USEC, NULL, NULL);
  return r == -ETIMEDOUT;
}

/* All that is asked here is answered by the owner's processes: they may say anything, and never end it. */
static gboolean
ask_owner (const BangerInstall *install, GPtrArray *ids)
{
  g_autoptr (sd_bus) user = NULL;
  g_autofree char *machine = g_strdup_printf ("%s@.host", install->owner_user);
  if (sd_bus_open_user_machine (&user, machine) < 0)
    return TRUE; /* no user manager, no daemon */
  gboolean hangs = ids && ids->len > 0 && manager_hangs (user);
  if (ids && !hangs)
    shut_down_vms (user, ids);
  g_autofree char *state = unit_state (user, MANAGER_UNIT);
  return (!g_str_equal (state, "active") || unit_verb (user, "StopUnit", MANAGER_UNIT, NULL)) && !hangs;
}

/* In a process of its own with a bound on its time and memory. */
static void
stop_manager (sd_bus *bus, const BangerInstall *install)
{
  const struct rlimit memory = { 1 << 30, 1 << 30 };
  g_autoptr (GPtrArray) ids = list_leases (bus, NULL);
  pid_t pid = fork ();
  if (pid == 0)
    _exit (prctl (PR_SET_PDEATHSIG, SIGKILL) < 0 || setrlimit (RLIMIT_AS, &memory) < 0 || !ask_owner (install, ids));
  banger_autofd int pidfd = pid < 0 ? -1 : banger_pidfd_open (pid);
  struct pollfd ended = { pidfd, POLLIN, 0 };
  gboolean late = pidfd >= 0 && poll (&ended, 1, OWNER_PATIENCE_MS) == 0;
  if (late)
    (void)kill (pid, SIGKILL);
  int status = 1;
  if (pid > 0)
    while (waitpid (pid, &status, 0) < 0 && errno == EINTR)
      ;
  if (status != 0)
    g_printerr (_ ("banger: the daemon of %s does not end its VMs, so they are ended by force\n"), install->owner_user);
}

static void
stop_units (sd_bus *bus, const BangerInstall *install, Steps *steps)
{
  static const char *const units[] = { HELPER_UNIT, SLICE_UNIT };
  GError *error = NULL;
  call (bus, BANGER_PRIVILEGED_BUS_NAME, BANGER_PRIVILEGED_PATH, BANGER_PRIVILEGED_INTERFACE, "RemoveBridge",
        _ ("cannot remove the bridge"), &error, "sa{sv}", install->bridge, 0);
  step_done (steps, error);
  for (size_t i = 0; i < G_N_ELEMENTS (units); i++) {
    GError *why = NULL;
    unit_verb (bus, "StopUnit", units[i], &why);
    step_done (steps, why);
  }
}

static void
stop_all (sd_bus *bus, const BangerInstall *install, Steps *steps)
{
  release_vms (bus, steps);
  if (sd_booted () > 0)
    stop_units (bus, install, steps);
}

static void
disable_services (sd_bus *bus, const BangerInstall *install, Steps *steps)
{
  GError *error = NULL;
  call (bus, SYSTEMD, "DisableUnitFiles", _ ("cannot disable the root helper"), &error, "asb", 1, HELPER_UNIT, FALSE);
  step_done (steps, error);
  error = NULL;
  call (bus, SYSTEMD, "Reload", _ ("cannot reload systemd"), &error, NULL);
  step_done (steps, error);
  if (access (BANGER_ETC_DIR "/" BANGER_LINGER_FILE, F_OK) == 0) {
    error = NULL;
    set_linger (bus, install->owner_uid, FALSE, &error);
    step_done (steps, error);
  }
}

/* Without the helper nothing of a VM can be taken back, and its lease is the only record of what there is. */
static void
check_leases (const BangerInstall *install, Steps *steps)
{
  GError *error = NULL;
  g_autoptr (GPtrArray) left = banger_system_leases (install, &error);
  if (left && left->len > 0) {
    guint count = left->len;
    g_ptr_array_add (left, NULL);
    g_autofree char *ids = g_strjoinv (", ", (char **)left->pdata);
    g_autofree char *shown = banger_log_escape (ids, SHOWN_IDS);
    banger_set_error (&error, BANGER_ERROR_WRONG_STATE,
                      ngettext ("%u VM still holds parts of this host (%s); %s, then run uninstall again",
                                "%u VMs still hold parts of this host (%s); %s, then run uninstall again", count),
                      count, shown,
                      sd_booted () > 0 ? _ ("start bangerd-root.service") : _ ("end them with scripts/dev-stack down"));
  }
  step_done (steps, error);
}

static void
remove_files (const BangerInstall *install, gboolean purge, Steps *steps)
{
  GError *error = NULL;
  (void)banger_system_remove_files (install, purge, &error);
  step_done (steps, error);
}

static int
steps_end (Steps *steps, GError **error)
{
  if (steps->failed == 0)
    return 0;
  g_propagate_error (error, steps->first);
  return -1;
}

/* From here on the owner has nothing made that root takes away. */
static void
forbid_owner (Steps *steps)
{
  GError *error = NULL;
  banger_autofd int dir = open (BANGER_POLKIT_RULES_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir >= 0 && unlinkat (dir, BANGER_POLKIT_RULES_FILE, 0) < 0 && errno != ENOENT)
    banger_set_error_errno (&error, BANGER_ERROR_FAILED, errno, _ ("cannot remove '%s'"), BANGER_POLKIT_RULES_FILE);
  step_done (steps, error);
}

int
banger_system_stop (const BangerInvocation *invocation, GError **error)
{
  if (!need_root (error))
    return -1;
  g_autoptr (BangerInstall) install = banger_install_load_trusted (NULL, error);
  g_autoptr (sd_bus) bus = install ? open_system_bus (error) : NULL;
  if (!bus)
    return -1;
  Steps steps = { 0 };
  if (sd_booted () > 0)
    stop_manager (bus, install);
  stop_all (bus, install, &steps);
  return steps_end (&steps, error);
}

int
banger_system_uninstall (const BangerInvocation *invocation, GError **error)
{
  if (!need_root (error))
    return -1;
  if (access (BANGER_INSTALL_FILE, F_OK) < 0) {
    g_print (_ ("banger is not installed.\n"));
    return 0;
  }
  g_autoptr (BangerInstall) install = banger_install_load_trusted (NULL, error);
  if (!install)
    return -1;
  Steps steps = { 0 };
  g_autoptr (sd_bus) bus = open_system_bus (NULL);
  if (bus) {
    if (sd_booted () > 0)
      stop_manager (bus, install);
    forbid_owner (&steps);
    stop_all (bus, install, &steps);
    if (sd_booted () > 0)
      disable_services (bus, install, &steps);
  }
  gboolean purge = banger_invocation_flag (invocation, "purge");
  check_leases (install, &steps);
  if (steps.failed == 0) {
    banger_system_forget_guests ();
    remove_files (install, purge, &steps);
  }
  if (steps_end (&steps, error) < 0)
    return -1;
  g_print (purge ? _ ("banger is uninstalled; its VMs, images and kernels are gone.\n")
                 : _ ("banger is uninstalled; VMs, images and kernels are kept in %s (--purge removes them).\n"),
           install->state_dir);
  return 0;
}

/* What lets guests out through the host's own firewall.
 * Never touches another program's rules or zones: each firewall is told by its own means. */
#include "cli/system-firewall.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "cli/system-paths.h"
#include "common/bus-source.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/folder.h"
#include "common/names.h"
#include "common/state-file.h"
#include "common/validate.h"

#define FIREWALLD_DIR "/etc/firewalld"
#define FIREWALLD_NAME "org.fedoraproject.FirewallD1"
#define FIREWALLD_PATH "/org/fedoraproject/FirewallD1"
#define RELOAD_TIMEOUT_USEC (90 * G_USEC_PER_SEC)
#define UFW "/usr/sbin/ufw"

/* firewalld.zone(5), firewalld.policy(5). The zone says nothing of the host's services: guests get none. What guests
 * without NAT send is dropped before, in banger's own tables. */
static const char zone_head[]
    = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n"
      "<!-- Written by `banger system install`, removed by `banger system uninstall`. -->\n"
      "<zone>\n"
      "  <short>banger</short>\n"
      "  <description>Guests of banger. They reach nothing of the host but ICMP echo.</description>\n"
      "  <interface name=\"";
static const char zone_tail[] = "\"/>\n</zone>\n";
static const char policy[] = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n"
                             "<!-- Written by `banger system install`, removed by `banger system uninstall`. -->\n"
                             "<policy target=\"ACCEPT\">\n"
                             "  <short>banger-out</short>\n"
                             "  <description>What guests of banger send elsewhere.</description>\n"
                             "  <ingress-zone name=\"banger\"/>\n"
                             "  <egress-zone name=\"ANY\"/>\n"
                             "</policy>\n";

/* Not started for this. */
static gboolean
firewalld_reload (GError **error)
{
  g_auto (sd_bus_error) bus_error = SD_BUS_ERROR_NULL;
  g_autoptr (sd_bus) bus = NULL;
  g_autoptr (sd_bus_message) m = NULL;
  if (sd_bus_open_system (&bus) < 0)
    return TRUE; /* then it does not run */
  int r = sd_bus_message_new_method_call (bus, &m, FIREWALLD_NAME, FIREWALLD_PATH, FIREWALLD_NAME, "reload");
  if (r >= 0)
    r = sd_bus_message_set_auto_start (m, 0);
  if (r >= 0)
    r = sd_bus_call (bus, m, RELOAD_TIMEOUT_USEC, &bus_error, NULL);
  if (r < 0
      && (sd_bus_error_has_name (&bus_error, SD_BUS_ERROR_SERVICE_UNKNOWN)
          || sd_bus_error_has_name (&bus_error, SD_BUS_ERROR_NAME_HAS_NO_OWNER)))
    return TRUE;
  return r >= 0 || banger_error_from_bus (error, &bus_error, r, _ ("firewalld does not read its zones anew"));
}

/* Whether the admin has put @bridge into another zone. */
static gboolean
firewalld_has (const char *bridge)
{
  g_autofree char *line = g_strdup_printf ("interface name=\"%s\"", bridge);
  banger_autofolder DIR *dir = banger_folder_open (AT_FDCWD, FIREWALLD_DIR "/zones");
  gboolean found = FALSE;
  for (const struct dirent *entry; !found && (entry = banger_folder_next (dir));) {
    const char *name = entry->d_name;
    g_autofree char *path = g_build_filename (FIREWALLD_DIR "/zones", name, NULL), *text = NULL;
    found = g_str_has_suffix (name, ".xml") && !g_str_equal (name, BANGER_FIREWALLD_ZONE)
            && g_file_get_contents (path, &text, NULL, NULL) && strstr (text, line);
  }
  return found;
}

/* TRUE also if it says so already; @changed then stays as it is. */
static gboolean
write_if_other (const char *directory, const char *name, const char *text, gboolean *changed, GError **error)
{
  g_autofree char *path = g_build_filename (directory, name, NULL), *old = NULL;
  if (g_file_get_contents (path, &old, NULL, NULL) && g_str_equal (old, text))
    return TRUE;
  banger_autofd int dir = open (directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot open '%s'"), directory);
  *changed = TRUE;
  return banger_state_write (dir, name, text, strlen (text), 0644, error);
}

static gboolean
firewalld_allow (const char *bridge, GError **error)
{
  gboolean changed = FALSE;
  g_autofree char *zone = g_strconcat (zone_head, bridge, zone_tail, NULL);
  if (firewalld_has (bridge))
    return TRUE;
  return write_if_other (FIREWALLD_DIR "/zones", BANGER_FIREWALLD_ZONE, zone, &changed, error)
         && write_if_other (FIREWALLD_DIR "/policies", BANGER_FIREWALLD_POLICY, policy, &changed, error)
         && (!changed || firewalld_reload (error));
}

static gboolean
firewalld_forget (const char *bridge, GError **error)
{
  static const char *const files[] = { FIREWALLD_DIR "/policies/" BANGER_FIREWALLD_POLICY,
                                       FIREWALLD_DIR "/zones/" BANGER_FIREWALLD_ZONE };
  guint removed = 0;
  for (size_t i = 0; i < G_N_ELEMENTS (files); i++)
    if (unlink (files[i]) == 0)
      removed++;
    else if (errno != ENOENT)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot remove '%s'"), files[i]);
  return removed == 0 || firewalld_reload (error);
}

/* ufw(8); it waits for the locks of iptables itself. */
static gboolean
run_ufw (const char *const *words, GError **error)
{
  static const char *environment[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", NULL };
  g_autofree char *said = NULL;
  g_autoptr (GError) why = NULL;
  int status = 0;
  if (!g_spawn_sync ("/", (char **)words, (char **)environment, G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL, &said,
                     &status, &why)
      || !g_spawn_check_wait_status (status, &why))
    return banger_set_error (error, BANGER_ERROR_FAILED, "ufw: %s", said && *g_strstrip (said) ? said : why->message);
  return TRUE;
}

static gboolean
ufw_allow (const char *bridge, GError **error)
{
  const char *words[] = { UFW, "route", "allow", "in", "on", bridge, "comment", "banger", NULL };
  return run_ufw (words, error);
}

static gboolean
ufw_forget (const char *bridge, GError **error)
{
  const char *words[] = { UFW, "--force", "route", "delete", "allow", "in", "on", bridge, NULL };
  return access (UFW, X_OK) != 0 || run_ufw (words, error);
}

static gboolean
firewalld_wants (void)
{
  return access (FIREWALLD_DIR "/zones", F_OK) == 0;
}

/* Not before it is active: it cannot be told anything without making tables of its own. */
static gboolean
ufw_wants (void)
{
  g_autofree char *text = NULL;
  return access (UFW, X_OK) == 0 && g_file_get_contents ("/etc/ufw/ufw.conf", &text, NULL, NULL)
         && g_regex_match_simple ("^ENABLED=\"?yes\"?$", text, G_REGEX_MULTILINE, 0);
}

static const struct {
  const char *name;
  gboolean (*wants) (void);
  gboolean (*allow) (const char *bridge, GError **error);
  gboolean (*forget) (const char *bridge, GError **error);
} firewalls[] = {
  { "firewalld", firewalld_wants, firewalld_allow, firewalld_forget },
  { "ufw", ufw_wants, ufw_allow, ufw_forget },
};

void
banger_system_allow_guests (const BangerInstall *install)
{
  g_autoptr (GString) done = g_string_new (NULL);
  g_autofree char *line = g_strdup_printf (" %s\n", install->bridge), *old = NULL;
  g_autoptr (GError) error = NULL;
  /* The bridge may have another name now. */
  if (g_file_get_contents (BANGER_FIREWALL_FILE, &old, NULL, NULL) && !strstr (old, line)) {
    banger_system_forget_guests ();
    g_clear_pointer (&old, g_free);
  }
  for (size_t i = 0; i < G_N_ELEMENTS (firewalls); i++) {
    g_autoptr (GError) why = NULL;
    g_autofree char *entry = g_strconcat (firewalls[i].name, line, NULL);
    if (!firewalls[i].wants ()) {
      g_string_append (done, old && strstr (old, entry) ? entry : ""); /* it still has what it was told */
      continue;
    }
    if (firewalls[i].allow (install->bridge, &why))
      g_string_append (done, entry);
    else
      g_printerr (_ ("banger: guests may not get out through %s: %s\n"), firewalls[i].name, why->message);
  }
  banger_autofd int etc = open (BANGER_ETC_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (done->len > 0 && (etc < 0 || !banger_state_write (etc, BANGER_FIREWALL_NAME, done->str, done->len, 0644, &error)))
    g_printerr ("banger: %s\n", error ? error->message : g_strerror (errno));
}

void
banger_system_forget_guests (void)
{
  g_autofree char *text = NULL;
  if (!g_file_get_contents (BANGER_FIREWALL_FILE, &text, NULL, NULL))
    return;
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  for (char **line = lines; *line; line++)
    for (size_t i = 0; i < G_N_ELEMENTS (firewalls); i++) {
      g_autoptr (GError) why = NULL;
      size_t n = strlen (firewalls[i].name);
      const char *bridge = *line + n + 1;
      if (!g_str_has_prefix (*line, firewalls[i].name) || (*line)[n] != ' ' || !banger_bridge_name_check (bridge, NULL))
        continue;
      if (!firewalls[i].forget (bridge, &why))
        g_printerr (_ ("banger: what lets guests out through %s is left: %s\n"), firewalls[i].name, why->message);
    }
}

/* Looks at what banger needs of the host: one row per need, with what was seen and what to do.
 * Never changes anything on the host. */
#include "manager/doctor.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/names.h"
#include "common/size.h"
#include "common/validate.h"
#include "manager/core/work.h"
#include "manager/image/build.h"
#include "manager/names.h"
#include "manager/net/port.h"
#include "manager/peer/helper-answers.h"
#include "manager/peer/helper.h"

#define GIB (G_GUINT64_CONSTANT (1) << 30)
#define SPACE_WARNING (4 * GIB)
#define SPACE_ERROR (GIB / 2)
#define PROBE_ID "00000000" /* no VM has it: ids come from getrandom(2) with 12 digits */

static const char *const status_words[] = { "ok", "warning", "error" };
G_STATIC_ASSERT (G_N_ELEMENTS (status_words) == BANGER_N_DOCTOR_STATUSES);

const char *
banger_doctor_status_to_string (BangerDoctorStatus status)
{
  g_return_val_if_fail (status < BANGER_N_DOCTOR_STATUSES, "error");
  return status_words[status];
}

/* One harmless call per polkit action: a lease that does not exist is neither made nor released, and a question. */
static const struct {
  const char *power, *method;
} probes[] = {
  { "network", "RemoveNat" },
  { "storage", "RemoveSnapshot" },
  { "vmm", "GetEngine" },
};
#define PROBE_VMM 2

typedef struct {
  BangerManager *manager;
  char *op_id;
  GError *answers[G_N_ELEMENTS (probes)];
  BangerEngineInfo engine; /* the name is NULL if it could not be asked */
  guint pending;
  /* What the worker may not look at by itself: */
  gboolean image, kernel; /* the default ones are ready */
  char *image_name;
  guint n_aside; /* records that could not be read */
  char *first_aside;
  char *config, *config_path, *config_problem; /* of these the last is the first one, NULL: none */
  BangerNamesStatus names;
  GPtrArray *rows;
} Doctor;

static void
doctor_free (gpointer data)
{
  Doctor *doctor = data;
  for (guint i = 0; i < G_N_ELEMENTS (probes); i++)
    g_clear_error (&doctor->answers[i]);
  banger_engine_info_clear (&doctor->engine);
  g_clear_pointer (&doctor->rows, g_ptr_array_unref);
  g_free (doctor->op_id);
  banger_names_status_clear (&doctor->names);
  g_free (doctor->image_name);
  g_free (doctor->first_aside);
  g_free (doctor->config);
  g_free (doctor->config_path);
  g_free (doctor->config_problem);
  g_free (doctor);
}

static void
row_free (gpointer data)
{
  BangerDoctorRow *row = data;
  g_free (row->seen);
  g_free (row->fix);
  g_free (row);
}

static void G_GNUC_PRINTF (4, 5)
    say (BangerDoctorRow *row, BangerDoctorStatus status, const char *fix, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  row->status = status;
  row->fix = g_strdup (fix);
  row->seen = g_strdup_vprintf (format, args);
  va_end (args);
}

/* What only the helper knows; without it the row is no error, as the helper's own is one. */
static gboolean
is_known (const Doctor *doctor, BangerDoctorRow *row)
{
  if (doctor->engine.name)
    return TRUE;
  const GError *answer = doctor->answers[PROBE_VMM];
  say (row, BANGER_DOCTOR_WARNING, "mend the helper or polkit first", "cannot be asked: %s",
       answer ? answer->message : "no answer");
  return FALSE;
}

static void
check_kvm (Doctor *doctor, BangerDoctorRow *row)
{
  if (!is_known (doctor, row))
    return;
  if (doctor->engine.kvm[0] == '\0')
    say (row, BANGER_DOCTOR_OK, "", "usable");
  else
    say (row, BANGER_DOCTOR_WARNING, "load kvm_intel or kvm_amd; without KVM guests are emulated, slowly", "%s",
         doctor->engine.kvm);
}

static void
check_tun (Doctor *doctor, BangerDoctorRow *row)
{
  struct stat st;
  if (stat ("/dev/net/tun", &st) == 0 && S_ISCHR (st.st_mode))
    say (row, BANGER_DOCTOR_OK, "", "/dev/net/tun");
  else
    say (row, BANGER_DOCTOR_ERROR, "modprobe tun", "/dev/net/tun is missing");
}

gboolean
banger_doctor_has_word (const char *path, const char *word)
{
  g_autofree char *text = NULL;
  if (!g_file_get_contents (path, &text, NULL, NULL))
    return FALSE;
  g_auto (GStrv) words = g_strsplit_set (text, " \n", -1);
  return g_strv_contains ((const char *const *)words, word);
}

/* The kernel's own list, or a module that it loads when the node is opened. The node alone says nothing: it may be left of
 * one that is gone. */
static void
check_device_mapper (Doctor *doctor, BangerDoctorRow *row)
{
  struct utsname kernel;
  g_autofree char *devname = uname (&kernel) == 0
                                 ? g_build_filename ("/lib/modules", kernel.release, "modules.devname", NULL)
                                 : NULL;
  gboolean there = access ("/dev/mapper/control", F_OK) == 0;
  if (there
      && (banger_doctor_has_word ("/proc/misc", "device-mapper")
          || (devname && banger_doctor_has_word (devname, "mapper/control"))))
    say (row, BANGER_DOCTOR_OK, "", "/dev/mapper/control");
  else
    say (
        row, BANGER_DOCTOR_WARNING, "modprobe dm_snapshot; without it each VM's root disk is a copy of its image", "%s",
        there ? "/dev/mapper/control is there, but the kernel has no device-mapper" : "/dev/mapper/control is missing");
}

/* The first file of that name counts, udev(7); the helper asks udev itself before it makes a disk. */
static void
check_udev (Doctor *doctor, BangerDoctorRow *row)
{
  static const char *const folders[] = { "/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib" };
  struct stat st;
  if (access ("/run/udev/control", F_OK) != 0) {
    say (row, BANGER_DOCTOR_OK, "", "no udev runs on this host");
    return;
  }
  for (guint i = 0; i < G_N_ELEMENTS (folders); i++) {
    g_autofree char *path = g_strdup_printf ("%s/udev/rules.d/" BANGER_UDEV_RULE, folders[i]);
    if (lstat (path, &st) != 0)
      continue;
    if (S_ISREG (st.st_mode) && st.st_size > 0)
      say (row, BANGER_DOCTOR_OK, "", "%s keeps udev away from the disks of VMs", path);
    else
      say (row, BANGER_DOCTOR_ERROR, "remove that file, then run: udevadm control --reload",
           "%s takes banger's rule away: udev would look into the disks of VMs", path);
    return;
  }
  say (row, BANGER_DOCTOR_ERROR, "install banger's " BANGER_UDEV_RULE " anew, then run: udevadm control --reload",
       "udev has no rule " BANGER_UDEV_RULE " and would look into the disks of VMs");
}

static void
check_helper (Doctor *doctor, BangerDoctorRow *row)
{
  const GError *answer = doctor->answers[0];
  if (!answer || !g_error_matches (answer, BANGER_ERROR, BANGER_ERROR_HELPER_UNAVAILABLE))
    say (row, BANGER_DOCTOR_OK, "", "bangerd-root answers on the system bus");
  else
    say (row, BANGER_DOCTOR_ERROR, "systemctl status bangerd-root.service; journalctl -u bangerd-root", "%s",
         answer->message);
}

static gboolean
denied (const GError *answer)
{
  static const BangerError codes[] = { BANGER_ERROR_ACCESS_DENIED, BANGER_ERROR_NOT_AUTHORIZED,
                                       BANGER_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED };
  for (guint i = 0; i < G_N_ELEMENTS (codes); i++)
    if (g_error_matches (answer, BANGER_ERROR, (int)codes[i]))
      return TRUE;
  return FALSE;
}

static void
check_polkit (Doctor *doctor, BangerDoctorRow *row)
{
  g_autoptr (GString) refused = g_string_new (NULL);
  const char *why = "";
  for (guint i = 0; i < G_N_ELEMENTS (probes); i++)
    if (denied (doctor->answers[i])) {
      g_string_append_printf (refused, "%s%s", refused->len > 0 ? ", " : "", probes[i].power);
      why = doctor->answers[i]->message;
    }
  if (g_error_matches (doctor->answers[0], BANGER_ERROR, BANGER_ERROR_HELPER_UNAVAILABLE))
    say (row, BANGER_DOCTOR_WARNING, "mend the helper first", "cannot be asked: the helper does not answer");
  else if (refused->len == 0)
    say (row, BANGER_DOCTOR_OK, "", "network, storage and vmm are granted");
  else
    say (row, BANGER_DOCTOR_ERROR, "check that polkit runs and that banger's rule names this owner", "refused: %s (%s)",
         refused->str, why);
}

static void
check_engine (Doctor *doctor, BangerDoctorRow *row)
{
  const BangerEngineInfo *engine = &doctor->engine;
  gboolean needs_qemu = g_strcmp0 (engine->name, "qemu") == 0;
  g_autofree char *qemu = needs_qemu ? g_find_program_in_path ("qemu-system-x86_64") : NULL;
  if (!is_known (doctor, row))
    return;
  if (engine->name[0] == '\0' || (needs_qemu && !qemu))
    say (row, BANGER_DOCTOR_ERROR,
         "install qemu-system-x86, or firecracker and its jailer (root-owned, not writable by others), as [engine] "
         "in install.toml names them",
         "no engine for use = \"%s\": %s", doctor->manager->install->engine,
         engine->name[0] == '\0' ? engine->problem : "qemu-system-x86_64 not found");
  else if (engine->problem[0] != '\0')
    say (row, BANGER_DOCTOR_WARNING, "mend that program, or remove [engine.firecracker] from install.toml", "%s, as %s",
         engine->name, engine->problem);
  else
    say (row, BANGER_DOCTOR_OK, "", "%s%s%s%s", engine->name, qemu ? " (" : "", qemu ? qemu : "", qemu ? ")" : "");
}

static void
check_image_build (Doctor *doctor, BangerDoctorRow *row)
{
  g_autoptr (GError) error = NULL;
  if (banger_image_check_host (&error))
    say (row, BANGER_DOCTOR_OK, "", "mmdebstrap, newuidmap and subordinate ids for %s",
         doctor->manager->install->owner_user);
  else
    say (row, BANGER_DOCTOR_WARNING, "as it says; `image import` needs none of it", "%s", error->message);
}

static void
check_space (Doctor *doctor, BangerDoctorRow *row)
{
  struct statvfs st;
  if (fstatvfs (doctor->manager->state_fd, &st) != 0) {
    say (row, BANGER_DOCTOR_ERROR, "look at the file system", "%s: %s", doctor->manager->state_path,
         g_strerror (errno));
    return;
  }
  guint64 free_bytes = (guint64)st.f_bavail * st.f_frsize;
  g_autofree char *shown = banger_size_format (MAX (free_bytes, 1));
  BangerDoctorStatus status = free_bytes < SPACE_ERROR     ? BANGER_DOCTOR_ERROR
                              : free_bytes < SPACE_WARNING ? BANGER_DOCTOR_WARNING
                                                           : BANGER_DOCTOR_OK;
  say (row, status, status == BANGER_DOCTOR_OK ? "" : "delete VMs or images, or make room", "%s free in %s", shown,
       doctor->manager->state_path);
}

static void
check_ssh (Doctor *doctor, BangerDoctorRow *row)
{
  g_autofree char *ssh = g_find_program_in_path ("ssh");
  g_autofree char *keygen = g_find_program_in_path ("ssh-keygen");
  if (ssh && keygen)
    say (row, BANGER_DOCTOR_OK, "", "%s", ssh);
  else
    say (row, BANGER_DOCTOR_ERROR, "apt install openssh-client", "%s is not installed", !ssh ? "ssh" : "ssh-keygen");
}

gboolean
banger_doctor_overlaps (guint32 a, guint prefix_a, guint32 b, guint prefix_b)
{
  guint prefix = MIN (prefix_a, prefix_b);
  guint32 mask = prefix == 0 ? 0 : ~(guint32)0 << (32 - prefix);
  return (a & mask) == (b & mask);
}

static guint
prefix_of (const struct sockaddr *netmask)
{
  struct sockaddr_in in;
  memcpy (&in, netmask, sizeof in);
  return (guint)__builtin_popcount (in.sin_addr.s_addr);
}

static void
check_bridge (Doctor *doctor, BangerDoctorRow *row)
{
  const BangerInstall *install = doctor->manager->install;
  struct in_addr ours;
  guint prefix = 0;
  struct ifaddrs *list = NULL;
  g_autoptr (GError) error = NULL;
  if (!banger_bridge_name_check (install->bridge, &error)
      || !banger_ipv4_cidr_parse (install->bridge_address, &ours, &prefix, &error))
  {
    say (row, BANGER_DOCTOR_ERROR, "correct [network] in install.toml", "%s", error->message);
    return;
  }
  if (getifaddrs (&list) != 0) {
    say (row, BANGER_DOCTOR_WARNING, "", "cannot list addresses: %s", g_strerror (errno));
    return;
  }
  const struct ifaddrs *other = list;
  for (; other; other = other->ifa_next) {
    struct sockaddr_in in;
    if (!other->ifa_addr || other->ifa_addr->sa_family != AF_INET || !other->ifa_netmask
        || g_str_equal (other->ifa_name, install->bridge))
      continue;
    memcpy (&in, other->ifa_addr, sizeof in);
    if (banger_doctor_overlaps (ntohl (ours.s_addr), prefix, ntohl (in.sin_addr.s_addr),
                                prefix_of (other->ifa_netmask)))
      break;
  }
  if (!other)
    say (row, BANGER_DOCTOR_OK, "", "%s %s, no other interface in that network", install->bridge,
         install->bridge_address);
  else
    say (row, BANGER_DOCTOR_ERROR, "give [network] address in install.toml another network",
         "%s overlaps with the network of %s", install->bridge_address, other->ifa_name);
  freeifaddrs (list);
}

/* One line of install's note: it told that firewall. */
static gboolean
was_told (const char *firewall, const char *bridge)
{
  g_autofree char *text = NULL, *line = g_strdup_printf ("%s %s", firewall, bridge);
  if (!g_file_get_contents (BANGER_FIREWALL_FILE, &text, NULL, NULL))
    return FALSE;
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  return g_strv_contains ((const char *const *)lines, line);
}

static gboolean
matches (const char *path, const char *pattern)
{
  g_autofree char *text = NULL;
  return g_file_get_contents (path, &text, NULL, NULL) && g_regex_match_simple (pattern, text, G_REGEX_MULTILINE, 0);
}

/* Where a unit has processes it has a cgroup, cgroups(7): with cgroup2 alone, or beside version 1. */
static gboolean
unit_runs (const char *unit)
{
  static const char *const folders[] = { "/sys/fs/cgroup/system.slice", "/sys/fs/cgroup/systemd/system.slice" };
  for (guint i = 0; i < G_N_ELEMENTS (folders); i++) {
    g_autofree char *path = g_build_filename (folders[i], unit, NULL);
    if (access (path, F_OK) == 0)
      return TRUE;
  }
  return FALSE;
}

static gboolean
firewalld_runs (void)
{
  return unit_runs ("firewalld.service");
}

static gboolean
ufw_drops (void)
{
  return matches ("/etc/ufw/ufw.conf", "^ENABLED=\"?yes\"?$")
         && !matches ("/etc/default/ufw", "^DEFAULT_FORWARD_POLICY=\"?ACCEPT\"?$");
}

/* Both have a policy of their own for what the host forwards, on top of banger's rules. */
static void
check_firewall (Doctor *doctor, BangerDoctorRow *row)
{
  static const struct {
    const char *name;
    gboolean (*active) (void);
  } firewalls[] = { { "firewalld", firewalld_runs }, { "ufw", ufw_drops } };
  const BangerInstall *install = doctor->manager->install;
  const char *told = NULL;
  for (guint i = 0; i < G_N_ELEMENTS (firewalls); i++) {
    if (!firewalls[i].active ())
      continue;
    if (!was_told (firewalls[i].name, install->bridge)) {
      g_autofree char *fix = g_strdup_printf ("sudo banger system install --owner %s%s", install->owner_user,
                                              install->owner_uid < 1000 ? " --system-account" : "");
      say (row, BANGER_DOCTOR_WARNING, fix, "%s is active and was not told of %s: guests may not get out",
           firewalls[i].name, install->bridge);
      return;
    }
    told = firewalls[i].name;
  }
  if (unit_runs ("docker.service")) /* whose rules only root can read */
    say (row, BANGER_DOCTOR_OK, "",
         "%s%sDocker is active: if guests get nowhere its chain DOCKER-USER is to let %s pass, see docs/names.md",
         told ? told : "", told ? " was told; " : "", install->bridge);
  else if (told)
    say (row, BANGER_DOCTOR_OK, "", "%s was told of %s", told, install->bridge);
  else
    say (row, BANGER_DOCTOR_OK, "", "no firewalld or ufw is active");
}

static void
check_defaults (Doctor *doctor, BangerDoctorRow *row)
{
  if (doctor->image && doctor->kernel)
    say (row, BANGER_DOCTOR_OK, "", "an image named \"%s\" and a kernel named \"" BANGER_DEFAULT_NAME "\"",
         doctor->image_name);
  else
    say (row, BANGER_DOCTOR_WARNING, !doctor->kernel ? "banger kernel import" : "banger image build",
         "no %s named \"%s\" is ready", !doctor->kernel ? "kernel" : "image",
         !doctor->kernel ? BANGER_DEFAULT_NAME : doctor->image_name);
}

/* "vcpu 4 (line 3), memory "1 GiB" (default), ..." */
static char *
describe_config (const BangerConfig *config)
{
  g_autoptr (GString) text = g_string_new (NULL);
  for (const BangerConfigKey *key = banger_config_keys; key->table; key++) {
    g_autofree char *value = banger_config_value (config, key), *origin = banger_config_origin (config, key);
    g_string_append_printf (text, "%s%s %s (%s)", text->len > 0 ? ", " : "", key->key, value, origin);
  }
  for (guint i = 0; i < config->rows->len; i++) {
    const BangerConfigRow *row = config->rows->pdata[i];
    g_string_append_printf (text, ", %s %s (%s)", row->key, row->value, row->from);
  }
  return g_string_free (g_steal_pointer (&text), FALSE);
}

static void
check_config (Doctor *doctor, BangerDoctorRow *row)
{
  if (doctor->config_problem)
    say (row, BANGER_DOCTOR_WARNING, "mend that line, see banger-config(5), then: banger config reload", "%s",
         doctor->config_problem);
  else
    say (row, BANGER_DOCTOR_OK, "", "%s: %s", doctor->config_path, doctor->config);
}

/* Whether what programs ask for names goes to systemd-resolved: nsswitch.conf(5), resolv.conf(5). */
static gboolean
resolved_is_asked (void)
{
  return matches ("/etc/nsswitch.conf", "^hosts:.*\\bresolve\\b")
         || matches ("/etc/resolv.conf", "^nameserver\\s+127\\.0\\.0\\.5[34]\\b");
}

static void
check_unserved (const BangerNamesStatus *names, BangerDoctorRow *row)
{
  g_autofree char *holder = names->taken ? banger_port_holder (names->port) : NULL;
  say (
      row, BANGER_DOCTOR_WARNING,
      names->taken
          ? "end that program, or set dns-port below [network] in ~/.config/banger/config.toml to a free port, then: "
            "banger config reload"
          : "set dns-port below [network] in ~/.config/banger/config.toml to a port that bangerd may have, from 1024 on, "
            "then: banger config reload",
      "no names of VMs: %s%s%s", names->unserved, holder ? "; it has " : "", holder ? holder : "");
}

static void
check_names (Doctor *doctor, BangerDoctorRow *row)
{
  static const char fix[] = "tell whoever resolves names on this host of that port: docs/names.md";
  const BangerNamesStatus *names = &doctor->names;
  if (names->port == 0)
    say (row, BANGER_DOCTOR_OK, "", "none: dns-port is 0 in config.toml");
  else if (names->unserved)
    check_unserved (names, row);
  else if (names->unrouted)
    say (row, BANGER_DOCTOR_WARNING, fix, "%u below vm, on 127.0.0.1:%u; %s", names->named, names->port,
         names->unrouted);
  else if (!names->routed && access ("/run/systemd/resolve/io.systemd.Resolve", F_OK) != 0)
    say (row, BANGER_DOCTOR_WARNING, fix,
         "%u below vm, on 127.0.0.1:%u; no systemd-resolved runs that could be sent there", names->named, names->port);
  else if (!resolved_is_asked ())
    say (row, BANGER_DOCTOR_WARNING,
         "install libnss-resolve, or make /etc/resolv.conf a link to /run/systemd/resolve/stub-resolv.conf",
         "%u below vm, on 127.0.0.1:%u; systemd-resolved runs, but programs of this host do not ask it", names->named,
         names->port);
  else
    say (row, BANGER_DOCTOR_OK, "", "%u below vm, on 127.0.0.1:%u, where systemd-resolved %s", names->named,
         names->port, names->routed ? "asks for them" : "is sent while a VM runs");
}

static void
check_records (Doctor *doctor, BangerDoctorRow *row)
{
  if (doctor->n_aside == 0)
    say (row, BANGER_DOCTOR_OK, "", "all records can be read");
  else
    say (row, BANGER_DOCTOR_WARNING, "look at it; delete it when it is of no use", "%u could not be read, first %s",
         doctor->n_aside, doctor->first_aside);
}

static const struct {
  const char *name;
  void (*check) (Doctor *doctor, BangerDoctorRow *row);
} checks[] = {
  { "helper", check_helper },
  { "polkit", check_polkit },
  { "engine", check_engine },
  { "kvm", check_kvm },
  { "tun", check_tun },
  { "device-mapper", check_device_mapper },
  { "udev", check_udev },
  { "bridge-address", check_bridge },
  { "firewall", check_firewall },
  { "ssh", check_ssh },
  { "disk-space", check_space },
  { "image-and-kernel", check_defaults },
  { "image-build", check_image_build },
  { "config", check_config },
  { "names", check_names },
  { "records", check_records },
};

/* In a worker: of all these any may be on a disk that hangs, or behind a name service. */
static gboolean
look (gpointer data, GCancellable *cancellable, GError **error)
{
  Doctor *doctor = data;
  doctor->rows = g_ptr_array_new_with_free_func (row_free);
  for (guint i = 0; i < G_N_ELEMENTS (checks); i++) {
    BangerDoctorRow *row = g_new0 (BangerDoctorRow, 1);
    row->check = checks[i].name;
    checks[i].check (doctor, row);
    g_ptr_array_add (doctor->rows, row);
  }
  return TRUE;
}

static void
on_looked (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  Doctor *doctor = g_task_get_task_data (task);
  (void)banger_work_finish (result, NULL);
  g_task_return_pointer (task, g_steal_pointer (&doctor->rows), (GDestroyNotify)g_ptr_array_unref);
}

static gboolean
is_ready (const BangerAssetClass *class, const char *name, BangerManager *manager)
{
  const BangerAsset *asset = banger_asset_find (banger_manager_assets (manager, class), name, NULL);
  return asset && asset->state == BANGER_ASSET_READY;
}

static void
look_async (GTask *task)
{
  static const BangerWork looking = { .name = "doctor", .run = look };
  Doctor *doctor = g_task_get_task_data (task);
  const BangerConfig *config = doctor->manager->config;
  banger_names_status (doctor->manager->names, &doctor->names);
  doctor->image_name = g_strdup (config->image);
  doctor->image = is_ready (&banger_image_class, config->image, doctor->manager);
  doctor->kernel = is_ready (&banger_kernel_class, BANGER_DEFAULT_NAME, doctor->manager);
  doctor->n_aside = doctor->manager->set_aside->len;
  doctor->config = describe_config (config);
  doctor->config_path = g_strdup (config->path);
  doctor->config_problem = config->problems->len > 0 ? g_strdup (config->problems->pdata[0]) : NULL;
  doctor->first_aside = doctor->n_aside > 0 ? g_strdup (doctor->manager->set_aside->pdata[0]) : NULL;
  banger_work_async (&looking, doctor, NULL, on_looked, g_object_ref (task));
}

typedef struct {
  GTask *task;
  guint probe;
} Answer;

static void
probe_done (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autofree Answer *answer = data;
  g_autoptr (GTask) task = answer->task;
  Doctor *doctor = g_task_get_task_data (task);
  if (answer->probe == PROBE_VMM)
    banger_helper_engine_finish (result, &doctor->engine, &doctor->answers[PROBE_VMM]);
  else
    banger_helper_finish (result, &doctor->answers[answer->probe]);
  if (--doctor->pending == 0)
    look_async (task);
}

void
banger_doctor_run_async (BangerManager *manager, const char *op_id, GAsyncReadyCallback callback, gpointer user_data)
{
  g_autoptr (GTask) task = g_task_new (NULL, NULL, callback, user_data);
  Doctor *doctor = g_new0 (Doctor, 1);
  doctor->manager = manager;
  doctor->op_id = g_strdup (op_id);
  doctor->pending = G_N_ELEMENTS (probes);
  g_task_set_task_data (task, doctor, doctor_free);
  const BangerCaller caller = { .op_id = doctor->op_id };
  for (guint i = 0; i < G_N_ELEMENTS (probes); i++) {
    Answer *answer = g_new0 (Answer, 1);
    answer->task = g_object_ref (task);
    answer->probe = i;
    banger_helper_call (manager->helper, &caller, probes[i].method, NULL, probe_done, answer, PROBE_ID);
  }
}

GPtrArray *
banger_doctor_run_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_pointer (G_TASK (result), error);
}

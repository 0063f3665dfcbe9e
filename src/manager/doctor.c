/* Looks at what banger needs of the host: one row per need, with what was seen and what to do.
 * Called by manager-dbus.c for Diagnose.
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
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/size.h"
#include "common/validate.h"
#include "manager/helper-client.h"
#include "manager/image-build.h"

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

int
banger_doctor_status_from_string (const char *word)
{
  for (int i = 0; i < BANGER_N_DOCTOR_STATUSES; i++)
    if (g_strcmp0 (word, status_words[i]) == 0)
      return i;
  return -1;
}

/* One harmless call per polkit action: a lease that does not exist is neither made nor released. */
typedef struct {
  const char *power;
  void (*call) (BangerHelper *, const BangerHelperCaller *, const char *, GCancellable *, GAsyncReadyCallback,
                gpointer);
} Probe;

static const Probe probes[] = {
  { "network", banger_helper_remove_nat },
  { "storage", banger_helper_remove_snapshot },
  { "vmm", banger_helper_get_vmm },
};

typedef struct {
  BangerManager *manager;
  char *op_id;
  GError *answers[G_N_ELEMENTS (probes)];
  guint pending;
  GPtrArray *rows;
} Doctor;

static void
doctor_free (gpointer data)
{
  Doctor *doctor = data;
  for (guint i = 0; i < G_N_ELEMENTS (probes); i++)
    g_clear_error (&doctor->answers[i]);
  g_clear_pointer (&doctor->rows, g_ptr_array_unref);
  g_free (doctor->op_id);
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

static gboolean
cpu_virtualizes (void)
{
  g_autofree char *text = NULL;
  if (!g_file_get_contents ("/proc/cpuinfo", &text, NULL, NULL))
    return FALSE;
  return g_regex_match_simple ("^flags\\s*:.*\\b(vmx|svm)\\b", text, G_REGEX_MULTILINE, 0);
}

/* The owner need not be able to open it: a jail has a node of its own, made by root. */
static gboolean
kvm_usable (const char **ret_why)
{
  banger_autofd int fd = open ("/dev/kvm", O_RDWR | O_CLOEXEC);
  gboolean there = fd >= 0 || errno == EACCES;
  if (!there)
    *ret_why = errno == ENOENT ? "/dev/kvm does not exist" : "/dev/kvm cannot be opened";
  else if (!cpu_virtualizes ())
    *ret_why = "/dev/kvm is there, but the CPU shows neither vmx nor svm";
  else
    *ret_why = "usable";
  return there && cpu_virtualizes ();
}

static void
check_kvm (Doctor *doctor, BangerDoctorRow *row)
{
  const char *why = NULL;
  if (kvm_usable (&why))
    say (row, BANGER_DOCTOR_OK, "", "%s", why);
  else
    say (row, BANGER_DOCTOR_WARNING, "load kvm_intel or kvm_amd; without KVM guests are emulated, slowly", "%s", why);
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

static void
check_device_mapper (Doctor *doctor, BangerDoctorRow *row)
{
  if (access ("/dev/mapper/control", F_OK) == 0)
    say (row, BANGER_DOCTOR_OK, "", "/dev/mapper/control");
  else
    say (row, BANGER_DOCTOR_WARNING, "modprobe dm_snapshot; without it each VM's root disk is a copy of its image",
         "/dev/mapper/control is missing");
}

static void
check_helper (Doctor *doctor, BangerDoctorRow *row)
{
  const GError *answer = doctor->answers[0];
  if (answer == NULL || !g_error_matches (answer, BANGER_ERROR, BANGER_ERROR_HELPER_UNAVAILABLE))
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

/* The gate that the helper holds binaries against, as far as one can see from here. */
static gboolean
binary_good (const char *path)
{
  struct stat st;
  return path != NULL && lstat (path, &st) == 0 && S_ISREG (st.st_mode) && st.st_uid == 0
         && (st.st_mode & (S_IWGRP | S_IWOTH)) == 0 && (st.st_mode & S_IXUSR) != 0;
}

static void
check_engine (Doctor *doctor, BangerDoctorRow *row)
{
  const BangerInstall *install = doctor->manager->install;
  const char *why = NULL;
  g_autofree char *qemu = g_find_program_in_path ("qemu-system-x86_64");
  gboolean firecracker = binary_good (install->firecracker_vmm) && binary_good (install->firecracker_jailer)
                         && kvm_usable (&why);
  gboolean pair = binary_good (install->qemu_vmm) && binary_good (install->qemu_jailer) && qemu != NULL;
  gboolean only_firecracker = g_strcmp0 (install->engine, "firecracker") == 0;
  gboolean only_qemu = g_strcmp0 (install->engine, "qemu") == 0;
  if (firecracker && !only_qemu)
    say (row, BANGER_DOCTOR_OK, "", "firecracker (%s)", install->firecracker_vmm);
  else if (pair && !only_firecracker)
    say (row, BANGER_DOCTOR_OK, "", "qemu (%s)", qemu);
  else
    say (row, BANGER_DOCTOR_ERROR,
         "install qemu-system-x86, or firecracker and its jailer (root-owned, not writable by others), as [engine] "
         "in install.toml names them",
         "no engine for use = \"%s\": firecracker %s, qemu pair %s, qemu-system-x86_64 %s", install->engine,
         firecracker ? "usable" : "not usable", pair ? "usable" : "not usable", qemu != NULL ? qemu : "not found");
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
  if (ssh != NULL && keygen != NULL)
    say (row, BANGER_DOCTOR_OK, "", "%s", ssh);
  else
    say (row, BANGER_DOCTOR_ERROR, "apt install openssh-client", "%s is not installed",
         ssh == NULL ? "ssh" : "ssh-keygen");
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
  for (; other != NULL; other = other->ifa_next) {
    struct sockaddr_in in;
    if (other->ifa_addr == NULL || other->ifa_addr->sa_family != AF_INET || other->ifa_netmask == NULL
        || g_str_equal (other->ifa_name, install->bridge))
      continue;
    memcpy (&in, other->ifa_addr, sizeof in);
    if (banger_doctor_overlaps (ntohl (ours.s_addr), prefix, ntohl (in.sin_addr.s_addr),
                                prefix_of (other->ifa_netmask)))
      break;
  }
  if (other == NULL)
    say (row, BANGER_DOCTOR_OK, "", "%s %s, no other interface in that network", install->bridge,
         install->bridge_address);
  else
    say (row, BANGER_DOCTOR_ERROR, "give [network] address in install.toml another network",
         "%s overlaps with the network of %s", install->bridge_address, other->ifa_name);
  freeifaddrs (list);
}

static void
check_defaults (Doctor *doctor, BangerDoctorRow *row)
{
  const BangerImage *own_image = banger_asset_find (&banger_image_class, doctor->manager, BANGER_DEFAULT_NAME, NULL);
  const BangerKernel *own_kernel = banger_asset_find (&banger_kernel_class, doctor->manager, BANGER_DEFAULT_NAME, NULL);
  gboolean image = own_image != NULL && own_image->asset.state == BANGER_ASSET_READY;
  gboolean kernel = own_kernel != NULL && own_kernel->asset.state == BANGER_ASSET_READY;
  if (image && kernel)
    say (row, BANGER_DOCTOR_OK, "", "an image and a kernel named \"%s\"", BANGER_DEFAULT_NAME);
  else
    say (row, BANGER_DOCTOR_WARNING, !kernel ? "banger kernel import" : "banger image build",
         "no %s named \"%s\" is ready", !kernel ? "kernel" : "image", BANGER_DEFAULT_NAME);
}

static void
check_records (Doctor *doctor, BangerDoctorRow *row)
{
  GPtrArray *aside = doctor->manager->set_aside;
  if (aside->len == 0)
    say (row, BANGER_DOCTOR_OK, "", "all records can be read");
  else
    say (row, BANGER_DOCTOR_WARNING, "look at it; delete it when it is of no use", "%u could not be read, first %s",
         aside->len, (const char *)aside->pdata[0]);
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
  { "bridge-address", check_bridge },
  { "ssh", check_ssh },
  { "disk-space", check_space },
  { "image-and-kernel", check_defaults },
  { "image-build", check_image_build },
  { "records", check_records },
};

static void
look (GTask *task)
{
  Doctor *doctor = g_task_get_task_data (task);
  doctor->rows = g_ptr_array_new_with_free_func (row_free);
  for (guint i = 0; i < G_N_ELEMENTS (checks); i++) {
    BangerDoctorRow *row = g_new0 (BangerDoctorRow, 1);
    row->check = checks[i].name;
    checks[i].check (doctor, row);
    g_ptr_array_add (doctor->rows, row);
  }
  g_task_return_pointer (task, g_steal_pointer (&doctor->rows), (GDestroyNotify)g_ptr_array_unref);
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
  BangerVmmStatus status;
  if (probes[answer->probe].call == banger_helper_get_vmm)
    banger_helper_status_finish (doctor->manager->helper, result, &status, &doctor->answers[answer->probe]);
  else
    banger_helper_finish (doctor->manager->helper, result, &doctor->answers[answer->probe]);
  if (--doctor->pending == 0)
    look (task);
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
  BangerHelperCaller caller = { .op_id = doctor->op_id };
  for (guint i = 0; i < G_N_ELEMENTS (probes); i++) {
    Answer *answer = g_new0 (Answer, 1);
    answer->task = g_object_ref (task);
    answer->probe = i;
    probes[i].call (manager->helper, &caller, PROBE_ID, NULL, probe_done, answer);
  }
}

GPtrArray *
banger_doctor_run_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_pointer (G_TASK (result), error);
}

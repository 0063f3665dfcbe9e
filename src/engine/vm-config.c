/* What the API has configured so far: the model behind PUT, PATCH and GET.
 * Never starts anything; opens files only to say that they cannot be opened. */
#include "engine/vm-config.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sys/stat.h>

#include "common/fd.h"
#include "engine/host.h"

static const char *const cpu_templates[] = { "C3", "T2", "T2S", "T2CL", "T2A", "V1N1", "None", NULL };
static const char *const huge_pages[] = { "None", "2M", NULL };
static const char *const cache_types[] = { "Unsafe", "Writeback", NULL };
static const char *const io_engines[] = { "Sync", "Async", NULL };

#define STRING(T, member, needed, choices)                                                                             \
  {                                                                                                                    \
#member, BANGER_FIELD_STRING, needed, offsetof(T, member), 0, choices                                              \
  }
#define BOOL(T, member, needed)                                                                                        \
  {                                                                                                                    \
#member, BANGER_FIELD_BOOL, needed, offsetof(T, member), 0, NULL                                                   \
  }
#define UINT(T, member, needed, most)                                                                                  \
  {                                                                                                                    \
#member, BANGER_FIELD_UINT, needed, offsetof(T, member), most, NULL                                                \
  }
#define UNSUPPORTED(name)                                                                                              \
  {                                                                                                                    \
    name, BANGER_FIELD_UNSUPPORTED, FALSE, 0, 0, NULL                                                                  \
  }
#define END                                                                                                            \
  {                                                                                                                    \
    NULL, BANGER_FIELD_STRING, FALSE, 0, 0, NULL                                                                       \
  }

const BangerBodyField banger_boot_source_fields[] = {
  STRING (BangerBootSource, kernel_image_path, TRUE, NULL),
  STRING (BangerBootSource, initrd_path, FALSE, NULL),
  STRING (BangerBootSource, boot_args, FALSE, NULL),
  END,
};

#define MACHINE_FIELDS(needed)                                                                                         \
  UINT (BangerMachineConfig, vcpu_count, needed, G_MAXUINT8),                                                          \
      UINT (BangerMachineConfig, mem_size_mib, needed, G_MAXINT64), BOOL (BangerMachineConfig, smt, FALSE),            \
      STRING (BangerMachineConfig, cpu_template, FALSE, cpu_templates),                                                \
      BOOL (BangerMachineConfig, track_dirty_pages, FALSE),                                                            \
      STRING (BangerMachineConfig, huge_pages, FALSE, huge_pages), END

const BangerBodyField banger_machine_fields[] = { MACHINE_FIELDS (TRUE) };
const BangerBodyField banger_machine_patch_fields[] = { MACHINE_FIELDS (FALSE) };

const BangerBodyField banger_drive_fields[] = {
  STRING (BangerDrive, drive_id, TRUE, NULL),
  STRING (BangerDrive, partuuid, FALSE, NULL),
  BOOL (BangerDrive, is_root_device, TRUE),
  STRING (BangerDrive, cache_type, FALSE, cache_types),
  BOOL (BangerDrive, is_read_only, FALSE),
  STRING (BangerDrive, path_on_host, FALSE, NULL),
  UNSUPPORTED ("rate_limiter"),
  STRING (BangerDrive, io_engine, FALSE, io_engines),
  UNSUPPORTED ("socket"),
  END,
};

const BangerBodyField banger_network_fields[] = {
  STRING (BangerNetwork, iface_id, TRUE, NULL),
  STRING (BangerNetwork, host_dev_name, TRUE, NULL),
  STRING (BangerNetwork, guest_mac, FALSE, NULL),
  UINT (BangerNetwork, mtu, FALSE, G_MAXUINT16),
  UNSUPPORTED ("rx_rate_limiter"),
  UNSUPPORTED ("tx_rate_limiter"),
  END,
};

const BangerBodyField banger_vsock_fields[] = {
  UINT (BangerVsockConfig, guest_cid, TRUE, G_MAXUINT32),
  STRING (BangerVsockConfig, uds_path, TRUE, NULL),
  STRING (BangerVsockConfig, vsock_id, FALSE, NULL),
  END,
};

const BangerBodyField banger_logger_fields[] = {
  STRING (BangerLoggerConfig, log_path, FALSE, NULL), STRING (BangerLoggerConfig, level, FALSE, NULL),
  BOOL (BangerLoggerConfig, show_level, FALSE),       BOOL (BangerLoggerConfig, show_log_origin, FALSE),
  STRING (BangerLoggerConfig, module, FALSE, NULL),   END,
};

const BangerBodyField banger_metrics_fields[] = { STRING (BangerMetricsConfig, metrics_path, TRUE, NULL), END };

const BangerBodyField banger_serial_fields[] = {
  STRING (BangerSerialConfig, serial_out_path, FALSE, NULL),
  UNSUPPORTED ("rate_limiter"),
  END,
};

const BangerBodyField banger_entropy_fields[] = { UNSUPPORTED ("rate_limiter"), END };

gboolean
banger_vmm_fault (GError **error, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  g_set_error_literal (error, BANGER_VMM_ERROR, BANGER_VMM_ERROR_REQUEST, text);
  return FALSE;
}

static gboolean fault (GError **error, BangerVmmError code, const char *format, ...) G_GNUC_PRINTF (3, 4);

static gboolean
fault (GError **error, BangerVmmError code, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  g_set_error_literal (error, BANGER_VMM_ERROR, (int)code, text);
  return FALSE;
}

static void
drive_free (BangerDrive *drive)
{
  banger_body_clear (banger_drive_fields, drive);
  g_free (drive);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerDrive, drive_free)

static void
network_free (BangerNetwork *network)
{
  banger_body_clear (banger_network_fields, network);
  banger_clear_fd (&network->tap_fd);
  g_free (network);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerNetwork, network_free)

BangerVmConfig *
banger_vm_config_new (void)
{
  BangerVmConfig *config = g_new0 (BangerVmConfig, 1);
  banger_body_clear (banger_machine_fields, &config->machine);
  banger_body_clear (banger_vsock_fields, &config->vsock);
  banger_body_clear (banger_logger_fields, &config->logger);
  config->machine.vcpu_count = 1;
  config->machine.mem_size_mib = 128;
  config->machine.smt = 0;
  config->machine.track_dirty_pages = 0;
  config->machine.huge_pages = g_strdup ("None");
  config->drives = g_ptr_array_new_with_free_func ((GDestroyNotify)drive_free);
  config->networks = g_ptr_array_new_with_free_func ((GDestroyNotify)network_free);
  return config;
}

void
banger_vm_config_free (BangerVmConfig *config)
{
  banger_body_clear (banger_boot_source_fields, &config->boot_source);
  banger_body_clear (banger_machine_fields, &config->machine);
  banger_body_clear (banger_vsock_fields, &config->vsock);
  banger_body_clear (banger_logger_fields, &config->logger);
  banger_body_clear (banger_metrics_fields, &config->metrics);
  banger_body_clear (banger_serial_fields, &config->serial);
  g_ptr_array_unref (config->drives);
  g_ptr_array_unref (config->networks);
  g_free (config);
}

static gboolean
check_open (const char *path, int flags, struct stat *ret, const char *what, GError **error)
{
  banger_autofd int fd = open (path, flags | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0 || fstat (fd, ret) < 0)
    return fault (error, BANGER_VMM_ERROR_HOST, "%s: %s: %s", what, path, g_strerror (errno));
  return TRUE;
}

gboolean
banger_vm_config_put_boot_source (BangerVmConfig *config, JsonNode *body, GError **error)
{
  BangerBootSource source;
  if (!banger_body_read (body, banger_boot_source_fields, &source, error))
    return FALSE;
  struct stat st;
  gboolean ok
      = check_open (source.kernel_image_path, O_RDONLY, &st, "Boot source error: The kernel file cannot be opened",
                    error)
        && (!source.initrd_path
            || check_open (
                source.initrd_path, O_RDONLY, &st,
                "Boot source error: The initrd file cannot be opened due to invalid path or invalid permissions",
                error));
  if (!ok) {
    banger_body_clear (banger_boot_source_fields, &source);
    return FALSE;
  }
  banger_body_clear (banger_boot_source_fields, &config->boot_source);
  config->boot_source = source;
  return TRUE;
}

/* The rules of PUT and PATCH /machine-config on the values as they would be. */
static gboolean
check_machine (const BangerMachineConfig *machine, GError **error)
{
  gboolean odd = machine->smt == 1 && machine->vcpu_count > 1 && machine->vcpu_count % 2 == 1;
  if (machine->vcpu_count < 1 || machine->vcpu_count > BANGER_VMM_MAX_VCPUS || odd)
    return fault (error, BANGER_VMM_ERROR_REQUEST,
                  "Machine config error: The number of vCPUs must be greater than 0, less than %d and must be 1 or an "
                  "even number if SMT is enabled.",
                  BANGER_VMM_MAX_VCPUS);
  if (machine->mem_size_mib < 1 || machine->mem_size_mib > (G_MAXINT64 >> 20))
    return fault (
        error, BANGER_VMM_ERROR_REQUEST,
        "Machine config error: The memory size (MiB) is either 0, or not a multiple of the configured page size.");
  if (machine->cpu_template && !g_str_equal (machine->cpu_template, "None"))
    return fault (error, BANGER_VMM_ERROR_REQUEST, "The requested operation is not supported: cpu_template %s",
                  machine->cpu_template);
  if (machine->huge_pages && !g_str_equal (machine->huge_pages, "None"))
    return fault (error, BANGER_VMM_ERROR_REQUEST, "The requested operation is not supported: huge_pages %s",
                  machine->huge_pages);
  return TRUE;
}

static void
take_string (char **to, char **from, const char *otherwise)
{
  char *value = *from ? g_steal_pointer (from) : g_strdup (otherwise);
  g_free (*to);
  *to = value;
}

gboolean
banger_vm_config_put_machine (BangerVmConfig *config, JsonNode *body, GError **error)
{
  BangerMachineConfig machine;
  if (!banger_body_read (body, banger_machine_fields, &machine, error))
    return FALSE;
  machine.smt = MAX (machine.smt, 0);
  machine.track_dirty_pages = MAX (machine.track_dirty_pages, 0);
  take_string (&machine.huge_pages, &machine.huge_pages, "None");
  if (!check_machine (&machine, error)) {
    banger_body_clear (banger_machine_fields, &machine);
    return FALSE;
  }
  banger_body_clear (banger_machine_fields, &config->machine);
  config->machine = machine;
  return TRUE;
}

gboolean
banger_vm_config_patch_machine (BangerVmConfig *config, JsonNode *body, GError **error)
{
  BangerMachineConfig patch;
  if (!banger_body_read (body, banger_machine_patch_fields, &patch, error))
    return FALSE;
  gboolean empty = patch.vcpu_count < 0 && patch.mem_size_mib < 0 && patch.smt < 0 && patch.track_dirty_pages < 0
                   && !patch.cpu_template && !patch.huge_pages;
  if (empty)
    return fault (error, BANGER_VMM_ERROR_REQUEST, "Empty PATCH request.");
  const BangerMachineConfig *now = &config->machine;
  patch.vcpu_count = patch.vcpu_count < 0 ? now->vcpu_count : patch.vcpu_count;
  patch.mem_size_mib = patch.mem_size_mib < 0 ? now->mem_size_mib : patch.mem_size_mib;
  patch.smt = patch.smt < 0 ? now->smt : patch.smt;
  patch.track_dirty_pages = patch.track_dirty_pages < 0 ? now->track_dirty_pages : patch.track_dirty_pages;
  take_string (&patch.cpu_template, &patch.cpu_template, now->cpu_template);
  take_string (&patch.huge_pages, &patch.huge_pages, now->huge_pages);
  if (!check_machine (&patch, error)) {
    banger_body_clear (banger_machine_fields, &patch);
    return FALSE;
  }
  banger_body_clear (banger_machine_fields, &config->machine);
  config->machine = patch;
  return TRUE;
}

static gboolean
check_drive (BangerDrive *drive, const char *id, GError **error)
{
  if (id && !g_str_equal (id, drive->drive_id))
    return fault (error, BANGER_VMM_ERROR_REQUEST, "The id from the path does not match the id from the body!");
  if (!drive->path_on_host || drive->is_read_only < 0)
    return fault (
        error, BANGER_VMM_ERROR_REQUEST,
        "Drive config error: Unable to create the virtio block device: path_on_host and is_read_only are required.");
  struct stat st;
  int flags = drive->is_read_only ? O_RDONLY : O_RDWR;
  if (!check_open (drive->path_on_host, flags, &st, "Drive config error: Unable to create the virtio block device",
                   error))
    return FALSE;
  if (!S_ISREG (st.st_mode) && !S_ISBLK (st.st_mode))
    return fault (
        error, BANGER_VMM_ERROR_HOST,
        "Drive config error: Unable to create the virtio block device: %s is neither a file nor a block device",
        drive->path_on_host);
  drive->is_block_device = S_ISBLK (st.st_mode);
  return TRUE;
}

static guint
find_drive (const BangerVmConfig *config, const char *id)
{
  guint i = 0;
  while (i < config->drives->len && !g_str_equal (((BangerDrive *)config->drives->pdata[i])->drive_id, id))
    i++;
  return i;
}

gboolean
banger_vm_config_put_drive (BangerVmConfig *config, const char *id, JsonNode *body, GError **error)
{
  BangerDrive *raw = g_new0 (BangerDrive, 1);
  if (!banger_body_read (body, banger_drive_fields, raw, error)) {
    g_free (raw);
    return FALSE;
  }
  g_autoptr (BangerDrive) drive = raw;
  if (!check_drive (drive, id, error))
    return FALSE;
  take_string (&drive->cache_type, &drive->cache_type, "Unsafe");
  take_string (&drive->io_engine, &drive->io_engine, "Sync");

  guint at = find_drive (config, drive->drive_id);
  gboolean has_root = config->drives->len > 0 && ((BangerDrive *)config->drives->pdata[0])->is_root_device == 1;
  if (drive->is_root_device == 1 && has_root && at != 0)
    return fault (error, BANGER_VMM_ERROR_REQUEST, "Drive config error: A root block device already exists!");
  if (at < config->drives->len)
    g_ptr_array_remove_index (config->drives, at);
  g_ptr_array_insert (config->drives, drive->is_root_device == 1 ? 0 : (int)at, drive);
  (void)g_steal_pointer (&drive);
  return TRUE;
}

static gboolean
check_network (const BangerVmConfig *config, BangerNetwork *network, const char *id, GError **error)
{
  if (id && !g_str_equal (id, network->iface_id))
    return fault (error, BANGER_VMM_ERROR_REQUEST,
                  "The id from the path [%s] does not match the id from the body [%s]!", id, network->iface_id);
  if (network->guest_mac && !g_regex_match_simple ("^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$", network->guest_mac, 0, 0))
    return fault (error, BANGER_VMM_ERROR_REQUEST,
                  "An error occurred when deserializing the json body of a request: invalid MAC address %s.",
                  network->guest_mac);
  if (network->mtu >= 0 && network->mtu < 68)
    return fault (error, BANGER_VMM_ERROR_REQUEST, "Network config error: mtu %" G_GINT64_FORMAT " is below 68",
                  network->mtu);
  if (network->host_dev_name[0] == '\0' || strlen (network->host_dev_name) >= IFNAMSIZ)
    return fault (error, BANGER_VMM_ERROR_REQUEST, "Network config error: Invalid interface name: %s",
                  network->host_dev_name);
  for (guint i = 0; i < config->networks->len; i++) {
    const BangerNetwork *other = config->networks->pdata[i];
    if (!g_str_equal (other->iface_id, network->iface_id) && other->guest_mac && network->guest_mac
        && g_ascii_strcasecmp (other->guest_mac, network->guest_mac) == 0)
      return fault (error, BANGER_VMM_ERROR_REQUEST, "Network config error: The MAC address is already in use: %s",
                    network->guest_mac);
  }
  return TRUE;
}

gboolean
banger_vm_config_put_network (BangerVmConfig *config, const char *id, JsonNode *body, GError **error)
{
  BangerNetwork *raw = g_new0 (BangerNetwork, 1);
  raw->tap_fd = -1;
  if (!banger_body_read (body, banger_network_fields, raw, error)) {
    g_free (raw);
    return FALSE;
  }
  g_autoptr (BangerNetwork) network = raw;
  if (!check_network (config, network, id, error))
    return FALSE;
  guint at = 0;
  while (at < config->networks->len
         && !g_str_equal (((BangerNetwork *)config->networks->pdata[at])->iface_id, network->iface_id))
    at++;
  BangerNetwork *old = at < config->networks->len ? config->networks->pdata[at] : NULL;
  gboolean same_tap = old && g_str_equal (old->host_dev_name, network->host_dev_name);
  network->tap_fd = same_tap ? banger_steal_fd (&old->tap_fd) : banger_host_open_tap (network->host_dev_name, error);
  if (network->tap_fd < 0)
    return FALSE;
  if (old)
    g_ptr_array_remove_index (config->networks, at);
  g_ptr_array_insert (config->networks, (int)at, g_steal_pointer (&network));
  return TRUE;
}

gboolean
banger_vm_config_put_serial (BangerVmConfig *config, JsonNode *body, GError **error)
{
  BangerSerialConfig serial;
  if (!banger_body_read (body, banger_serial_fields, &serial, error))
    return FALSE;
  banger_body_clear (banger_serial_fields, &config->serial);
  config->serial = serial;
  return TRUE;
}

gboolean
banger_vm_config_put_entropy (BangerVmConfig *config, JsonNode *body, GError **error)
{
  char nothing = 0;
  if (!banger_body_read (body, banger_entropy_fields, &nothing, error))
    return FALSE;
  config->entropy = TRUE;
  return TRUE;
}

JsonNode *
banger_vm_config_machine_to_json (const BangerVmConfig *config)
{
  return banger_body_write (banger_machine_fields, &config->machine);
}

static void
add_list (JsonBuilder *builder, const char *name, GPtrArray *items, const BangerBodyField *table)
{
  json_builder_set_member_name (builder, name);
  json_builder_begin_array (builder);
  for (guint i = 0; i < items->len; i++)
    json_builder_add_value (builder, banger_body_write (table, items->pdata[i]));
  json_builder_end_array (builder);
}

static void
add_object (JsonBuilder *builder, const char *name, gboolean present, const BangerBodyField *table,
            gconstpointer values)
{
  if (!present)
    return;
  json_builder_set_member_name (builder, name);
  json_builder_add_value (builder, banger_body_write (table, values));
}

JsonNode *
banger_vm_config_to_json (const BangerVmConfig *config)
{
  g_autoptr (JsonBuilder) builder = json_builder_new ();
  json_builder_begin_object (builder);
  add_list (builder, "drives", config->drives, banger_drive_fields);
  add_object (builder, "boot-source", config->boot_source.kernel_image_path != NULL, banger_boot_source_fields,
              &config->boot_source);
  add_object (builder, "logger", config->logger.log_path || config->logger.level, banger_logger_fields,
              &config->logger);
  add_object (builder, "machine-config", TRUE, banger_machine_fields, &config->machine);
  add_object (builder, "metrics", config->metrics.metrics_path != NULL, banger_metrics_fields, &config->metrics);
  add_list (builder, "network-interfaces", config->networks, banger_network_fields);
  add_object (builder, "vsock", config->vsock.uds_path != NULL, banger_vsock_fields, &config->vsock);
  add_object (builder, "entropy", config->entropy, banger_entropy_fields, config);
  json_builder_end_object (builder);
  return json_builder_get_root (builder);
}

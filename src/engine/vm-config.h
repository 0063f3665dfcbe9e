/* What the API has configured so far: the model behind PUT, PATCH and GET.
 * Never starts anything; opens files only to say that they cannot be opened. */
#pragma once

#include "engine/body.h"

#define BANGER_VMM_MAX_VCPUS 32

/** banger_vmm_fault: sets %BANGER_VMM_ERROR_REQUEST. Returns: FALSE. */
gboolean banger_vmm_fault (GError **error, const char *format, ...) G_GNUC_PRINTF (2, 3);

typedef struct {
  char *kernel_image_path, *initrd_path, *boot_args;
} BangerBootSource;

typedef struct {
  gint64 vcpu_count, mem_size_mib;
  int smt, track_dirty_pages;
  char *cpu_template, *huge_pages;
} BangerMachineConfig;

typedef struct {
  char *drive_id, *partuuid, *path_on_host, *cache_type, *io_engine;
  int is_root_device, is_read_only;
  gboolean is_block_device;
} BangerDrive;

typedef struct {
  char *iface_id, *host_dev_name, *guest_mac;
  gint64 mtu;
  int tap_fd; /* opened when the interface is configured */
} BangerNetwork;

typedef struct {
  char *vsock_id, *uds_path;
  gint64 guest_cid;
} BangerVsockConfig;

typedef struct {
  char *log_path, *level, *module;
  int show_level, show_log_origin;
} BangerLoggerConfig;

typedef struct {
  char *metrics_path;
} BangerMetricsConfig;

typedef struct {
  char *serial_out_path;
} BangerSerialConfig;

extern const BangerBodyField banger_boot_source_fields[], banger_machine_fields[], banger_machine_patch_fields[],
    banger_drive_fields[], banger_network_fields[], banger_vsock_fields[], banger_logger_fields[],
    banger_metrics_fields[], banger_serial_fields[], banger_entropy_fields[];

typedef struct {
  BangerBootSource boot_source;
  BangerMachineConfig machine;
  GPtrArray *drives;   /* BangerDrive *, the root device first */
  GPtrArray *networks; /* BangerNetwork * */
  BangerVsockConfig vsock;
  BangerLoggerConfig logger;
  BangerMetricsConfig metrics;
  BangerSerialConfig serial;
  gboolean entropy;
} BangerVmConfig;

BangerVmConfig *banger_vm_config_new (void);
void banger_vm_config_free (BangerVmConfig *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerVmConfig, banger_vm_config_free)

/* Each takes the parsed body and changes nothing on failure. @id is the one from the path, or NULL (configuration
 * file). */
gboolean banger_vm_config_put_boot_source (BangerVmConfig *config, JsonNode *body, GError **error);
gboolean banger_vm_config_put_machine (BangerVmConfig *config, JsonNode *body, GError **error);
gboolean banger_vm_config_patch_machine (BangerVmConfig *config, JsonNode *body, GError **error);
gboolean banger_vm_config_put_drive (BangerVmConfig *config, const char *id, JsonNode *body, GError **error);
gboolean banger_vm_config_put_network (BangerVmConfig *config, const char *id, JsonNode *body, GError **error);
gboolean banger_vm_config_put_serial (BangerVmConfig *config, JsonNode *body, GError **error);
gboolean banger_vm_config_put_entropy (BangerVmConfig *config, JsonNode *body, GError **error);

/** banger_vm_config_machine_to_json: GET /machine-config. Returns: (transfer full). */
JsonNode *banger_vm_config_machine_to_json (const BangerVmConfig *config);
/** banger_vm_config_to_json: GET /vm/config (FullVmConfiguration). Returns: (transfer full). */
JsonNode *banger_vm_config_to_json (const BangerVmConfig *config);

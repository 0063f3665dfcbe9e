/* The command table, on top of all else, and the handlers that it names.
 * Never called by each other. */
#pragma once

#include "cli/command.h"

extern const BangerCommandTable banger_command_table;

#define BANGER_HANDLER(name) int name (const BangerInvocation *invocation, GError **error)

BANGER_HANDLER (banger_vm_run);
BANGER_HANDLER (banger_vm_create);
BANGER_HANDLER (banger_vm_start);
BANGER_HANDLER (banger_vm_stop);
BANGER_HANDLER (banger_vm_kill);
BANGER_HANDLER (banger_vm_restart);
BANGER_HANDLER (banger_vm_pause);
BANGER_HANDLER (banger_vm_resume);
BANGER_HANDLER (banger_vm_suspend);
BANGER_HANDLER (banger_vm_delete);
BANGER_HANDLER (banger_vm_prune);
BANGER_HANDLER (banger_vm_set);
BANGER_HANDLER (banger_vm_list);
BANGER_HANDLER (banger_vm_show);
BANGER_HANDLER (banger_vm_ssh);
BANGER_HANDLER (banger_vm_exec);
BANGER_HANDLER (banger_vm_cp);
BANGER_HANDLER (banger_vm_workspace_export);
BANGER_HANDLER (banger_vm_workspace_diff);
BANGER_HANDLER (banger_vm_workspace_status);
BANGER_HANDLER (banger_vm_workspace_prepare);
BANGER_HANDLER (banger_vm_logs);
BANGER_HANDLER (banger_vm_forward);
BANGER_HANDLER (banger_vm_fork);
BANGER_HANDLER (banger_vm_snapshot_create);
BANGER_HANDLER (banger_vm_snapshot_list);
BANGER_HANDLER (banger_vm_snapshot_restore);
BANGER_HANDLER (banger_vm_snapshot_delete);
BANGER_HANDLER (banger_vm_ports);
BANGER_HANDLER (banger_vm_stats);
BANGER_HANDLER (banger_ps);
BANGER_HANDLER (banger_image_build_command);
BANGER_HANDLER (banger_image_import_command);
BANGER_HANDLER (banger_image_pull_command);
BANGER_HANDLER (banger_image_commit_command);
BANGER_HANDLER (banger_image_cache_command);
BANGER_HANDLER (banger_image_verify_command);
BANGER_HANDLER (banger_image_warm_command);
BANGER_HANDLER (banger_image_export_command);
BANGER_HANDLER (banger_image_promote_command);
BANGER_HANDLER (banger_image_register_command);
BANGER_HANDLER (banger_image_tag_command);
BANGER_HANDLER (banger_image_list);
BANGER_HANDLER (banger_image_show);
BANGER_HANDLER (banger_image_delete_command);
BANGER_HANDLER (banger_kernel_import_command);
BANGER_HANDLER (banger_kernel_pull_command);
BANGER_HANDLER (banger_kernel_list);
BANGER_HANDLER (banger_kernel_show);
BANGER_HANDLER (banger_kernel_delete_command);
BANGER_HANDLER (banger_config_show);
BANGER_HANDLER (banger_config_check);
BANGER_HANDLER (banger_config_reload);
BANGER_HANDLER (banger_system_install);
BANGER_HANDLER (banger_system_status);
BANGER_HANDLER (banger_system_restart);
BANGER_HANDLER (banger_system_stop);
BANGER_HANDLER (banger_system_uninstall);
BANGER_HANDLER (banger_doctor);
BANGER_HANDLER (banger_ssh_config);
BANGER_HANDLER (banger_version);
BANGER_HANDLER (banger_completion);
BANGER_HANDLER (banger_help);

/* What a VM's record holds, and which of it is a property.
 * Never a row for what is only known while it runs. */
#include "manager/vm/vm.h"

/* The last is never written. */
static const char *const recorded_words[] = { "creating", "stopped",   "starting", "running", "stopping",
                                              "deleting", "suspended", "paused",   NULL };
G_STATIC_ASSERT (G_N_ELEMENTS (recorded_words) == BANGER_N_VM_STATES);

#define FIELD(key, type, member, words, required, property, changes)                                                   \
  {                                                                                                                    \
    key, BANGER_RECORD_##type, G_STRUCT_OFFSET (BangerVmRecord, member), words, required, property, changes            \
  }
const BangerRecordField banger_vm_fields[] = {
  FIELD ("name", STRING, name, NULL, TRUE, "Name", TRUE),
  FIELD ("state", WORD, state, recorded_words, TRUE, "State", TRUE),
  FIELD ("reason", STRING, reason, NULL, FALSE, "StateReason", TRUE),
  FIELD ("image", STRING, image, NULL, TRUE, "Image", TRUE),
  FIELD ("image-id", STRING, image_id, NULL, TRUE, "ImageId", TRUE),
  FIELD ("kernel", STRING, kernel, NULL, TRUE, "Kernel", TRUE),
  FIELD ("kernel-id", STRING, kernel_id, NULL, TRUE, "KernelId", TRUE),
  FIELD ("vcpus", UINT32, vcpus, NULL, TRUE, "VCPUs", TRUE),
  FIELD ("memory-mib", UINT32, memory_mib, NULL, TRUE, "MemoryMiB", TRUE),
  FIELD ("disk-bytes", UINT64, disk_bytes, NULL, TRUE, "DiskBytes", TRUE),
  FIELD ("nat", BOOL, nat, NULL, TRUE, "Nat", TRUE),
  FIELD ("ephemeral", BOOL, ephemeral, NULL, FALSE, NULL, FALSE),
  FIELD ("address", STRING, address, NULL, TRUE, "Address", TRUE),
  FIELD ("mac", STRING, mac, NULL, TRUE, "MacAddress", FALSE),
  FIELD ("root", STRING, root, NULL, FALSE, NULL, FALSE),
  FIELD ("created-at", UINT64, created_at, NULL, TRUE, "CreatedAt", FALSE),
  FIELD ("started-at", UINT64, started_at, NULL, FALSE, "StartedAt", TRUE),
  FIELD ("starts", UINT64, starts, NULL, FALSE, "Starts", TRUE),
  FIELD ("pid", UINT32, pid, NULL, FALSE, "Pid", TRUE),
  FIELD ("boot-id", STRING, boot_id, NULL, FALSE, "BootId", TRUE),
  FIELD ("suspended", STRING, suspended, NULL, FALSE, NULL, FALSE),
  FIELD ("client", STRING, client, NULL, FALSE, NULL, FALSE),
  FIELD ("init", STRING, init, NULL, FALSE, "Init", FALSE),
  FIELD ("ssh-server", STRING, ssh_server, NULL, FALSE, "SshServer", TRUE),
  FIELD ("forwards", STRV, forwards, NULL, FALSE, "Forwards", TRUE),
  FIELD ("links", STRV, links, NULL, FALSE, "Links", TRUE),
  FIELD ("host-ports", STRV, host_ports, NULL, FALSE, "HostPorts", TRUE),
  FIELD ("login-user", STRING, login_user, NULL, FALSE, "LoginUser", TRUE),
  FIELD ("workspace", STRING, workspace, NULL, FALSE, "Workspace", TRUE),
  FIELD ("workspace-folder", STRING, workspace_folder, NULL, FALSE, "WorkspaceFolder", TRUE),
  FIELD ("workspace-head", STRING, workspace_head, NULL, FALSE, "WorkspaceHead", TRUE),
  FIELD ("workspace-words", STRV, workspace_words, NULL, FALSE, "WorkspaceOptions", TRUE),
  FIELD ("published", STRV, published, NULL, FALSE, NULL, FALSE),
  FIELD ("setup", STRING, setup, NULL, FALSE, "Setup", TRUE),
  FIELD ("setup-script", STRING, setup_script, NULL, FALSE, NULL, FALSE),
  FIELD ("providing", BOOL, providing, NULL, FALSE, NULL, FALSE),
  FIELD ("restoring", STRING, restoring, NULL, FALSE, NULL, FALSE),
  FIELD ("setup-done", STRV, setup_done, NULL, FALSE, NULL, FALSE),
  FIELD ("forked", STRING, forked, NULL, FALSE, NULL, FALSE),
  FIELD ("stands-still", BOOL, stands_still, NULL, FALSE, NULL, FALSE),
  { NULL },
};

/* Every name that two programs must agree on: bus, paths, log fields, environment.
 * Used by all programs.
 * Never holds a rule: rules on names are in validate.h and ids.h. */
#pragma once

#define BANGER_MANAGER_BUS_NAME "org.banger.Manager"
#define BANGER_MANAGER_PATH "/org/banger/Manager"
#define BANGER_MANAGER_INTERFACE "org.banger.Manager"
#define BANGER_VM_INTERFACE "org.banger.VM"
#define BANGER_IMAGE_INTERFACE "org.banger.Image"
#define BANGER_KERNEL_INTERFACE "org.banger.Kernel"
#define BANGER_JOB_INTERFACE "org.banger.Job"
#define BANGER_VM_PATH_PREFIX BANGER_MANAGER_PATH "/vm"
#define BANGER_IMAGE_PATH_PREFIX BANGER_MANAGER_PATH "/image"
#define BANGER_KERNEL_PATH_PREFIX BANGER_MANAGER_PATH "/kernel"
#define BANGER_JOB_PATH_PREFIX BANGER_MANAGER_PATH "/job"

#define BANGER_PRIVILEGED_BUS_NAME "org.banger.Privileged"
#define BANGER_PRIVILEGED_PATH "/org/banger/Privileged"
#define BANGER_PRIVILEGED_INTERFACE "org.banger.Privileged"

#define BANGER_ERROR_PREFIX "org.banger.Error."

/* One action per kind of power; polkit/org.banger.privileged.policy explains each. */
#define BANGER_ACTION_NETWORK "org.banger.privileged.network"
#define BANGER_ACTION_STORAGE "org.banger.privileged.storage"
#define BANGER_ACTION_VMM "org.banger.privileged.vmm"

/* The option key that carries the op id into the helper. */
#define BANGER_OPTION_OP_ID "op-id"
/* LaunchVmm: what the guest will have, so that the VMM can be bounded. */
#define BANGER_OPTION_MEMORY_MIB "memory-mib"

/* Install metadata: world-readable, written only by root. See docs/architecture.md. */
#define BANGER_INSTALL_FILE "/etc/banger/install.toml"
#define BANGER_DEFAULT_STATE_DIR "/var/lib/banger"
#define BANGER_DEFAULT_RUNTIME_DIR "/run/banger"
#define BANGER_DEFAULT_CACHE_DIR "/var/cache/banger"
#define BANGER_DEFAULT_BRIDGE "br-fc"
#define BANGER_DEFAULT_BRIDGE_ADDRESS "10.213.0.1/24"

/* Files below <state>/<uid>/{vms,images,kernels}/<id>/. */
#define BANGER_FILE_RECORD "record.json"
#define BANGER_FILE_VM_INITRD "initrd"
#define BANGER_FILE_VM_ROOTFS "rootfs.ext4"
#define BANGER_FILE_VM_COW "cow"
#define BANGER_FILE_VM_WORK "work.ext4"
#define BANGER_FILE_VM_CONSOLE "console.log"
#define BANGER_FILE_IMAGE_ROOTFS "rootfs.ext4"
#define BANGER_FILE_IMAGE_SEED "seed.ext4"
#define BANGER_FILE_KERNEL_VMLINUX "vmlinux"
#define BANGER_FILE_KERNEL_INITRD "initrd"

/* Below <runtime>/<uid>/<vm-id>/, bound to /run in the chroot. */
#define BANGER_SOCKET_API "api.sock"
#define BANGER_SOCKET_VSOCK "vsock.sock"

/* Fixed names inside a VM's chroot, as the manager puts them into the VMM's configuration. */
#define BANGER_JAIL_KERNEL "/vmlinux"
#define BANGER_JAIL_INITRD "/initrd"
#define BANGER_JAIL_ROOTFS "/rootfs"
#define BANGER_JAIL_WORK "/work"
#define BANGER_JAIL_API_SOCKET "/run/" BANGER_SOCKET_API
#define BANGER_JAIL_VSOCK "/run/" BANGER_SOCKET_VSOCK

/* Journal fields, and the keys of the JSON lines where there is no journal. */
#define BANGER_FIELD_OP_ID "BANGER_OP_ID"
#define BANGER_FIELD_METHOD "BANGER_METHOD"
#define BANGER_FIELD_CALLER_UID "BANGER_CALLER_UID"
#define BANGER_FIELD_VM "BANGER_VM"
#define BANGER_FIELD_OBJECT "BANGER_OBJECT"
#define BANGER_FIELD_DURATION_USEC "BANGER_DURATION_USEC"
#define BANGER_FIELD_ERROR "BANGER_ERROR"
#define BANGER_FIELD_ACTION "BANGER_ACTION"
#define BANGER_FIELD_STAGE "BANGER_STAGE"
#define BANGER_FIELD_PID "BANGER_PID"

/* Environment. */
#define BANGER_ENV_CONFIG "BANGER_CONFIG"       /* install.toml for banger and bangerd; never for the helper */
#define BANGER_ENV_LOG_LEVEL "BANGER_LOG_LEVEL" /* error, warning, notice, info, debug */
#define BANGER_ENV_GUEST "BANGER_GUEST"         /* banger-guest of a build that is not installed; bangerd only */
#define BANGER_ENV_FAULT "BANGER_FAULT"         /* stage at which bangerd ends itself; builds with fault hooks only */

/* Every name that two programs must agree on: bus, paths, log fields, environment.
 * Never holds a rule: rules on names are in validate.h and ids.h. */
#pragma once

#define BANGER_MANAGER_BUS_NAME "org.banger.Manager"
#define BANGER_MANAGER_PATH "/org/banger/Manager"
#define BANGER_MANAGER_INTERFACE "org.banger.Manager"
#define BANGER_VM_INTERFACE "org.banger.VM"
#define BANGER_IMAGE_INTERFACE "org.banger.Image"
#define BANGER_KERNEL_INTERFACE "org.banger.Kernel"
#define BANGER_JOB_INTERFACE "org.banger.Job"
#define BANGER_PROCESS_INTERFACE "org.banger.Process"
#define BANGER_SNAPSHOT_INTERFACE "org.banger.Snapshot"
#define BANGER_LOG_CONTROL_PATH "/org/freedesktop/LogControl1"
#define BANGER_LOG_CONTROL_INTERFACE "org.freedesktop.LogControl1"
#define BANGER_VM_PATH_PREFIX BANGER_MANAGER_PATH "/vm"
#define BANGER_IMAGE_PATH_PREFIX BANGER_MANAGER_PATH "/image"
#define BANGER_KERNEL_PATH_PREFIX BANGER_MANAGER_PATH "/kernel"
#define BANGER_JOB_PATH_PREFIX BANGER_MANAGER_PATH "/job"
#define BANGER_PROCESS_PATH_PREFIX BANGER_MANAGER_PATH "/process"
#define BANGER_SNAPSHOT_PATH_PREFIX BANGER_MANAGER_PATH "/snapshot"

/* Below an owner's folder of state; the helper opens files there by id. */
#define BANGER_FOLDER_VMS "vms"
#define BANGER_FOLDER_IMAGES "images"
#define BANGER_FOLDER_KERNELS "kernels"
#define BANGER_FOLDER_TEMPLATES "templates"
#define BANGER_FOLDER_SNAPSHOTS "snapshots"
/* Of each thing in these the helper may hold a disk. */
#define BANGER_DISK_FOLDERS BANGER_FOLDER_VMS, BANGER_FOLDER_TEMPLATES, BANGER_FOLDER_SNAPSHOTS
#define BANGER_STATE_FOLDERS BANGER_DISK_FOLDERS, BANGER_FOLDER_IMAGES, BANGER_FOLDER_KERNELS

#define BANGER_PRIVILEGED_BUS_NAME "org.banger.Privileged"
#define BANGER_PRIVILEGED_PATH "/org/banger/Privileged"
#define BANGER_PRIVILEGED_INTERFACE "org.banger.Privileged"

#define BANGER_RESOLVED_BUS_NAME "org.freedesktop.resolve1"

#define BANGER_ERROR_PREFIX "org.banger.Error."

/* One action per kind of power; polkit/org.banger.privileged.policy explains each. */
#define BANGER_ACTION_NETWORK "org.banger.privileged.network"
#define BANGER_ACTION_STORAGE "org.banger.privileged.storage"
#define BANGER_ACTION_VMM "org.banger.privileged.vmm"

/* The option key that carries the op id into the helper. */
#define BANGER_OPTION_OP_ID "op-id"
/* CreateSnapshot: the VM never ran, its disk is made; otherwise it must be there. */
#define BANGER_OPTION_NEW "new"
/* CreateSnapshot: its disk is made as a copy of that of this id. */
#define BANGER_OPTION_FROM "from"
/* CopyDisk: there is a disk of that id, which stays until the copy is whole. */
#define BANGER_OPTION_REPLACE "replace"
/* LaunchVmm: a guest is loaded from the template of this id; the guest's memory is the file that it is saved to. */
#define BANGER_OPTION_TEMPLATE "template"
#define BANGER_OPTION_MAPPED "mapped"
/* LaunchVmm: what the guest will have, so that the VMM can be bounded. */
#define BANGER_OPTION_MEMORY_MIB "memory-mib"
/* Options of PrepareVm: whether the guest may go outside; and its root disk, with a snapshot of an image. */
#define BANGER_OPTION_NAT "nat"
#define BANGER_OPTION_IMAGE "image"
#define BANGER_OPTION_COW_BYTES "cow-bytes"

/* ListLeases: a tap that an older version made and that knows no guest; CreateTap tells it. */
#define BANGER_RESOURCE_OLD_TAP "tap-without-address"

/* Below <config>/banger/ssh: the VMs for the owner's own ssh. */
#define BANGER_FILE_SSH_CONFIG "config"

/* Below the data folder: the catalogs that come with banger. */
#define BANGER_FOLDER_CATALOGS "catalogs"

/* Install metadata: world-readable, written only by root. See docs/architecture.md. */
#define BANGER_INSTALL_FILE "/etc/banger/install.toml"
/* Which firewalls of the host `banger system install` told about guests: lines "NAME BRIDGE". */
#define BANGER_FIREWALL_FILE "/etc/banger/firewall"
/* BANGER_DEFAULT_STATE_DIR is the build's (meson.build): udev's rule names it, too. */
/* Below udev's folders of rules: nobody looks into the disks of VMs. */
#define BANGER_UDEV_RULE "05-banger.rules"
#define BANGER_DEFAULT_RUNTIME_DIR "/run/banger"
#define BANGER_DEFAULT_CACHE_DIR "/var/cache/banger"
#define BANGER_DEFAULT_BRIDGE "br-fc"
#define BANGER_DEFAULT_BRIDGE_ADDRESS "10.213.0.1/24"

/* Files below <state>/<uid>/{vms,images,kernels}/<id>/. */
#define BANGER_FILE_RECORD "record.json"
/* SshServer of an image and of a VM. */
#define BANGER_SSH_SERVER_FOUND "found"
#define BANGER_SSH_SERVER_MISSING "missing"
#define BANGER_SSH_SERVER_STARTING "starting" /* of a VM: it has one, which does not listen yet */

/* Stage of a deletion that is recorded: what is left to do goes on behind whoever asked, also after a crash. */
#define BANGER_STAGE_CLEANING "cleaning up"

#define BANGER_FILE_VM_INITRD "initrd"
#define BANGER_FILE_VM_ROOTFS "rootfs.ext4"
#define BANGER_FILE_VM_COW "cow" /* of older versions; it is root's now */
#define BANGER_FILE_VM_WORK "work.ext4"
#define BANGER_FILE_VM_CONSOLE "console.log"
#define BANGER_FILE_VM_SETUP_LOG "setup.log"
/* Where a suspension is written to; and where one that is whole lies until the VM goes on. */
#define BANGER_FILE_VM_SAVE_STATE "suspending.state"
#define BANGER_FILE_VM_SAVE_MEMORY "suspending.memory"
#define BANGER_FILE_TEMPLATE_STATE "state"
#define BANGER_FILE_TEMPLATE_MEMORY "memory"
#define BANGER_FILE_VM_SAVED_STATE "suspended.state"
#define BANGER_FILE_VM_SAVED_MEMORY "suspended.memory"
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
#define BANGER_JAIL_SAVE_STATE "/suspend.state"
#define BANGER_JAIL_SAVE_MEMORY "/suspend.memory"
#define BANGER_JAIL_SAVED_STATE "/resume.state"
#define BANGER_JAIL_SAVED_MEMORY "/resume.memory"
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
#define BANGER_ENV_CONFIG "BANGER_CONFIG"         /* install.toml for banger and bangerd; never for the helper */
#define BANGER_ENV_LOG_LEVEL "BANGER_LOG_LEVEL"   /* error, warning, notice, info, debug */
#define BANGER_ENV_GUEST "BANGER_GUEST"           /* banger-guest of a build that is not installed; bangerd only */
#define BANGER_ENV_CATALOGS "BANGER_CATALOGS"     /* folder of the catalogs that come with banger; likewise */
#define BANGER_ENV_FAULT "BANGER_FAULT"           /* stage at which bangerd ends itself; builds with fault hooks only */
#define BANGER_ENV_FAULT_HANG "BANGER_FAULT_HANG" /* file with stages at which workers hang; likewise */
#define BANGER_ENV_FAULT_PATIENCE "BANGER_FAULT_PATIENCE" /* times: how long the helper is waited for; likewise */

/* This host, as the OCI image specification calls it. */
#if defined(__x86_64__)
#define BANGER_OCI_ARCHITECTURE "amd64"
#elif defined(__aarch64__)
#define BANGER_OCI_ARCHITECTURE "arm64"
#else
#define BANGER_OCI_ARCHITECTURE "unknown"
#endif

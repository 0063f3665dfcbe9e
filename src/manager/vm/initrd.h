/* The initramfs of one VM: the kernel's modules, banger-guest as /init, and the VM's own configuration.
 * Runs in worker threads.
 * Never shared between VMs: it holds the VM's host key. */
#pragma once

#include <glib.h>

/* What the guest is told, see docs/guest.md. Strings are the caller's; none but the texts may hold a line end. */
typedef struct {
  const char *vm_id;           /* the machine id is made from it */
  const char *hostname;        /* DNS label */
  const char *address;         /* "10.213.0.5/24" */
  const char *gateway;         /* IPv4, or NULL */
  const char *const *dns;      /* IPv4 or IPv6 addresses, or NULL */
  const char *mac;             /* "06:xx:xx:xx:xx:xx" */
  guint mtu;                   /* 0: the device's own */
  const char *root;            /* "/dev/vda" */
  const char *work;            /* "/dev/vdb", or NULL without a work disk */
  const char *init;            /* a path in the image; NULL or "": the image's own */
  const char *names;           /* of guest-protocol.h: whom it knows; NULL: nobody */
  const char *boot_token;      /* what "ready" repeats; NULL: the guest's kernel boot id */
  const char *authorized_keys; /* lines of authorized_keys(5) for root */
  const char *host_key;        /* OpenSSH private key, ed25519 */
  const char *host_key_public; /* its public line */
} BangerGuestConfig;

/** banger_guest_init_check: whether @path can be told to a guest. %BANGER_ERROR_INVALID_ARGS. */
gboolean banger_guest_init_check (const char *path, GError **error);

/** banger_guest_config_text: Returns: (transfer full): the key=value lines; %NULL with %BANGER_ERROR_INVALID_ARGS
 * naming the field. */
char *banger_guest_config_text (const BangerGuestConfig *config, GError **error);

#define BANGER_GUEST_FILES 4
typedef struct {
  const char *path; /* of guest-protocol.h: below BANGER_GUEST_CONFIG_DIR */
  const char *text;
} BangerGuestFile;
/** banger_guest_files: all that a guest is told. @text: of banger_guest_config_text(). @ret: (transfer none). */
void banger_guest_files (const BangerGuestConfig *config, const char *text, BangerGuestFile ret[BANGER_GUEST_FILES]);

/**
 * banger_initrd_write_vm:
 * Writes %BANGER_FILE_VM_INITRD (mode 0600) in @vm_dir_fd whole: %BANGER_FILE_KERNEL_INITRD of @kernel_dir_fd, then an
 * archive with @guest_binary_path as /init, then one with the VM's files. Errors: %BANGER_ERROR_INVALID_ARGS (a field),
 * %BANGER_ERROR_INVALID_KERNEL (no kernel initrd), %BANGER_ERROR_NO_SPACE, %BANGER_ERROR_FAILED.
 */
gboolean banger_initrd_write_vm (int kernel_dir_fd, int vm_dir_fd, const char *guest_binary_path,
                                 const BangerGuestConfig *config, GError **error);

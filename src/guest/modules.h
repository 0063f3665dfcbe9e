/* Kernel modules of the initramfs, in the order that the kernel import wrote.
 * Never loads a driver for a device that is not there. */
#pragma once

#define GUEST_MAX_VIRTIO_TYPES 8

/* One line of `order`. */
typedef struct {
  const char *file;                            /* "virtio_blk.ko" */
  unsigned virtio[GUEST_MAX_VIRTIO_TYPES + 1]; /* zero-terminated; empty: always */
} GuestModule;

/** guest_module_parse: reads @line, which is changed and must outlive @ret. Returns: 0; -1 for a line that is not one.
 */
int guest_module_parse (char *line, GuestModule *ret);

/**
 * guest_modules_load:
 * Loads what `order` in @folder lists. A module that cannot be loaded is a warning: what needs it says what is missing.
 * @loaded: called after each module, so that the agent can listen before a transport is there.
 */
void guest_modules_load (const char *folder, void (*loaded) (const char *file, void *data), void *user_data);

/* Devices as they appear: kernel events instead of sleeping.
 * Never waits without an end. */
#pragma once

#include <stddef.h>

/** guest_uevents_open: a socket that gets the kernel's device events from now on. Returns: a descriptor, or -1 with
 * errno. */
int guest_uevents_open (void);

/** guest_uevents_drain: drops what has arrived. */
void guest_uevents_drain (int fd);

/**
 * guest_wait_for:
 * Asks @is_there now and after every device event, for at most @ms milliseconds.
 * Returns: 0 when it said yes, else -1.
 */
int guest_wait_for (int uevents_fd, int (*is_there) (void *data), void *user_data, int ms);

/** guest_virtio_present: whether a virtio device of one of @types (zero-terminated) is on the bus. */
int guest_virtio_present (const unsigned *types);

/** guest_serial_port_find: the device of the virtio-serial port called @name. Returns: 0, or -1. */
int guest_serial_port_find (const char *name, char *ret_path, size_t size);

/** guest_net_find: the network interface with the address @mac. Returns: 0, or -1. */
int guest_net_find (const char *mac, char *ret_name, size_t size);

/** guest_net_mac: the address of the interface @name. Returns: 0, or -1 with errno. */
int guest_net_mac (const char *name, char *ret_mac, size_t size);

/** guest_net_find_own: the machine's interface, whatever its address: bridges and the like are none. Returns: 0, or
 * -1. */
int guest_net_find_own (char *ret_name, size_t size);

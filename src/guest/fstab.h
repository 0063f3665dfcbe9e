/* Images of machines with other disks: what /etc/fstab wants and a microVM has not is optional for this start.
 * Never changes the image's file: another one lies over it while the image starts. */
#pragma once

#include <stddef.h>

typedef enum {
  GUEST_DISK_PRESENT, /* or no disk at all */
  GUEST_DISK_ABSENT,
  GUEST_DISK_LATER, /* not there yet: made by a service of the image, if at all */
} GuestDiskState;

/* What reads the file. */
enum {
  GUEST_FSTAB_SYSTEMD = 1,
  GUEST_FSTAB_NO_UDEV = 2, /* from which alone systemd hears of disks: it waits in vain for those that are there */
};

/** GuestDiskLook: whether @name ("LABEL=x", "UUID=x" or a path below /dev) is a disk of this machine now, or the path
 * is there. */
typedef int (*GuestDiskLook) (const char *name, void *data);

/** guest_disk_state: of the first field of a line of fstab(5) or crypttab(5), with its type and options ("" if it has
 * none). */
GuestDiskState guest_disk_state (const char *spec, const char *type, const char *options, GuestDiskLook look,
                                 void *user_data);

/**
 * guest_fstab_optional:
 * @text with what is absent as comments, what may come later as `nofail`, and @root in place of an absent disk
 * for "/"; @init: GUEST_FSTAB_ bits. @told gets what was changed, for people. Returns: (transfer full): NULL if nothing
 * is to be changed.
 */
char *guest_fstab_optional (const char *text, const char *root, int init, GuestDiskLook look, void *user_data,
                            char *told, size_t told_size);

/** guest_crypttab_idle: whether no line of @text names a disk that is there or may come. */
int guest_crypttab_idle (const char *text, GuestDiskLook look, void *user_data);

/** guest_disk_look: a GuestDiskLook for the running machine. */
int guest_disk_look (const char *name, void *data);

/** guest_fstab_cover: lays the changed file over /etc/fstab. Returns: 1 if it did, 0 if there was no need, -1 after
 * guest_warn(). */
int guest_fstab_cover (const char *root, int is_systemd);
/** guest_fstab_uncover: shows the image's own again. */
void guest_fstab_uncover (void);
/** guest_fstab_main: `guest fstab`. Returns: an exit status. */
int guest_fstab_main (char **arguments);

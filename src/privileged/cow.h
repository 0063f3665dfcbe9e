/* What VMs wrote over their images: files of root's, one for each VM, which outlive its stops.
 * Runs in worker threads.
 * Never takes a file that anybody but root could have written: the kernel believes its header. */
#pragma once

#include "privileged/lease.h"

/**
 * banger_cow_open:
 * The file of @vm, to read and write. %BANGER_ERROR_STATE_CORRUPT if it is not there: an empty one would be a VM that
 * has lost what it wrote.
 */
int banger_cow_open (const BangerRoot *root, const char *vm, GError **error);
/** banger_cow_open_to_read: likewise, and nobody who gets it can write: it is root's, in a folder of root's. */
int banger_cow_open_to_read (const BangerRoot *root, const char *vm, GError **error);
/** banger_cow_make: a new one, all zero, @bytes long, in place of one that is there. On the disk when it returns. */
int banger_cow_make (const BangerRoot *root, const char *vm, guint64 bytes, GError **error);
/**
 * banger_cow_copy:
 * The file of @to as a copy of @from's, in place of one that is there if @replace: whole and on the disk when it has its
 * name, by reflink or without holes. Nothing writes to @from meanwhile: the caller sees to that.
 */
gboolean banger_cow_copy (const BangerRoot *root, const char *from, const char *to, gboolean replace,
                          GCancellable *cancellable, GError **error);
/**
 * banger_cow_check_copy:
 * Whether there is room for a copy of @from's file beside all that is there, as banger_cow_check_room() counts, and without
 * what is reserved for root. @ret_taken: what it takes, @ret_bytes: how long it is.
 */
gboolean banger_cow_check_copy (const BangerRoot *root, const char *from, const char *to, guint64 *ret_taken,
                                guint64 *ret_bytes, GError **error);
/** banger_cow_check_taken: whether the owner's disks may take @bytes more. */
gboolean banger_cow_check_taken (const BangerRoot *root, guint64 bytes, GError **error);
/** Copies that are not whole end with this; what they will take is expected (disk-use.h). */
#define BANGER_COW_PART ".part"
/** banger_cow_size: of the file of @vm, in bytes. @ret_taken: (nullable): what it takes of the disk. */
gboolean banger_cow_size (const BangerRoot *root, const char *vm, guint64 *ret_bytes, guint64 *ret_taken,
                          GError **error);
/** banger_cow_check_owner: whether the owner has a folder of that id, whose disk it may be: a VM, a template, a snapshot. */
gboolean banger_cow_check_owner (const BangerRoot *root, const char *id, GError **error);
/** banger_cow_sync: writes it to the disk. */
gboolean banger_cow_sync (const BangerRoot *root, const char *vm, GError **error);
/**
 * banger_cow_open_to_go:
 * A disk whose name is about to go. Whoever had it by OpenDisk would keep its blocks where no quota counts them, so
 * banger_cow_empty() takes them when the name is gone. Returns: -1: there is none.
 */
int banger_cow_open_to_go (const BangerRoot *root, const char *vm);
void banger_cow_empty (int fd, const char *vm);
/** banger_cow_delete: a missing one is success. */
gboolean banger_cow_delete (const BangerRoot *root, const char *vm, GError **error);

/**
 * banger_cow_check_room:
 * Whether one more snapshot may be held, of @vm: with the size that its file has, or with a new one of @fresh bytes.
 * limits.disk-mib bounds what the disks of all that are held can grow to, and what the others take; without it only the
 * file system does, whose last 16 MiB and what is reserved for root are left alone. limits.snapshot-memory-mib bounds the
 * kernel's memory for those that are held.
 */
gboolean banger_cow_check_room (const BangerRoot *root, const char *vm, guint64 fresh, GError **error);
/**
 * banger_cow_check_guest:
 * Whether @vm, which runs, may be suspended as far as limits.disk-mib goes: its guest has @bytes of memory, which the disk
 * has to take beside all that it may have to take anyway.
 */
gboolean banger_cow_check_guest (const BangerRoot *root, const char *vm, guint64 bytes, GError **error);
/** banger_cow_kernel_bytes: what the kernel needs at most for a snapshot with a file of @bytes. */
guint64 banger_cow_kernel_bytes (guint64 bytes);

/** banger_cow_list: names in a folder that do not begin with a dot; more than 16384 are an error. */
GPtrArray *banger_cow_list (int folder_fd, GError **error);

/**
 * banger_cow_sweep:
 * Deletes the files of VMs, templates and snapshots that have neither a lease nor a folder of the owner's, and copies that
 * were not finished. If the owner has no such folder at all, a disk may be missing that holds them: then nothing is
 * deleted.
 */
void banger_cow_sweep (const BangerRoot *root);

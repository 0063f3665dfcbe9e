/* Tars, dumps of file systems and programs for the image tests.
 * Used by the tests of this folder.
 * Never reads a file system by the code under test: by libext2fs itself, e2fsck and debugfs. */
#pragma once

#include <archive.h>
#include <archive_entry.h>
#include <gio/gio.h>
#include <sys/stat.h>

#include "intake/ext4-tar.h"

typedef struct {
  char *dir; /* temporary, removed by fixture_clear() */
  int tar_fd;
  struct archive *tar;
  char *ext4_path;
  int ext4_fd;
} Fixture;

void fixture_init (Fixture *fixture);
void fixture_clear (Fixture *fixture);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Fixture, fixture_clear)

/* One entry; @data of @size bytes for regular files. Fields that are 0 or NULL are left at their defaults. */
typedef struct {
  const char *path;
  guint32 mode;
  const char *data;
  gsize size;
  const char *symlink, *hardlink;
  gint64 uid, gid, mtime;
  long nsec;
  int major, minor;
} Item;

void tar_add (Fixture *fixture, const Item *item);
void tar_add_entry (Fixture *fixture, struct archive_entry *entry, const void *data, gsize size);
/* Ends the tar; its descriptor is at the start. */
void tar_close (Fixture *fixture);

/* Tar to ext4 with fixed ids and time 1700000000. @size 0: automatic. */
gboolean make_ext4 (Fixture *fixture, guint64 size, BangerExt4Info *info, GError **error);

/* e2fsck -fn must find nothing. */
void assert_clean (const char *ext4_path);

/* Lines "path mode uid gid mtime.nsec links size content", sorted; content is a digest, target, device or names of
 * attributes. */
char *dump_ext4 (const char *ext4_path);

/* The line of @path in a dump, NULL if it is not there. */
char *dump_line (const char *dump, const char *path);

/* Output of a program; its status must be 0 unless @ret_status is given. */
char *run_program (int *ret_status, const char *program, ...) G_GNUC_NULL_TERMINATED;

/* Returns: (transfer full): @size bytes that no compression and no shift of blocks could fake, always the same of one @seed. */
char *noise (gsize size, guint32 seed);

gboolean is_root (void);

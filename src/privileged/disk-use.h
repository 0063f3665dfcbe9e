/* Which disks are at work on, and what will be on them: copies take minutes, and others go on meanwhile.
 * Runs in worker threads.
 * Never lets two at one disk. */
#pragma once

#include <gio/gio.h>

typedef struct {
  const char *id;
  const char *other;  /* NULL; or it is at this one, too: from which @id is copied */
  GCancellable *stop; /* NULL; or what ends it, of use only for @id */
  /* What @id's file will take and be: counted until the end, in place of the file or, if @replaces, beside it. */
  guint64 taken, size;
  gboolean held, replaces; /* it is to be mapped; there is one already, which stays until the new one is whole */
} BangerDiskUse;

/** banger_disk_use_begin: waits until nobody is at either. Nobody who is at one begins with another: it would wait for ever. */
void banger_disk_use_begin (BangerDiskUse *use);
/** banger_disk_use_expect: @taken of the disk will go to @use's file of @size. Whoever counts sees to it that nobody does beside. */
void banger_disk_use_expect (BangerDiskUse *use, guint64 taken, guint64 size);
void banger_disk_use_end (BangerDiskUse *use);
/** banger_disk_use_stop: what is being written to the disk of @id is not wanted any more. Does not wait. */
void banger_disk_use_stop (const char *id);
/** banger_disk_use_foreach: of those that expect something; @each neither begins nor ends one. */
void banger_disk_use_foreach (void (*each) (const BangerDiskUse *use, gpointer data), gpointer user_data);

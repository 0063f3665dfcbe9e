/* An archive with an image of layers in it, as docker save, podman save and skopeo write it: its files in one of ours.
 * Used by image.c, as BangerExt4Divert.
 * Never opens a file, never keeps anything of it in memory but names. */
#pragma once

#include "intake/blobs.h"
#include "intake/tar-reader.h"

typedef struct BangerArchive BangerArchive;

/** banger_archive_new: @fd: (transfer none): an empty file for what is in the archive; -1: every tar is a root file system. */
BangerArchive *banger_archive_new (int fd);
void banger_archive_free (BangerArchive *archive);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerArchive, banger_archive_free)

/** banger_archive_divert: BangerExt4Divert: the name of its first file says whether it is one. @data: a BangerArchive. */
int banger_archive_divert (BangerTarReader *reader, const BangerTarEntry *entry, gpointer data, GError **error);

/** banger_archive_taken: whether it was one, and is in the file now. */
gboolean banger_archive_taken (const BangerArchive *archive);
gboolean banger_archive_has (const BangerArchive *archive, const char *name);
/** banger_archive_blobs: its files; lives as long as @archive. */
BangerBlobs banger_archive_blobs (BangerArchive *archive);

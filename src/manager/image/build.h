/* Golden images: a Debian made with mmdebstrap, or somebody's tar, layers or ext4 file, as rootfs.ext4 and seed.ext4.
 * Runs in worker threads.
 * Never needs root, mounts nothing itself, leaves no file behind when it fails. */
#pragma once

#include <gio/gio.h>

#include "common/progress.h"
#include "manager/disk/intake.h"

#define BANGER_IMAGE_DEFAULT_SUITE "bookworm"
#define BANGER_IMAGE_STAGE_WRITING "writing the file system"
#define BANGER_LAYOUT_INDEX "index.json" /* of a folder that is an OCI image layout */

/* Lower-case words for what is being done. */
typedef void (*BangerImageStage) (const char *stage, gpointer user_data);

/* Layers of which not all are there yet. */
typedef struct {
  int expected_fd;                       /* a file with the digests that are likely, see BANGER_INTAKE_EXPECTED */
  gboolean (*has_ended) (gpointer data); /* whether nothing comes any more */
  gpointer data;
} BangerImageComing;

typedef struct {
  const char *suite;               /* Debian's name of a release, bookworm or later; NULL: bookworm */
  const char *mirror;              /* URI; NULL: the host's own apt sources of that suite, else deb.debian.org */
  const char *const *packages;     /* beside the standard ones; NULL: none */
  guint64 size_bytes;              /* of rootfs.ext4, sparse; 0: 4 GiB, or more if the content needs it */
  gboolean link;                   /* import: of an ext4 file: its blocks become the image's, without a copy */
  const char *reference;           /* import: which image of several in an archive or layout; NULL: there is one */
  const BangerImageComing *coming; /* banger_image_import_layers(): NULL: all is there */
  BangerImageStage stage;          /* may be NULL */
  gpointer stage_data;
} BangerImageBuildOptions;

typedef struct {
  guint64 size_bytes; /* of the file system in rootfs.ext4 */
  guint64 used_bytes; /* of its blocks that are taken */
  guint64 seed_bytes; /* size of seed.ext4 */
  gboolean no_ssh;    /* there is no ssh server inside */
  /* "sha256:..." of what it was made from: the tar as read (compressed if it was), the ext4 file, the image's manifest */
  char *digest;
  char *rootfs_digest, *seed_digest;         /* of the two files, see content.h */
  char **settings[BANGER_N_INTAKE_SETTINGS]; /* of an image of layers; UTF-8, else anything; may be NULL */
  char **warnings;                           /* sentences for people on what is odd about it; may be NULL */
} BangerImageInfo;

void banger_image_info_clear (BangerImageInfo *info);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (BangerImageInfo, banger_image_info_clear)

/**
 * banger_image_check_host:
 * Whether the calling user can build: mmdebstrap(1), newuidmap(1), 65536 subordinate ids (subuid(5), subgid(5)), user
 * namespaces. %BANGER_ERROR_NOT_SUPPORTED saying what to install or to run. Importing needs none of it.
 */
gboolean banger_image_check_host (GError **error);
/** banger_image_check_user: of that what is the user's, and buildah needs, too. */
gboolean banger_image_check_user (GError **error);

/**
 * banger_image_build:
 * Runs mmdebstrap in a user namespace of the calling user and streams its tar into %BANGER_FILE_IMAGE_ROOTFS; what lies
 * in /root there is also the content of %BANGER_FILE_IMAGE_SEED, which a VM's work disk starts from. Both files are new
 * in
 * @image_dir_fd, mode 0600, and on the disk when this returns. Network is used.
 * @progress: 0..1, never falling; it and the stage come from threads that the call starts and ends.
 * Errors: %BANGER_ERROR_NOT_SUPPORTED (see banger_image_check_host()), %BANGER_ERROR_INVALID_ARGS (suite, mirror,
 * package), %BANGER_ERROR_INVALID_SIZE, %BANGER_ERROR_NO_SPACE, %BANGER_ERROR_CANCELLED, %BANGER_ERROR_FAILED with the
 * last lines of mmdebstrap.
 */
gboolean banger_image_build (int image_dir_fd, const BangerImageBuildOptions *options, BangerProgress progress,
                             gpointer progress_data, GCancellable *cancellable, BangerImageInfo *ret_info,
                             GError **error);

/**
 * banger_image_import:
 * The same files from a root file system that exists: a tar (plain, gzip, bzip2, xz, lzma, zstd, lz4) or, for a regular
 * file, an ext4 file system, which is copied and checked. Also an image of layers: an archive of docker save, podman
 * save or skopeo, or a folder with an OCI image layout. A program without rights reads it, see intake.h.
 * @fd: (transfer none): is read, a file, a pipe or a folder.
 * @options: size_bytes (must be 0 for an ext4 file), link, reference and the stage callback. What is linked has to be the
 * caller's own, an ext4 file that nobody has open for writing, with one name, on the image's file system: that name has to
 * go before the image is used.
 * Errors: %BANGER_ERROR_INVALID_IMAGE (no tar, no clean ext4, no init program inside),
 * those of banger_ext4_writer_add(), %BANGER_ERROR_NO_SPACE, %BANGER_ERROR_CANCELLED.
 */
gboolean banger_image_import (int fd, int image_dir_fd, const BangerImageBuildOptions *options, BangerProgress progress,
                              gpointer progress_data, GCancellable *cancellable, BangerImageInfo *ret_info,
                              GError **error);

/** banger_image_import_layers: the index.json in @index_dir_fd, and blobs by the hex of their sha256 in @blobs_fd. */
gboolean banger_image_import_layers (int index_dir_fd, int blobs_fd, int image_dir_fd,
                                     const BangerImageBuildOptions *options, BangerProgress progress,
                                     gpointer progress_data, GCancellable *cancellable, BangerImageInfo *ret_info,
                                     GError **error);

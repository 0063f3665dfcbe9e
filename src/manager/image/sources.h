/* What images are made from: a Debian that mmdebstrap makes, a tar or ext4 file of somebody's, or a tar on its way.
 * Never knows D-Bus. */
#pragma once

#include "manager/core/source.h"
#include "manager/image/build.h"
#include "manager/image/commit.h"

#define BANGER_IMAGE_SOURCE_DEBIAN "debian" /* of the suite that is its name */
/* "PATH" or "PATH:REFERENCE": a folder with an OCI image layout, an archive of one, an archive of docker save. */
#define BANGER_IMAGE_SOURCE_OCI "oci"
#define BANGER_IMAGE_SOURCE_OCI_ARCHIVE "oci-archive"
#define BANGER_IMAGE_SOURCE_DOCKER "docker"               /* "//debian:bookworm": of a registry */
#define BANGER_IMAGE_SOURCE_STORAGE "containers-storage"  /* "localhost/box:1": what podman and buildah have */
#define BANGER_IMAGE_SOURCE_CONTAINERFILE "containerfile" /* a path, and a folder that is its context */
#define BANGER_IMAGE_SOURCE_VM "vm"                       /* the disks of one, whose name it is */
#define BANGER_IMAGE_SOURCE_DOCKER_ARCHIVE "docker-archive"
#define BANGER_IMAGE_SOURCE_CATALOG "catalog" /* "debian": what a catalog says that it is, else a registry's */

/* Strings are absent or owned; 0 and NULL are the defaults of build.h. */
typedef struct {
  BangerSource source;
  char *mirror;
  char **packages;
  char *reference; /* which image of several; NULL: there is one */
  char *context;   /* of a Containerfile: a folder */
  guint64 size_bytes;
  gboolean link;       /* see build.h */
  GPtrArray *catalogs; /* the owner's, see catalogs.h */
  char *notice;        /* what is odd about where it comes from */
  /* Of a VM: its disks, unowned; what its image says of itself; and who is told that they are not read any more. */
  BangerImageDisks disks;
  char **settings[BANGER_N_INTAKE_SETTINGS];
  GDestroyNotify let_go;
  gpointer held;
  BangerImageInfo info; /* once it is made */
} BangerImageSource;

extern const BangerSources banger_image_sources;

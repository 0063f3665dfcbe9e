/* What guest kernels are made from: a file of somebody's, or a package of the host's distribution.
 * Never knows D-Bus. */
#pragma once

#include "manager/core/source.h"
#include "manager/kernel/import.h"

#define BANGER_KERNEL_DEFAULT_SOURCE "apt:linux-image-cloud-amd64"
#define BANGER_KERNEL_SOURCE_CATALOG "catalog" /* "cloud": what a catalog says that it is */

/* Strings are absent or owned. */
typedef struct {
  BangerSource source;
  char *modules; /* directory of modules that go with an ELF or bzImage; NULL: none */
  int modules_fd;
  GPtrArray *catalogs;   /* the owner's, see catalogs.h */
  char *notice;          /* what is odd about where it comes from */
  BangerKernelInfo info; /* once it is made */
} BangerKernelSource;

extern const BangerSources banger_kernel_sources;

/** banger_kernel_source_new: from @text, "apt:PACKAGE" or a path. @modules: (transfer full) (nullable). */
BangerKernelSource *banger_kernel_source_new (const char *text, char *modules);

/* Rows of the command table about images: what their commands take, apart as that is long.
 * Included by command-table.c alone. */
#pragma once

#include "cli/option-rows.h"

static const BangerCliOption image_export_options[] = {
  { "output", 'o', BANGER_CLI_STRING, N_ ("FILE"), BANGER_COMPLETE_FILES, N_ ("file to write; has to be given") },
  { "format", 0, BANGER_CLI_STRING, N_ ("FORMAT"), BANGER_COMPLETE_FORMATS, N_ ("tar, ext4 or oci; default tar") },
  QUIET,
  END_OF_OPTIONS,
};
static const BangerCliOption image_cache_options[] = {
  { "dry-run", 0, BANGER_CLI_FLAG, NULL, 0, N_ ("only say how much it is") },
  END_OF_OPTIONS,
};

static const BangerCliArgument image_build_arguments[] = {
  { N_ ("NAME"), BANGER_ARGUMENT_OPTIONAL, 0,
    N_ ("name of the new image: 1 to 63 of a-z, 0-9 and -, no - at either end; without it \"default\"") },
  { N_ ("CONTEXT"), BANGER_ARGUMENT_OPTIONAL, BANGER_COMPLETE_DIRECTORIES,
    N_ ("with --file: folder that it copies from; without it the working directory") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument image_import_arguments[] = {
  { N_ ("NAME"), 0, 0, N_ ("name of the new image: 1 to 63 of a-z, 0-9 and -, no - at either end") },
  { N_ ("FILE"), 0, BANGER_COMPLETE_FILES,
    N_ ("tar archive of a root filesystem, archive of docker save or podman save, folder with an OCI image layout or a "
        "root filesystem, or ext4 file; - reads an archive from stdin; oci:, oci-archive: or "
        "docker-archive:PATH:REFERENCE names one image of several, containers-storage:NAME one that podman or buildah "
        "have") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument image_pull_arguments[] = {
  { N_ ("REFERENCE"), 0, BANGER_COMPLETE_AVAILABLE_IMAGES,
    N_ ("a name that a catalog has, or that of a registry's image, with a tag or a digest, as podman takes it; with docker:// "
        "before it no catalog is asked") },
  { N_ ("NAME"), BANGER_ARGUMENT_OPTIONAL, 0,
    N_ ("name of the new image: 1 to 63 of a-z, 0-9 and -, no - at either end") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument image_commit_arguments[] = {
  { N_ ("VM"), 0, BANGER_COMPLETE_STOPPED_VMS, N_ ("name or id of a VM that is stopped") },
  { N_ ("NAME"), 0, 0, N_ ("name of the new image: 1 to 63 of a-z, 0-9 and -, no - at either end") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument image_cache_arguments[] = {
  { N_ ("ACTION"), 0, 0, N_ ("prune") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument image_argument[] = {
  { N_ ("NAME"), 0, BANGER_COMPLETE_IMAGES, N_ ("name or id of an image") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument image_tag_arguments[] = {
  { N_ ("NAME"), 0, BANGER_COMPLETE_IMAGES, N_ ("name or id of an image") },
  { N_ ("NEW"), 0, 0, N_ ("another name for it: 1 to 63 of a-z, 0-9 and -, no - at either end") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument image_register_arguments[] = {
  { N_ ("NAME"), 0, 0, N_ ("name of the new image: 1 to 63 of a-z, 0-9 and -, no - at either end") },
  { N_ ("FILE"), 0, BANGER_COMPLETE_FILES,
    N_ ("ext4 file of your own with a root filesystem, on the file system where images are") },
  END_OF_ARGUMENTS,
};

/* A tar, layers or an ext4 file of a stranger's: what an image is made of.
 * Never opens anything. */
#pragma once

#include <gio/gio.h>

#include "intake/protocol.h"

typedef struct {
  int source_fd; /* of a tar, or by which files come */
  int target_fds[2];
  int extra_fd;
  int answer_fd;
  const char *reference; /* which image of several; NULL: there is one */
} BangerIntakeEnds;

/**
 * banger_intake_tar:
 * Reads the tar to its end; writes root file system and seed. An archive of layers goes into the extra file first.
 * @size: of the root file system, 0: as needed.
 */
gboolean banger_intake_tar (const BangerIntakeEnds *ends, guint64 size, BangerIntakeResult *result, GError **error);

/** banger_intake_oci: likewise from the files of an OCI image layout, which are asked for. */
gboolean banger_intake_oci (const BangerIntakeEnds *ends, guint64 size, BangerIntakeResult *result, GError **error);

/** banger_intake_ext4: checks the file system in the first target, which is only read, and writes the seed. */
gboolean banger_intake_ext4 (const BangerIntakeEnds *ends, BangerIntakeResult *result, GError **error);

/** banger_intake_export: writes the file system in the first target, which is only read, to the second as a tar. */
gboolean banger_intake_export (const BangerIntakeEnds *ends, BangerIntakeResult *result, GError **error);

/**
 * banger_intake_commit:
 * Writes root file system and seed from the disks of a VM, which are asked for, without what is that machine's alone. The
 * reference names those that there are beside the root disk.
 */
gboolean banger_intake_commit (const BangerIntakeEnds *ends, BangerIntakeResult *result, GError **error);

/** banger_fstab_strangers: Returns: (transfer full) (nullable): "LABEL=x, LABEL=y": disks of fstab(5) that a VM has not
 * and that its start would wait for. */
char *banger_fstab_strangers (const char *text, gsize length);

/* The state file of a snapshot: what the VM was, and where its memory is.
 * Never believed: whoever could write the file may have written anything. */
#pragma once

#include "engine/body.h"

#define BANGER_VMM_APP_NAME "banger-vmm-qemu"
#define BANGER_VMM_NAME_AND_VERSION BANGER_VMM_APP_NAME " " BANGER_VERSION

/* What is before the stream of the devices, if that is in this file, too. */
#define BANGER_SNAPSHOT_HEADER 65536

typedef struct {
  char *vmm;           /* name and version of who wrote it */
  int kvm;             /* 1: its guest ran with KVM */
  int mapped;          /* 1: the memory file is the memory, and the devices are in the state file behind the header */
  gint64 stream_bytes; /* of the devices if mapped, else of devices and memory together, in the memory file */
  JsonNode *config;    /* a FullVmConfiguration */
} BangerSnapshotFile;

/** banger_snapshot_file_write: the header, over the first bytes of @fd. Nothing else of the file is touched. */
gboolean banger_snapshot_file_write (int fd, const BangerSnapshotFile *file, GError **error);
/** banger_snapshot_file_read: on error @ret_file is cleared. */
gboolean banger_snapshot_file_read (int fd, BangerSnapshotFile *ret_file, GError **error);
void banger_snapshot_file_clear (BangerSnapshotFile *file);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (BangerSnapshotFile, banger_snapshot_file_clear)

/* tar(5) in pax's form, of entries that were read from a file system: what tar-reader.h reads again, and GNU tar.
 * Never seeks: what it writes to may be a pipe. */
#pragma once

#include "intake/ext4-writer.h"
#include "intake/tar-reader.h"

typedef struct BangerTarWriter BangerTarWriter;

/** banger_tar_writer_new: @fd: (transfer none): must outlive it. */
BangerTarWriter *banger_tar_writer_new (int fd);
void banger_tar_writer_free (BangerTarWriter *writer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerTarWriter, banger_tar_writer_free)

/**
 * banger_tar_writer_add:
 * @runs: (element-type BangerTarRun): of a regular file, where its data are, in order; the rest are holes. Then come so many
 * bytes by banger_tar_writer_data(), in the same order; what does not come is zeros. %BANGER_ERROR_NO_SPACE, _FAILED.
 */
gboolean banger_tar_writer_add (BangerTarWriter *writer, const BangerExt4Entry *entry, const GArray *runs,
                                GError **error);
gboolean banger_tar_writer_data (BangerTarWriter *writer, const void *bytes, gsize length, guint64 offset,
                                 GError **error);

/** banger_tar_writer_finish: the mark of the end. @ret_bytes, @ret_digest: of the whole; (transfer full). */
gboolean banger_tar_writer_finish (BangerTarWriter *writer, guint64 *ret_bytes, char **ret_digest, GError **error);

/* From a stranger's root file system to the two files of an image, and what is odd about it in words.
 * Never opens anything, never keeps more of a file than its bound. */
#include "intake/image.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/guest-protocol.h"
#include "intake/commit.h"
#include "intake/ext4-reader.h"
#include "intake/ext4-tar.h"
#include "intake/oci.h"
#include "intake/spool.h"
#include "intake/tar-writer.h"

#define ROOTFS_SLACK (G_GUINT64_CONSTANT (1) << 30)
#define SEED_SLACK (G_GUINT64_CONSTANT (64) << 20)
#define MAX_FSTAB (64u << 10)

static const char *const init_programs[] = { BANGER_GUEST_INITS, NULL };
static const char *const ssh_programs[] = { BANGER_GUEST_SSH_SERVERS, NULL };

typedef gboolean (*HasProgram) (gpointer tree, const char *path);

static gboolean
has_one (gpointer tree, HasProgram has, const char *const *programs)
{
  for (; *programs; programs++)
    if (has (tree, *programs))
      return TRUE;
  return FALSE;
}

/* Neither keeps it from starting: banger-guest takes an init's place, and is reached without ssh. */
static void
check_programs (const BangerIntakeEnds *ends, gpointer tree, HasProgram has, BangerIntakeResult *result)
{
  gboolean no_init = !has_one (tree, has, init_programs);
  result->no_ssh = no_init || !has_one (tree, has, ssh_programs);
  if (no_init)
    banger_intake_say_warning (ends->answer_fd,
                               "there is no init program inside (/sbin/init): its VMs run with banger's own, which "
                               "starts no service, no ssh server either; if one should be there, the root file system "
                               "may be in a folder of what was given");
  else if (result->no_ssh)
    banger_intake_say_warning (ends->answer_fd,
                               "there is no ssh server inside (/usr/sbin/sshd): its VMs start, but `vm ssh` does not "
                               "get in; install openssh-server into it for that");
}

/* fstab(5) */

/* What every VM has. */
static gboolean
is_ours (const char *spec)
{
  static const char *const ours[] = { "/dev/vda", "/dev/vdb", "/dev/root", "LABEL=" BANGER_ROOT_LABEL,
                                      "LABEL=" BANGER_SEED_LABEL };
  for (guint i = 0; i < G_N_ELEMENTS (ours); i++)
    if (strcmp (spec, ours[i]) == 0)
      return TRUE;
  return FALSE;
}

static gboolean
is_disk (const char *spec)
{
  static const char *const kinds[] = { "LABEL=", "UUID=", "PARTUUID=", "PARTLABEL=", "ID=", "/dev/" };
  for (guint i = 0; i < G_N_ELEMENTS (kinds); i++)
    if (g_str_has_prefix (spec, kinds[i]))
      return !is_ours (spec);
  return FALSE;
}

static gboolean
is_waited_for (const char *options)
{
  g_auto (GStrv) words = g_strsplit (options, ",", -1);
  return !g_strv_contains ((const char *const *)words, "noauto")
         && !g_strv_contains ((const char *const *)words, "nofail");
}

char *
banger_fstab_strangers (const char *text, gsize length)
{
  g_autoptr (GString) found = g_string_new (NULL);
  g_autofree char *copy = g_strndup (text, length);
  g_auto (GStrv) lines = g_strsplit (copy, "\n", -1);
  for (char **line = lines; *line; line++) {
    char *rest = NULL, *spec = strtok_r (*line, " \t\r", &rest), *folder = strtok_r (NULL, " \t\r", &rest);
    char *type = strtok_r (NULL, " \t\r", &rest), *options = strtok_r (NULL, " \t\r", &rest);
    if (!spec || *spec == '#' || !folder || !type || !is_disk (spec) || !is_waited_for (options ? options : ""))
      continue;
    g_string_append_printf (found, "%s%s", found->len > 0 ? ", " : "", spec);
  }
  return found->len > 0 ? g_string_free (g_steal_pointer (&found), FALSE) : NULL;
}

static void
check_fstab (const BangerIntakeEnds *ends, GByteArray *fstab)
{
  g_autofree char *strangers = fstab->len > 0 ? banger_fstab_strangers ((const char *)fstab->data, fstab->len) : NULL;
  if (!strangers)
    return;
  g_autofree char *text = g_strdup_printf (
      "its /etc/fstab names disks that its VMs have not, for which a start does not wait: %.400s", strangers);
  banger_intake_say_warning (ends->answer_fd, text);
}

/* Owner and mode of / */

/* sshd lets nobody in where others may write to /, and who is not root cannot go anywhere where it is closed. */
static gboolean
root_is_usual (guint32 mode, gint64 uid, gint64 gid)
{
  return (mode & 0755) == 0755 && (mode & 022) == 0 && uid == 0 && gid == 0;
}

static void
warn_root (const BangerIntakeEnds *ends, guint32 mode, gint64 uid, gint64 gid, const char *consequence)
{
  g_autofree char *text = g_strdup_printf ("its / has mode %04o and belongs to %" G_GINT64_FORMAT ":%" G_GINT64_FORMAT
                                           "%s",
                                           mode & 07777, uid, gid, consequence);
  banger_intake_say_warning (ends->answer_fd, text);
}

/* What an image is written into. */
typedef struct {
  const BangerIntakeEnds *ends;
  BangerExt4Writer *rootfs, *seed;
  BangerExt4Target targets[2];
  GByteArray *fstab;
  BangerExt4Kept kept[2];
  BangerExt4TarOptions options;
  gboolean odd_root; /* as the last one that spoke of it said */
  guint32 root_mode;
  gint64 root_uid, root_gid;
  guint archives; /* behind the first */
} Image;

/* A tar that was made of somebody's folder says whose it was. */
static void
on_entry (BangerExt4Entry *entry, gpointer data)
{
  Image *image = data;
  if (*banger_ext4_skip_root (entry->path) != '\0' || !S_ISDIR (entry->mode))
    return;
  image->odd_root = !root_is_usual (entry->mode, entry->uid, entry->gid);
  if (!image->odd_root)
    return;
  image->root_mode = entry->mode;
  image->root_uid = entry->uid;
  image->root_gid = entry->gid;
  entry->mode = S_IFDIR | 0755;
  entry->uid = entry->gid = 0;
}

/* Writing */

static BangerExt4Writer *
open_seed (int fd, GError **error)
{
  const BangerExt4Options options = {
    .minimum_bytes = BANGER_SEED_BYTES, .slack_bytes = SEED_SLACK, .label = BANGER_SEED_LABEL, .time = -1
  };
  g_autoptr (BangerExt4Writer) seed = banger_ext4_writer_new (fd, &options, error);
  const BangerExt4Entry root = { .path = "", .mode = S_IFDIR | 0700, .mtime = g_get_real_time () / G_USEC_PER_SEC };
  return seed && banger_ext4_writer_add (seed, &root, error) ? g_steal_pointer (&seed) : NULL;
}

static BangerExt4Writer *
open_rootfs (int fd, guint64 size, guint64 least, GError **error)
{
  BangerExt4Options options = { .size_bytes = size, .label = BANGER_ROOT_LABEL, .time = -1 };
  if (size == 0) {
    options.minimum_bytes = MAX (least, BANGER_IMAGE_DEFAULT_BYTES);
    options.slack_bytes = ROOTFS_SLACK;
  }
  return banger_ext4_writer_new (fd, &options, error);
}

static gboolean
writer_has (gpointer tree, const char *path)
{
  return banger_ext4_writer_has_program (tree, path);
}

static void
warn_replaced (const BangerIntakeEnds *ends, BangerExt4Writer *writer)
{
  g_auto (GStrv) replaced = banger_ext4_writer_replaced_links (writer);
  for (char **text = replaced; *text; text++)
    banger_intake_say_warning (ends->answer_fd, *text);
}

static void
warn_foreign_xattrs (const BangerIntakeEnds *ends, BangerExt4Writer *writer)
{
  const char *example;
  guint count = banger_ext4_writer_foreign_xattrs (writer, &example);
  if (count == 0)
    return;
  g_autofree char *text = g_strdup_printf (
      "%u extended attributes are not in the image, as Linux would not show them there: of them %s", count, example);
  banger_intake_say_warning (ends->answer_fd, text);
}

static gboolean
finish (BangerExt4Writer *writer, guint64 *ret_size, guint64 *ret_used, GError **error)
{
  BangerExt4Info info;
  if (!banger_ext4_writer_finish (writer, NULL, &info, error))
    return FALSE;
  *ret_size = info.size_bytes;
  *ret_used = info.used_bytes;
  return TRUE;
}

static void
image_clear (Image *image)
{
  g_clear_pointer (&image->rootfs, banger_ext4_writer_free);
  g_clear_pointer (&image->seed, banger_ext4_writer_free);
  g_clear_pointer (&image->fstab, g_byte_array_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Image, image_clear)

/* Empty: what was in the files is gone. @size: 0: as needed, and at least @least. */
static gboolean
image_open_at_least (Image *image, const BangerIntakeEnds *ends, guint64 size, guint64 least, GError **error)
{
  image_clear (image);
  *image = (Image){ .ends = ends, .fstab = g_byte_array_new () };
  image->rootfs = open_rootfs (ends->target_fds[0], size, least, error);
  image->seed = image->rootfs ? open_seed (ends->target_fds[1], error) : NULL;
  image->targets[0] = (BangerExt4Target){ image->rootfs, NULL };
  image->targets[1] = (BangerExt4Target){ image->seed, "root" };
  image->kept[0] = (BangerExt4Kept){ "etc/fstab", MAX_FSTAB, image->fstab };
  image->options = (BangerExt4TarOptions){ .targets = image->targets,
                                           .n_targets = G_N_ELEMENTS (image->targets),
                                           .on_entry = on_entry,
                                           .entry_data = image,
                                           .kept = image->kept };
  return image->seed != NULL;
}

static gboolean
image_open (Image *image, const BangerIntakeEnds *ends, guint64 size, GError **error)
{
  return image_open_at_least (image, ends, size, 0, error);
}

static gboolean
image_finish (Image *image, BangerIntakeResult *result, GError **error)
{
  guint64 seed_used;
  check_programs (image->ends, image->rootfs, writer_has, result);
  if (image->odd_root)
    warn_root (image->ends, image->root_mode, image->root_uid, image->root_gid,
               "; in the image it has mode 0755 and is root's");
  check_fstab (image->ends, image->fstab);
  if (image->archives > 0)
    banger_intake_say_warning (image->ends->answer_fd,
                               "there are several archives, one behind the other: all of them are in the image, what "
                               "comes later over what came before");
  warn_replaced (image->ends, image->rootfs);
  warn_foreign_xattrs (image->ends, image->rootfs);
  return finish (image->rootfs, &result->size_bytes, &result->used_bytes, error)
         && finish (image->seed, &result->seed_bytes, &seed_used, error);
}

/* Layers */

static void
say_progress (double fraction, gpointer data)
{
  const BangerIntakeEnds *ends = data;
  banger_intake_say_progress (ends->answer_fd, fraction);
}

static gboolean
say_settings (const BangerIntakeEnds *ends, const BangerOciImage *oci, BangerIntakeResult *result, GError **error)
{
  g_strlcpy (result->digest, oci->digest, sizeof result->digest);
  for (guint kind = 0; kind < BANGER_N_INTAKE_SETTINGS; kind++)
    for (guint i = 0; i < oci->settings[kind]->len; i++)
      if (!banger_intake_say_setting (ends->answer_fd, kind, oci->settings[kind]->pdata[i]))
        return banger_set_error (error, BANGER_ERROR_FAILED, "nobody listens");
  return TRUE;
}

/* Notes how long it is, where nobody said. */
static gboolean
add_layer (BangerExt4Layers *layers, const BangerBlobs *blobs, BangerOciLayer *layer, GError **error)
{
  g_auto (BangerBlob) blob = BANGER_BLOB_INIT;
  if (!blobs->open (blobs->data, layer->name, &blob, error))
    return FALSE;
  if (layer->length != G_MAXUINT64 && layer->length != blob.length)
    return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE,
                             "%.100s has %" G_GUINT64_FORMAT " bytes and should have %" G_GUINT64_FORMAT, layer->name,
                             blob.length, layer->length);
  layer->length = blob.length;
  const BangerExt4Layer one = { blob.fd, blob.offset, blob.length, layer->digest, layer->of_content };
  return banger_ext4_layers_add (layers, &one, error);
}

static gboolean
finish_layers (Image *image, BangerExt4Layers *layers, const BangerOciImage *oci, BangerIntakeResult *result,
               GError **error)
{
  return banger_ext4_layers_finish (layers, error) && say_settings (image->ends, oci, result, error)
         && image_finish (image, result, error);
}

static gboolean
take_layers (Image *image, const BangerBlobs *blobs, const BangerOciImage *oci, BangerIntakeResult *result,
             GError **error)
{
  guint64 total = 0;
  for (guint i = 0; i < oci->layers->len; i++) {
    const BangerOciLayer *layer = oci->layers->pdata[i];
    total += layer->length != G_MAXUINT64 ? layer->length : 0;
  }
  image->options.expected_bytes = total;
  image->options.progress = say_progress;
  image->options.progress_data = (gpointer)image->ends;
  g_autoptr (BangerExt4Layers) layers = banger_ext4_layers_new (&image->options);
  for (guint i = 0; i < oci->layers->len; i++)
    if (!add_layer (layers, blobs, oci->layers->pdata[i], error))
      return FALSE;
  return finish_layers (image, layers, oci, result, error);
}

static gboolean
take_archive (Image *image, BangerArchive *archive, BangerIntakeResult *result, GError **error)
{
  g_auto (BangerOciImage) oci = { 0 };
  const BangerBlobs blobs = banger_archive_blobs (archive);
  const char *reference = image->ends->reference;
  if (banger_archive_has (archive, "index.json") && banger_archive_has (archive, "oci-layout"))
    return banger_oci_read_layout (&blobs, reference, &oci, error) && take_layers (image, &blobs, &oci, result, error);
  if (banger_archive_has (archive, "manifest.json"))
    return banger_oci_read_saved (&blobs, reference, &oci, error) && take_layers (image, &blobs, &oci, result, error);
  return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE,
                           "it looks like an archive of layers, but has neither index.json and oci-layout nor "
                           "manifest.json");
}

gboolean
banger_intake_tar (const BangerIntakeEnds *ends, guint64 size, BangerIntakeResult *result, GError **error)
{
  g_auto (Image) image = { 0 };
  g_autoptr (BangerArchive) archive = banger_archive_new (ends->extra_fd);
  if (!image_open (&image, ends, size, error))
    return FALSE;
  image.options.divert = banger_archive_divert;
  image.options.divert_data = archive;
  image.options.archives = &image.archives;
  if (!banger_ext4_read_tar (ends->source_fd, &image.options, NULL, error))
    return FALSE;
  if (banger_archive_taken (archive))
    return image_open (&image, ends, size, error) && take_archive (&image, archive, result, error);
  if (ends->reference)
    return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "it is no archive of images, so none is called %.80s",
                             ends->reference);
  return image_finish (&image, result, error);
}

/* Files that the manager opens. */
static gboolean
open_asked (gpointer data, const char *name, BangerBlob *ret_blob, GError **error)
{
  struct stat st;
  const BangerIntakeEnds *ends = data;
  g_auto (BangerBlob) blob = { banger_intake_ask (ends->answer_fd, ends->source_fd, name, error), 0, 0, TRUE };
  if (blob.fd < 0)
    return FALSE;
  if (fstat (blob.fd, &st) < 0 || !S_ISREG (st.st_mode))
    return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "%.200s is no file", name);
  blob.length = (guint64)st.st_size;
  *ret_blob = blob;
  blob = (BangerBlob)BANGER_BLOB_INIT;
  return TRUE;
}

/* Layers that are written while the rest of their image still comes. */
typedef struct {
  const BangerIntakeEnds *ends;
  guint done, all;
} Coming;

static void
say_coming (double fraction, gpointer data)
{
  const Coming *coming = data;
  banger_intake_say_progress (coming->ends->answer_fd, (coming->done + fraction) / coming->all);
}

/* Returns: (nullable): the layers, written; NULL: one of them is not there, or not as it should be. */
static BangerExt4Layers *
take_coming (Image *image, const BangerBlobs *blobs, const GPtrArray *expected, Coming *coming)
{
  coming->all = expected->len;
  image->options.progress = say_coming;
  image->options.progress_data = coming;
  g_autoptr (BangerExt4Layers) layers = banger_ext4_layers_new (&image->options);
  for (; coming->done < expected->len; coming->done++)
    if (!add_layer (layers, blobs, expected->pdata[coming->done], NULL))
      return NULL;
  return g_steal_pointer (&layers);
}

/* What is expected is no more than a guess: the image's own documents say whether it was right, and else all is written anew. */
gboolean
banger_intake_oci (const BangerIntakeEnds *ends, guint64 size, BangerIntakeResult *result, GError **error)
{
  g_auto (Image) image = { 0 };
  g_auto (BangerOciImage) oci = { 0 };
  const BangerBlobs blobs = { open_asked, (gpointer)ends };
  Coming coming = { .ends = ends };
  g_autoptr (GPtrArray) expected = banger_oci_read_expected (&blobs);
  if (expected && !image_open (&image, ends, size, error))
    return FALSE;
  g_autoptr (BangerExt4Layers) layers = expected ? take_coming (&image, &blobs, expected, &coming) : NULL;
  if (!banger_oci_read_layout (&blobs, ends->reference, &oci, error))
    return FALSE;
  if (layers && banger_oci_has_layers (&oci, expected))
    return finish_layers (&image, layers, &oci, result, error);
  g_clear_pointer (&layers, banger_ext4_layers_free);
  return image_open (&image, ends, size, error) && take_layers (&image, &blobs, &oci, result, error);
}

static gboolean
reader_has (gpointer tree, const char *path)
{
  return banger_ext4_reader_has_program (tree, path);
}

static void
check_reader_root (const BangerIntakeEnds *ends, BangerExt4Reader *reader)
{
  guint32 mode, uid, gid;
  if (banger_ext4_reader_root (reader, &mode, &uid, &gid) && !root_is_usual (mode, uid, gid))
    warn_root (ends, mode, uid, gid, ", which may keep people and programs out: mode 0755 and root:root are usual");
}

gboolean
banger_intake_ext4 (const BangerIntakeEnds *ends, BangerIntakeResult *result, GError **error)
{
  guint64 seed_used;
  g_autoptr (BangerExt4Reader) reader = banger_ext4_reader_open (ends->target_fds[0], error);
  if (!reader)
    return FALSE;
  check_programs (ends, reader, reader_has, result);
  check_reader_root (ends, reader);
  g_autoptr (GByteArray) fstab = banger_ext4_reader_read_file (reader, "/etc/fstab", MAX_FSTAB);
  if (fstab)
    check_fstab (ends, fstab);
  banger_ext4_reader_sizes (reader, &result->size_bytes, &result->used_bytes);
  g_autoptr (BangerExt4Writer) seed = open_seed (ends->target_fds[1], error);
  return seed && banger_ext4_reader_copy_tree (reader, "/root", seed, NULL, error)
         && finish (seed, &result->seed_bytes, &seed_used, error);
}

/* Out again */

#define LOST_FOUND "/lost+found" /* the file system's own */

typedef struct {
  const BangerIntakeEnds *ends;
  BangerTarWriter *writer;
  guint64 done, used;
} Export;

static gboolean
export_skip (gpointer data, const char *path)
{
  return strcmp (path, LOST_FOUND) == 0;
}

static gboolean
export_entry (gpointer data, const BangerExt4Entry *entry, const GArray *runs, GError **error)
{
  Export *export = data;
  return banger_tar_writer_add (export->writer, entry, runs, error);
}

static gboolean
export_bytes (gpointer data, const void *bytes, gsize length, guint64 offset, GError **error)
{
  Export *export = data;
  export->done += length;
  say_progress (export->used > 0 ? MIN ((double)export->done / (double)export->used, 1.0) : 0, (gpointer) export->ends);
  return banger_tar_writer_data (export->writer, bytes, length, offset, error);
}

gboolean
banger_intake_export (const BangerIntakeEnds *ends, BangerIntakeResult *result, GError **error)
{
  guint64 size;
  g_autoptr (BangerExt4Reader) reader = banger_ext4_reader_open (ends->target_fds[0], error);
  g_autoptr (BangerTarWriter) writer = banger_tar_writer_new (ends->target_fds[1]);
  Export export = { .ends = ends, .writer = writer };
  const BangerExt4Sink sink = { export_entry, export_bytes, export_skip, &export, TRUE };
  if (!reader)
    return FALSE;
  banger_ext4_reader_sizes (reader, &size, &export.used);
  g_autofree char *digest = NULL;
  if (!banger_ext4_reader_walk (reader, "/", &sink, NULL, error)
      || !banger_tar_writer_finish (writer, &result->size_bytes, &digest, error))
    return FALSE;
  g_strlcpy (result->digest, digest, sizeof result->digest);
  return TRUE;
}

/* Of a VM */

static int
ask (const BangerIntakeEnds *ends, const char *name, GError **error)
{
  const char *there = ends->reference ? ends->reference : "";
  gboolean optional = strcmp (name, BANGER_INTAKE_DISK_ROOT) != 0;
  return optional && !strstr (there, name) ? -1 : banger_intake_ask (ends->answer_fd, ends->source_fd, name, error);
}

static gboolean
take_disks (const BangerIntakeEnds *ends, BangerExt4Reader *root, BangerExt4Reader *work, BangerIntakeResult *result,
            GError **error)
{
  guint64 size, used;
  g_auto (Image) image = { 0 };
  banger_ext4_reader_sizes (root, &size, &used);
  if (!image_open_at_least (&image, ends, 0, size, error))
    return FALSE;
  const BangerCommit commit = { root, work, image.rootfs, image.seed, say_progress, (gpointer)ends };
  if (!banger_commit_read (&commit, error))
    return FALSE;
  g_autoptr (GByteArray) fstab = banger_ext4_reader_read_file (root, "/etc/fstab", MAX_FSTAB);
  if (fstab)
    g_byte_array_append (image.fstab, fstab->data, fstab->len);
  return image_finish (&image, result, error);
}

gboolean
banger_intake_commit (const BangerIntakeEnds *ends, BangerIntakeResult *result, GError **error)
{
  g_autoptr (GError) why = NULL;
  banger_autofd int root_fd = ask (ends, BANGER_INTAKE_DISK_ROOT, &why);
  banger_autofd int cow_fd = why ? -1 : ask (ends, BANGER_INTAKE_DISK_COW, &why);
  banger_autofd int work_fd = why ? -1 : ask (ends, BANGER_INTAKE_DISK_WORK, &why);
  if (why) {
    g_propagate_error (error, g_steal_pointer (&why));
    return FALSE;
  }
  g_autoptr (BangerOverlay) overlay = banger_overlay_new (root_fd, cow_fd, error);
  g_autoptr (BangerExt4Reader) root = overlay ? banger_ext4_reader_open_overlay (overlay, error) : NULL;
  if (!root)
    return FALSE;
  g_autoptr (BangerOverlay) alone = work_fd >= 0 ? banger_overlay_new (work_fd, -1, error) : NULL;
  g_autoptr (BangerExt4Reader) work = alone ? banger_ext4_reader_open_overlay (alone, error) : NULL;
  return (work || work_fd < 0) && take_disks (ends, root, work, result, error);
}

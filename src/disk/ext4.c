/* Files in an ext4 file system, over libext2fs.
 * Never follows a link, never believes a number without a bound, never opens anything. */
#include "disk/ext4.h"

#include <ext2fs/ext2fs.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define PROTECTED (EXT4_ENCRYPT_FL | EXT4_VERITY_FL | EXT2_IMMUTABLE_FL | EXT2_APPEND_FL)
#define SPARE_BLOCKS 8 /* for each file: its extents, and its folder if that grows */

typedef struct {
  char path[BANGER_DISK_MAX_PATH + 1];
  const char *name; /* last component, in path */
  uint32_t mode;
  const char *data;
  uint64_t length;
  ext2_ino_t folder, ino; /* ino: 0 if it is not there */
} File;

static BangerDiskStatus
status_of (errcode_t code)
{
  if (code == EXT2_ET_BLOCK_ALLOC_FAIL || code == EXT2_ET_INODE_ALLOC_FAIL || code == EXT2_ET_DIR_NO_SPACE)
    return BANGER_DISK_NO_SPACE;
  if (code == EXT2_ET_FILE_NOT_FOUND)
    return BANGER_DISK_NO_FILE;
  if (code == EXT2_ET_SHORT_READ || (code > 0 && code < 4096)) /* an errno */
    return BANGER_DISK_FAILED;
  return code == 0 ? BANGER_DISK_OK : BANGER_DISK_BAD_IMAGE;
}

static BangerDiskStatus
check_super (ext2_filsys fs, uint64_t image_bytes)
{
  const struct ext2_super_block *super = fs->super;
  if (ext2fs_blocks_count (fs->super) > image_bytes / fs->blocksize || ext2fs_check_desc (fs) != 0)
    return BANGER_DISK_BAD_IMAGE;
  if ((super->s_feature_incompat & EXT3_FEATURE_INCOMPAT_RECOVER) || !(super->s_state & EXT2_VALID_FS)
      || (super->s_state & EXT2_ERROR_FS))
    return BANGER_DISK_UNCLEAN;
  return BANGER_DISK_OK;
}

/* The folder of @path and, if it is there, the file. Each component is looked up where the last one was found. */
static BangerDiskStatus
find (ext2_filsys fs, File *file)
{
  ext2_ino_t ino = EXT2_ROOT_INO;
  struct ext2_inode inode;
  const char *part = file->path + 1;
  for (;;) {
    size_t length = strcspn (part, "/");
    errcode_t code = ext2fs_read_inode (fs, ino, &inode);
    if (code != 0)
      return status_of (code);
    if (!LINUX_S_ISDIR (inode.i_mode) || (inode.i_flags & (EXT4_ENCRYPT_FL | EXT4_CASEFOLD_FL)))
      return BANGER_DISK_NOT_PLAIN;
    file->folder = ino;
    file->name = part;
    code = ext2fs_lookup (fs, ino, part, (int)length, NULL, &ino);
    if (part[length] == '\0') {
      file->ino = code == 0 ? ino : 0;
      return code == EXT2_ET_FILE_NOT_FOUND ? BANGER_DISK_OK : status_of (code);
    }
    if (code != 0)
      return status_of (code);
    part += length + 1;
  }
}

/* @file is there: a plain file, nothing that leads elsewhere. */
static BangerDiskStatus
check_plain (ext2_filsys fs, const File *file, struct ext2_inode *ret_inode)
{
  errcode_t code = ext2fs_read_inode (fs, file->ino, ret_inode);
  if (code != 0)
    return status_of (code);
  if (file->ino < EXT2_FIRST_INODE (fs->super) || ret_inode->i_links_count == 0)
    return BANGER_DISK_BAD_IMAGE;
  return LINUX_S_ISREG (ret_inode->i_mode) && !(ret_inode->i_flags & (EXT4_ENCRYPT_FL | EXT4_VERITY_FL))
             ? BANGER_DISK_OK
             : BANGER_DISK_NOT_PLAIN;
}

static BangerDiskStatus
read_content (ext2_filsys fs, ext2_ino_t ino, char *data, uint64_t length)
{
  ext2_file_t open_file = NULL;
  errcode_t code = ext2fs_file_open (fs, ino, 0, &open_file);
  uint64_t done = 0;
  while (code == 0 && done < length) {
    unsigned got = 0;
    code = ext2fs_file_read (open_file, data + done, (unsigned)(length - done), &got);
    if (code == 0 && got == 0)
      code = EXT2_ET_SHORT_READ;
    done += got;
  }
  if (open_file)
    ext2fs_file_close (open_file);
  return status_of (code);
}

static BangerDiskStatus
read_file (ext2_filsys fs, File *file, void **ret_data, uint64_t *ret_length)
{
  struct ext2_inode inode;
  BangerDiskStatus status = find (fs, file);
  if (status == BANGER_DISK_OK)
    status = file->ino ? check_plain (fs, file, &inode) : BANGER_DISK_NO_FILE;
  if (status != BANGER_DISK_OK)
    return status;
  uint64_t length = EXT2_I_SIZE (&inode);
  if (length > BANGER_DISK_MAX_BYTES)
    return BANGER_DISK_TOO_LARGE;
  char *data = calloc (1, length + 1);
  status = data ? read_content (fs, file->ino, data, length) : BANGER_DISK_FAILED;
  if (status != BANGER_DISK_OK) {
    free (data);
    return status;
  }
  *ret_data = data;
  *ret_length = length;
  return BANGER_DISK_OK;
}

/* Writing */

/* Everything that can be known before is known before the first change. */
static BangerDiskStatus
plan (ext2_filsys fs, File *files, uint32_t count, uint32_t *ret_which)
{
  uint64_t blocks = 0, inodes = 0;
  for (uint32_t i = 0; i < count; i++) {
    struct ext2_inode inode;
    *ret_which = i;
    BangerDiskStatus status = find (fs, &files[i]);
    if (status == BANGER_DISK_OK && files[i].ino)
      status = check_plain (fs, &files[i], &inode);
    if (status == BANGER_DISK_OK && files[i].ino && (inode.i_links_count != 1 || (inode.i_flags & PROTECTED)))
      status = BANGER_DISK_NOT_PLAIN;
    if (status != BANGER_DISK_OK)
      return status;
    blocks += files[i].length / fs->blocksize + SPARE_BLOCKS;
    inodes += files[i].ino == 0;
  }
  return blocks <= ext2fs_free_blocks_count (fs->super) && inodes <= fs->super->s_free_inodes_count
             ? BANGER_DISK_OK
             : BANGER_DISK_NO_SPACE;
}

static errcode_t
mark (ext2_filsys fs, bool clean)
{
  fs->super->s_state = (uint16_t)(clean ? fs->super->s_state | EXT2_VALID_FS : fs->super->s_state & ~EXT2_VALID_FS);
  ext2fs_mark_super_dirty (fs);
  return ext2fs_flush (fs); /* with fsync(2) */
}

static void
set_times (struct ext2_inode *inode)
{
  inode->i_mtime = inode->i_ctime = (uint32_t)time (NULL);
}

static errcode_t
create (ext2_filsys fs, File *file)
{
  struct ext2_inode inode = { 0 };
  ext2_extent_handle_t extents = NULL;
  errcode_t code = ext2fs_new_inode (fs, file->folder, LINUX_S_IFREG | 0600, NULL, &file->ino);
  if (code == 0)
    code = ext2fs_link (fs, file->folder, file->name, file->ino, EXT2_FT_REG_FILE);
  if (code == EXT2_ET_DIR_NO_SPACE && (code = ext2fs_expand_dir (fs, file->folder)) == 0)
    code = ext2fs_link (fs, file->folder, file->name, file->ino, EXT2_FT_REG_FILE);
  if (code != 0)
    return code;
  ext2fs_inode_alloc_stats2 (fs, file->ino, +1, 0);
  inode.i_mode = (uint16_t)(LINUX_S_IFREG | file->mode);
  inode.i_links_count = 1;
  set_times (&inode);
  inode.i_atime = inode.i_mtime;
  if (ext2fs_has_feature_extents (fs->super)) {
    code = ext2fs_extent_open2 (fs, file->ino, &inode, &extents); /* makes an empty tree */
    if (code != 0)
      return code;
    ext2fs_extent_free (extents);
  }
  return ext2fs_write_new_inode (fs, file->ino, &inode);
}

static errcode_t
write_content (ext2_filsys fs, const File *file)
{
  ext2_file_t open_file = NULL;
  errcode_t code = ext2fs_file_open (fs, file->ino, EXT2_FILE_WRITE, &open_file);
  if (code == 0)
    code = ext2fs_file_set_size2 (open_file, 0);
  for (uint64_t done = 0; code == 0 && done < file->length;) {
    unsigned put = 0;
    code = ext2fs_file_write (open_file, file->data + done, (unsigned)(file->length - done), &put);
    if (code == 0 && put == 0)
      code = EXT2_ET_SHORT_WRITE;
    done += put;
  }
  if (open_file) {
    errcode_t closed = ext2fs_file_close (open_file);
    code = code ? code : closed;
  }
  return code;
}

static errcode_t
write_file (ext2_filsys fs, File *file)
{
  struct ext2_inode inode;
  errcode_t code = file->ino ? 0 : create (fs, file);
  if (code == 0)
    code = write_content (fs, file);
  if (code == 0)
    code = ext2fs_read_inode (fs, file->ino, &inode);
  if (code != 0)
    return code;
  inode.i_mode = (uint16_t)(LINUX_S_IFREG | file->mode);
  set_times (&inode);
  return ext2fs_write_inode (fs, file->ino, &inode);
}

/* A loss of power in between leaves a file system that says that it must be checked. */
static BangerDiskStatus
write_files (ext2_filsys fs, File *files, uint32_t count, uint32_t *ret_which)
{
  errcode_t code = ext2fs_read_bitmaps (fs);
  if (code != 0)
    return status_of (code);
  BangerDiskStatus status = plan (fs, files, count, ret_which);
  if (status != BANGER_DISK_OK)
    return status;
  code = mark (fs, false);
  for (uint32_t i = 0; code == 0 && i < count; i++) {
    *ret_which = i;
    code = write_file (fs, &files[i]);
  }
  if (code == 0)
    code = ext2fs_flush (fs); /* the files before the word that all is well */
  if (code == 0)
    code = mark (fs, true);
  return status_of (code);
}

/* The request */

/* The helper made it; read like a stranger's all the same. */
static bool
parse (const char *bytes, size_t length, BangerDiskRequest *request, File *files)
{
  if (length < sizeof *request)
    return false;
  memcpy (request, bytes, sizeof *request);
  bytes += sizeof *request;
  length -= sizeof *request;
  if (request->count == 0 || request->count > BANGER_DISK_MAX_FILES)
    return false;
  for (uint32_t i = 0; i < request->count; i++) {
    BangerDiskEntry entry;
    if (length < sizeof entry)
      return false;
    memcpy (&entry, bytes, sizeof entry);
    bytes += sizeof entry;
    length -= sizeof entry;
    if (entry.path_length < 2 || entry.path_length > BANGER_DISK_MAX_PATH || entry.path_length > length
        || entry.data_length > BANGER_DISK_MAX_BYTES || entry.data_length > length - entry.path_length)
      return false;
    memcpy (files[i].path, bytes, entry.path_length);
    files[i].mode = entry.mode & 07777;
    files[i].data = bytes + entry.path_length;
    files[i].length = entry.data_length;
    bytes += entry.path_length + entry.data_length;
    length -= entry.path_length + entry.data_length;
    if (files[i].path[0] != '/' || memchr (files[i].path, '\0', entry.path_length))
      return false;
  }
  return length == 0;
}

void
banger_disk_serve (const void *bytes, size_t length, int image_fd, BangerDiskAnswer *ret_answer, void **ret_data)
{
  BangerDiskRequest request;
  ext2_filsys fs = NULL;
  char name[16];
  File *files = calloc (BANGER_DISK_MAX_FILES, sizeof *files);
  *ret_answer = (BangerDiskAnswer){ .status = BANGER_DISK_FAILED };
  *ret_data = NULL;
  if (!files || !parse (bytes, length, &request, files)) {
    free (files);
    return;
  }
  bool write = request.verb == BANGER_DISK_WRITE;
  snprintf (name, sizeof name, "%d", image_fd);
  errcode_t code = ext2fs_open2 (name, NULL, EXT2_FLAG_64BITS | (write ? EXT2_FLAG_RW : 0), 0, 0, unixfd_io_manager,
                                 &fs);
  BangerDiskStatus status = code ? status_of (code) : check_super (fs, request.image_bytes);
  if (status == BANGER_DISK_OK)
    status = write ? write_files (fs, files, request.count, &ret_answer->which)
                   : read_file (fs, &files[0], ret_data, &ret_answer->length);
  ret_answer->status = status;
  if (fs)
    ext2fs_free (fs); /* what was meant to be written is written */
  free (files);
}

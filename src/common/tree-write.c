/* Folders that are open on the way to the entry are a stack of descriptors, so that no name is looked up twice and none of
 * more than one component ever: no link can be in between. A folder gets its mode and its time when the stream leaves it.
 * Never keeps more than that stack, whatever a stream holds. */
#include "common/tree-write.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/fd.h"
#include "common/folder.h"

#define N_(text) (text)
#define MAX_DEPTH 400 /* descriptors: 1024 is what a process has by default */
#define MAX_PATH 4095
#define SET_ID (S_ISUID | S_ISGID)

typedef struct {
  char *name;
  int fd;
  int known; /* the stream said what follows */
  unsigned mode;
  struct timespec mtime;
} Folder;

struct BangerTreeWriter {
  BangerTreePlace place;
  char *top; /* the stream's name for the one */
  Folder folders[MAX_DEPTH];
  size_t depth;
  char *path; /* of the entry, as it is shown */
  char *name; /* its last component */
  int file;
  const char *mark; /* NULL: none */
  BangerTreeEntry entry;
  BangerTreeProblem problem;
  int earlier; /* it is of an entry before the one that was given */
  BangerTreeCounts counts;
};

/* Where it goes */

static char *
part_of (const char *text, size_t length)
{
  char *part = malloc (length + 2);
  if (part) {
    memcpy (part, text, length);
    part[length] = '\0';
  }
  return part;
}

static size_t
without_slashes (const char *path)
{
  size_t length = strlen (path);
  while (length > 1 && path[length - 1] == '/')
    length--;
  return length;
}

/* Returns: where the last component of the first @length bytes begins. */
static size_t
last_component (const char *path, size_t length)
{
  while (length > 0 && path[length - 1] != '/')
    length--;
  return length;
}

/* What is not there (yet), or no folder. */
static int
place_as (const char *path, BangerTreePlace *ret, char **ret_missing)
{
  size_t length = without_slashes (path), at = last_component (path, length);
  ret->folder = path[length] == '/' || ret->kind == BANGER_TREE_CONTENTS;
  ret->leaf = part_of (path + at, length - at);
  ret->shown = part_of (path, at);
  if (!ret->leaf || !ret->shown)
    return -1;
  if (strcmp (ret->leaf, ".") == 0 || strcmp (ret->leaf, "..") == 0 || ret->leaf[0] == '\0') {
    *ret_missing = strdup (path);
    errno = ENOENT;
    return -1;
  }
  const char *parent = at > 0 ? ret->shown : ".";
  ret->root = open (parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (ret->root < 0)
    *ret_missing = part_of (parent, without_slashes (parent));
  return ret->root < 0 ? -1 : 0;
}

static int
place_in (const char *path, const char *name, BangerTreePlace *ret)
{
  size_t length = without_slashes (path);
  ret->shown = part_of (path, length);
  if (!ret->shown)
    return -1;
  if (ret->shown[length - 1] != '/')
    memcpy (ret->shown + length, "/", 2); /* part_of() left room */
  ret->leaf = ret->kind == BANGER_TREE_NAMED ? strdup (name) : NULL;
  return ret->leaf || ret->kind != BANGER_TREE_NAMED ? 0 : -1;
}

int
banger_tree_place (const char *path, BangerTreeKind kind, const char *name, BangerTreePlace *ret, char **ret_missing)
{
  *ret = (BangerTreePlace){ .kind = kind, .root = -1 };
  *ret_missing = NULL;
  if (path[0] == '\0')
    path = ".";
  ret->root = open (path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int r = -1;
  if (ret->root >= 0)
    r = place_in (path, name, ret);
  else if (kind != BANGER_TREE_STREAM && (errno == ENOENT || errno == ENOTDIR))
    r = place_as (path, ret, ret_missing);
  else
    *ret_missing = strdup (path);
  if (r == 0)
    return 0;
  int saved = errno;
  banger_tree_place_clear (ret);
  errno = saved;
  return -1;
}

void
banger_tree_place_clear (BangerTreePlace *place)
{
  banger_clear_fd (&place->root);
  free (place->leaf);
  free (place->shown);
  *place = (BangerTreePlace){ .root = -1 };
}

/* What went wrong */

static int
failed (BangerTreeWriter *writer, const char *text, int number)
{
  writer->problem = (BangerTreeProblem){ text, number, writer->path ? writer->path : "" };
  return -1;
}

static int
failed_errno (BangerTreeWriter *writer)
{
  return failed (writer, NULL, errno);
}

static int
refused (BangerTreeWriter *writer, const char *text)
{
  return failed (writer, text, EINVAL);
}

/* Names */

/* "a//./b/" becomes "a/b". Returns: -1 for what leads out, or to nothing that has a name. */
static int
fold (const char *path, char *ret)
{
  size_t used = 0;
  if (path[0] == '/' || strlen (path) > MAX_PATH)
    return -1;
  while (*path != '\0') {
    size_t length = strcspn (path, "/");
    int dot = length == 1 && path[0] == '.';
    if (length == 2 && path[0] == '.' && path[1] == '.')
      return -1;
    if (length > 0 && !dot) {
      if (used > 0)
        ret[used++] = '/';
      memcpy (ret + used, path, length);
      used += length;
    }
    path += length;
    path += *path == '/';
  }
  ret[used] = '\0';
  return 0;
}

/* The name of the stream as one below the root: what it calls the one is called what we call it. "": the root itself.
 * Returns: of malloc(3); NULL with a problem. */
static char *
name_of (BangerTreeWriter *writer, const char *path)
{
  char folded[MAX_PATH + 1];
  if (fold (path, folded) < 0) {
    refused (writer, N_ ("its name leads out of the folder"));
    return NULL;
  }
  if (writer->place.kind == BANGER_TREE_STREAM)
    return strdup (folded);
  if (!writer->top && folded[0] != '\0' && !strchr (folded, '/'))
    writer->top = strdup (folded);
  size_t length = writer->top ? strlen (writer->top) : 0;
  if (length == 0 || strncmp (folded, writer->top, length) != 0 || (folded[length] != '\0' && folded[length] != '/')) {
    refused (writer, N_ ("it is not what was asked for"));
    return NULL;
  }
  const char *leaf = writer->place.leaf, *rest = folded + length;
  if (!leaf)
    return strdup (*rest == '/' ? rest + 1 : rest);
  char *name = NULL;
  return asprintf (&name, "%s%s", leaf, rest) < 0 ? NULL : name;
}

static void
show (BangerTreeWriter *writer, const char *name)
{
  const char *root = writer->place.shown;
  free (writer->path);
  if (asprintf (&writer->path, "%s%s", root, name) < 0)
    writer->path = NULL;
}

/* The stack */

static int
top_fd (const BangerTreeWriter *writer)
{
  return writer->depth > 0 ? writer->folders[writer->depth - 1].fd : writer->place.root;
}

static int
pop (BangerTreeWriter *writer)
{
  Folder *folder = &writer->folders[--writer->depth];
  const struct timespec times[] = { { .tv_nsec = UTIME_OMIT }, folder->mtime };
  int r = folder->known && (fchmod (folder->fd, folder->mode) < 0 || futimens (folder->fd, times) < 0) ? -1 : 0;
  if (r < 0) {
    failed_errno (writer);
    writer->earlier = 1;
  }
  banger_clear_fd (&folder->fd);
  free (folder->name);
  return r;
}

static int
open_folder (int parent, const char *name)
{
  if (mkdirat (parent, name, 0700) < 0 && errno != EEXIST)
    return -1;
  return openat (parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static int
push (BangerTreeWriter *writer, const char *name, size_t length)
{
  if (writer->depth == MAX_DEPTH)
    return refused (writer, N_ ("its folders are too deep"));
  Folder folder = { .name = part_of (name, length) };
  if (!folder.name)
    return failed_errno (writer);
  folder.fd = open_folder (top_fd (writer), folder.name);
  if (folder.fd < 0 && writer->place.replace && (errno == ENOTDIR || errno == ELOOP)
      && unlinkat (top_fd (writer), folder.name, 0) == 0)
    folder.fd = open_folder (top_fd (writer), folder.name);
  if (folder.fd < 0) {
    int number = errno;
    free (folder.name);
    return number == ENOTDIR || number == ELOOP ? failed (writer, N_ ("something is there that is no folder"), ENOTDIR)
                                                : failed (writer, NULL, number);
  }
  writer->folders[writer->depth++] = folder;
  return 0;
}

/* A folder that the stream did not speak of. */
static int
push_unnamed (BangerTreeWriter *writer, const char *name, size_t length)
{
  struct stat st;
  if (push (writer, name, length) < 0)
    return -1;
  Folder *folder = &writer->folders[writer->depth - 1];
  if (fstat (folder->fd, &st) == 0 && (st.st_mode & 0777) == 0700 && writer->place.kind == BANGER_TREE_STREAM)
    (void)!fchmod (folder->fd, 0755);
  return 0;
}

/* Has the stack end with the folder that holds @name. Returns: its last component; NULL with a problem. */
static const char *
enter (BangerTreeWriter *writer, const char *name)
{
  size_t kept = 0;
  const char *at = name;
  for (; kept < writer->depth; kept++) {
    size_t length = strcspn (at, "/");
    const char *have = writer->folders[kept].name;
    if (at[length] != '/' || strlen (have) != length || memcmp (have, at, length) != 0)
      break;
    at += length + 1;
  }
  while (writer->depth > kept)
    if (pop (writer) < 0)
      return NULL;
  for (const char *slash = strchr (at, '/'); slash; slash = strchr (at, '/')) {
    if (push_unnamed (writer, at, (size_t)(slash - at)) < 0)
      return NULL;
    at = slash + 1;
  }
  return at;
}

/* Entries */

static int
remove_below (int folder, const char *name, int depth)
{
  banger_autofolder DIR *dir = banger_folder_take (
      openat (folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!dir)
    return -1;
  for (const struct dirent *entry; (entry = banger_folder_next (dir));) {
    int r = unlinkat (dirfd (dir), entry->d_name, 0);
    if (r < 0 && errno == EISDIR && depth < MAX_DEPTH)
      r = remove_below (dirfd (dir), entry->d_name, depth + 1);
    if (r < 0)
      return -1;
  }
  return errno == 0 ? unlinkat (folder, name, AT_REMOVEDIR) : -1;
}

int
banger_tree_remove (int folder, const char *name)
{
  if (unlinkat (folder, name, 0) == 0 || errno == ENOENT)
    return 0;
  return errno == EISDIR ? remove_below (folder, name, 0) : -1;
}

/* A file or a link gives way, nothing else does. */
static int
make_room (BangerTreeWriter *writer, const char *leaf)
{
  struct stat st;
  if (writer->place.replace)
    return banger_tree_remove (top_fd (writer), leaf) == 0 ? 0 : failed_errno (writer);
  if (fstatat (top_fd (writer), leaf, &st, AT_SYMLINK_NOFOLLOW) < 0)
    return errno == ENOENT ? 0 : failed_errno (writer);
  if (S_ISDIR (st.st_mode))
    return failed (writer, N_ ("a folder is there"), EISDIR);
  if (!S_ISREG (st.st_mode) && !S_ISLNK (st.st_mode))
    return failed (writer, N_ ("something is there that is no file"), EEXIST);
  return unlinkat (top_fd (writer), leaf, 0) == 0 || errno == ENOENT ? 0 : failed_errno (writer);
}

static int
take_file (BangerTreeWriter *writer, const char *leaf)
{
  if (writer->entry.size > INT64_MAX)
    return refused (writer, N_ ("its size is not possible"));
  /* What is there is seen by that: for each of many files that are new one call is enough. */
  for (int i = 0; i < 2; i++) {
    writer->file = openat (top_fd (writer), leaf, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                           writer->entry.mode & 0777);
    if (writer->file >= 0 || errno != EEXIST || i > 0)
      break;
    if (make_room (writer, leaf) < 0)
      return -1;
  }
  if (writer->file >= 0 && writer->mark)
    (void)!fsetxattr (writer->file, writer->mark, "1", 1, 0);
  return writer->file >= 0 ? 0 : failed_errno (writer);
}

/* Only to what is below the root, and only by names without a link in them. */
static int
take_hard_link (BangerTreeWriter *writer, const char *leaf)
{
  char *target = writer->entry.link ? name_of (writer, writer->entry.link) : NULL;
  banger_autofd int parent = fcntl (writer->place.root, F_DUPFD_CLOEXEC, 3);
  const char *at = target;
  int same = target && strcmp (target, writer->name) == 0;
  for (const char *slash; parent >= 0 && at && (slash = strchr (at, '/')); at = slash + 1) {
    char *part = part_of (at, (size_t)(slash - at));
    int next = part ? openat (parent, part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    banger_clear_fd (&parent);
    parent = next;
    free (part);
  }
  struct stat st;
  int r = -1;
  if (!target || same)
    refused (writer, N_ ("what it is a link to is not in the folder"));
  else if (parent < 0 || fstatat (parent, at, &st, AT_SYMLINK_NOFOLLOW) < 0) /* before what has the name goes */
    failed_errno (writer);
  else if (S_ISDIR (st.st_mode))
    failed (writer, N_ ("a folder is there"), EISDIR);
  else if (make_room (writer, leaf) == 0)
    r = linkat (parent, at, top_fd (writer), leaf, 0) == 0 ? 0 : failed_errno (writer);
  free (target);
  return r;
}

static void
mark_link (const BangerTreeWriter *writer, const char *leaf)
{
  char path[sizeof "/proc/self/fd/" + 16 + NAME_MAX];
  if (writer->mark && snprintf (path, sizeof path, "/proc/self/fd/%d/%s", top_fd (writer), leaf) < (int)sizeof path)
    (void)!lsetxattr (path, writer->mark, "1", 1, 0);
}

static int
take_link (BangerTreeWriter *writer, const char *leaf)
{
  const struct timespec times[] = { { .tv_nsec = UTIME_OMIT },
                                    { .tv_sec = writer->entry.mtime, .tv_nsec = (long)writer->entry.nsec } };
  const char *target = writer->entry.link ? writer->entry.link : "";
  if (make_room (writer, leaf) < 0)
    return -1;
  if (symlinkat (target, top_fd (writer), leaf) < 0
      || utimensat (top_fd (writer), leaf, times, AT_SYMLINK_NOFOLLOW) < 0)
    return failed_errno (writer);
  mark_link (writer, leaf);
  return 0;
}

static int
take_folder (BangerTreeWriter *writer, const char *leaf)
{
  if (push (writer, leaf, strlen (leaf)) < 0)
    return -1;
  Folder *folder = &writer->folders[writer->depth - 1];
  folder->known = 1;
  folder->mode = writer->entry.mode & 01777;
  folder->mtime = (struct timespec){ .tv_sec = writer->entry.mtime, .tv_nsec = (long)writer->entry.nsec };
  return 0;
}

static int
pass_over (BangerTreeWriter *writer, const char *leaf)
{
  (void)leaf;
  writer->counts.passed_over++;
  return 0;
}

static int
finish_file (BangerTreeWriter *writer)
{
  const BangerTreeEntry *entry = &writer->entry;
  const struct timespec times[] = { { .tv_nsec = UTIME_OMIT },
                                    { .tv_sec = entry->mtime, .tv_nsec = (long)entry->nsec } };
  struct stat st;
  if (writer->file < 0)
    return 0;
  /* To ask costs less than to set what is so already. */
  if (fstat (writer->file, &st) < 0
      || ((uint64_t)st.st_size != entry->size && ftruncate (writer->file, (off_t)entry->size) < 0)
      || ((st.st_mode & 07777) != (entry->mode & 0777) && fchmod (writer->file, entry->mode & 0777) < 0)
      || futimens (writer->file, times) < 0)
  {
    writer->earlier = 1;
    return failed_errno (writer);
  }
  banger_clear_fd (&writer->file);
  return 0;
}

/* The one is a folder if it was named as one. */
static int
check_one (BangerTreeWriter *writer, const char *name)
{
  const BangerTreePlace *place = &writer->place;
  int wanted = place->kind != BANGER_TREE_STREAM && (place->folder || !place->leaf);
  if (!wanted || writer->entry.type == '5' || strcmp (name, place->leaf ? place->leaf : "") != 0)
    return 0;
  return failed (writer, N_ ("it is to be a folder and is none"), ENOTDIR);
}

int
banger_tree_entry (BangerTreeWriter *writer, const BangerTreeEntry *entry)
{
  static const struct {
    char type;
    int (*take) (BangerTreeWriter *writer, const char *leaf);
  } rows[] = { { '0', take_file }, { '1', take_hard_link }, { '2', take_link }, { '5', take_folder } };
  int (*take) (BangerTreeWriter *, const char *) = pass_over;
  if (finish_file (writer) < 0)
    return -1;
  writer->entry = *entry;
  writer->entry.nsec = entry->nsec < 1000000000 ? entry->nsec : 0;
  show (writer, entry->path);
  char *name = name_of (writer, entry->path);
  if (!name)
    return writer->problem.text ? -1 : failed_errno (writer);
  show (writer, name);
  free (writer->name);
  writer->name = name;
  writer->counts.entries++;
  writer->counts.stripped += entry->type == '0' && (entry->mode & SET_ID) != 0;
  if (check_one (writer, name) < 0)
    return -1;
  const char *leaf = enter (writer, name);
  if (!leaf)
    return -1;
  if (*leaf == '\0') /* the root itself is as it is */
    return 0;
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
    if (rows[i].type == entry->type)
      take = rows[i].take;
  return take (writer, leaf);
}

int
banger_tree_data (BangerTreeWriter *writer, const void *bytes, size_t length, uint64_t offset)
{
  if (writer->file < 0)
    return 0;
  if (offset > writer->entry.size || length > writer->entry.size - offset)
    return refused (writer, N_ ("it is longer than it said"));
  return banger_write_at (writer->file, bytes, length, (off_t)offset) < 0 ? failed_errno (writer) : 0;
}

int
banger_tree_finish (BangerTreeWriter *writer)
{
  if (finish_file (writer) < 0)
    return -1;
  while (writer->depth > 0)
    if (pop (writer) < 0)
      return -1;
  return 0;
}

int
banger_tree_skip (BangerTreeWriter *writer)
{
  static const int last[] = { EINVAL, ENOSPC, EDQUOT, EROFS, EIO, ENOMEM, EMFILE, ENFILE };
  int earlier = writer->earlier;
  for (size_t i = 0; i < sizeof last / sizeof last[0]; i++)
    if (writer->problem.number == last[i])
      return -1;
  banger_clear_fd (&writer->file);
  writer->problem = (BangerTreeProblem){ 0 };
  writer->earlier = 0;
  return earlier;
}

BangerTreeWriter *
banger_tree_writer_new (BangerTreePlace *place)
{
  BangerTreeWriter *writer = calloc (1, sizeof *writer);
  if (!writer)
    return NULL;
  writer->place = *place;
  writer->file = -1;
  *place = (BangerTreePlace){ .root = -1 };
  return writer;
}

void
banger_tree_mark (BangerTreeWriter *writer, const char *name)
{
  writer->mark = name;
}

void
banger_tree_writer_free (BangerTreeWriter *writer)
{
  if (!writer)
    return;
  for (size_t i = 0; i < writer->depth; i++) {
    close (writer->folders[i].fd);
    free (writer->folders[i].name);
  }
  banger_clear_fd (&writer->file);
  banger_tree_place_clear (&writer->place);
  free (writer->top);
  free (writer->path);
  free (writer->name);
  free (writer);
}

const BangerTreeProblem *
banger_tree_problem (const BangerTreeWriter *writer)
{
  return &writer->problem;
}

const char *
banger_tree_unfinished (const BangerTreeWriter *writer)
{
  return writer->file >= 0 ? writer->path : NULL;
}

BangerTreeCounts
banger_tree_counts (const BangerTreeWriter *writer)
{
  return writer->counts;
}

/* One process for what is else a dozen of a shell's: each costs a guest more than a hundred files do.
 * Run by the agent for the manager.
 * Never goes through a link on its way to a file that it removes or writes. */
#include "guest/receive.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/folder.h"
#include "common/tree-write.h"
#include "guest/copy.h"
#include "guest/head.h"

#define EXIT_OURS 125
#define LISTS ".cache/banger"

/* Names, each with a NUL. */
typedef struct {
  char *text;
  size_t length;
} List;

static int
fail (const char *what)
{
  fprintf (stderr, "cannot write '%s': %s\n", what, strerror (errno));
  return -1;
}

/* A list that is not there, or no list, is empty: then nothing is known of an earlier copy. */
static List
map_list (int folder, const char *name)
{
  List list = { 0 };
  struct stat st;
  banger_autofd int fd = openat (folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0 || fstat (fd, &st) < 0 || !S_ISREG (st.st_mode) || st.st_size <= 0)
    return list;
  char *text = mmap (NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (text == MAP_FAILED)
    return list;
  if (text[st.st_size - 1] == '\0')
    return (List){ text, (size_t)st.st_size };
  munmap (text, (size_t)st.st_size);
  return list;
}

static void
unmap_list (List *list)
{
  if (list->text)
    munmap (list->text, list->length);
}

/* Returns: the folder that holds the last component of @path below @top; -1: it is not there. */
static int
open_parent (int top, const char *path, const char **ret_leaf)
{
  char name[NAME_MAX + 1];
  int at = fcntl (top, F_DUPFD_CLOEXEC, 3);
  for (const char *slash; at >= 0 && (slash = strchr (path, '/')); path = slash + 1) {
    size_t length = (size_t)(slash - path);
    int next = -1;
    if (length > 0 && length < sizeof name && strncmp (path, "..", length) != 0) {
      memcpy (name, path, length);
      name[length] = '\0';
      next = openat (at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }
    close (at);
    at = next;
  }
  *ret_leaf = path;
  return at;
}

/* What came with the earlier copy and does not come with this one. Both lists are sorted. */
static void
remove_gone (int top, const List *before, const List *now)
{
  const char *new = now->text, *end = now->text + now->length;
  for (const char *old = before->text; old < before->text + before->length; old += strlen (old) + 1) {
    const char *leaf;
    while (new < end && strcmp (new, old) < 0)
      new += strlen (new) + 1;
    if (new < end && strcmp (new, old) == 0)
      continue;
    banger_autofd int parent = open_parent (top, old, &leaf);
    if (parent >= 0)
      unlinkat (parent, leaf, 0);
  }
}

/* What the guest committed stays, what would hide the new branches goes. Without git: what says that there is a base. */
static int
clear_git (int top, int git)
{
  static const char *const kept[] = { "objects", "logs" };
  banger_autofolder DIR *dir = banger_folder_take (
      openat (top, ".git", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!dir)
    return 0;
  for (const struct dirent *entry; (entry = banger_folder_next (dir));) {
    int keep = !git && strcmp (entry->d_name, "banger") != 0;
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
      keep |= strcmp (entry->d_name, kept[i]) == 0;
    if (!keep && banger_tree_remove (dirfd (dir), entry->d_name) < 0)
      return fail (".git");
  }
  return errno == 0 ? 0 : fail (".git");
}

/* Of the list that comes, under a name of its own until the tree is as it says. Returns: 0; -1. */
static int
take_list (int lists, const char *name, const char *bytes)
{
  banger_autofd int out = openat (lists, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
  if (out < 0)
    return fail (LISTS);
  return guest_head_pass (bytes, out) == 0 ? 0 : -1;
}

/* Where the lists are, of each name the last one. */
static int
open_lists (void)
{
  if ((mkdir (".cache", 0755) < 0 && errno != EEXIST) || (mkdir (LISTS, 0755) < 0 && errno != EEXIST))
    return fail (LISTS);
  int fd = open (LISTS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  return fd < 0 ? fail (LISTS) : fd;
}

static int
clear_earlier (const char *name, int lists, const char *list, int git)
{
  banger_autofd int top = open (name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (top < 0)
    return 0;
  if (clear_git (top, git) < 0)
    return -1;
  List before = map_list (lists, name), now = map_list (lists, list);
  if (before.text)
    remove_gone (top, &before, &now);
  unmap_list (&before);
  unmap_list (&now);
  return 0;
}

static int
take_tree (const char *folder)
{
  BangerTreePlace place;
  char *missing = NULL;
  if (banger_tree_place (folder, BANGER_TREE_STREAM, NULL, &place, &missing) < 0)
    return fail (folder);
  place.replace = 1;
  BangerTreeWriter *writer = banger_tree_writer_new (&place);
  int r = writer && guest_unpack (writer) == 0 ? 0 : -1;
  banger_tree_writer_free (writer);
  return r;
}

int
guest_receive_main (char **arguments)
{
  int given = 0;
  while (arguments[given])
    given++;
  const char *name = given >= 4 ? arguments[1] : "";
  if (name[0] == '\0' || strchr (name, '/') || strcmp (name, "..") == 0 || strcmp (name, ".") == 0) {
    fprintf (stderr, "banger-guest: receive: FOLDER NAME BYTES git|plain [SCRIPT]\n");
    return EXIT_OURS;
  }
  char list[32];
  snprintf (list, sizeof list, ".new-%d", (int)getpid ());
  umask (022);
  if (chdir (arguments[0]) < 0) {
    fail (arguments[0]);
    return 1;
  }
  banger_autofd int lists = open_lists ();
  if (lists < 0)
    return 1;
  if (take_list (lists, list, arguments[2]) < 0
      || clear_earlier (name, lists, list, strcmp (arguments[3], "git") == 0) < 0
      || (renameat (lists, list, lists, name) < 0 && fail (LISTS) < 0))
  {
    unlinkat (lists, list, 0);
    return 1;
  }
  if (take_tree (arguments[0]) < 0)
    return 1;
  if (!arguments[4] || arguments[4][0] == '\0')
    return 0;
  execl ("/bin/sh", "sh", "-c", arguments[4], (char *)NULL);
  fprintf (stderr, "banger-guest: cannot run /bin/sh: %s\n", strerror (errno));
  return EXIT_OURS;
}

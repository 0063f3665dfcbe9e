/* The two ends of a copy: what is read and written is for common/tree-{pack,write}.c.
 * Never says more than a line for each thing that went wrong. */
#include "guest/copy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/guest-protocol.h"
#include "common/tree-pack.h"
#include "common/tree-write.h"
#include "guest/untar.h"

#define EXIT_OURS 125

/* Out */

static int
write_out (const void *bytes, size_t length, void *data)
{
  (void)data;
  for (size_t done = 0; done < length;) {
    ssize_t n = write (STDOUT_FILENO, (const char *)bytes + done, length - done);
    if (n < 0 && errno != EINTR)
      return -1;
    done += n > 0 ? (size_t)n : 0;
  }
  return 0;
}

typedef struct {
  const char *path, *name; /* what the tar calls what is there */
} Source;

/* In the words in which it was asked for. */
static void
complain (const char *path, const char *why, int number, void *data)
{
  const Source *source = data;
  size_t length = strlen (source->path), known = strlen (source->name);
  if (length >= 2 && strcmp (source->path + length - 2, "/.") == 0)
    length -= 2;
  while (length > 1 && source->path[length - 1] == '/')
    length--;
  const char *rest = strncmp (path, source->name, known) == 0 ? path + known : path;
  if (length == 1 && source->path[0] == '/' && rest[0] == '/')
    length = 0;
  fprintf (stderr, "cannot read '%.*s%s': %s\n", (int)length, source->path, rest, why ? why : strerror (number));
}

/* Returns: of malloc(3); "root" for a folder without a name. */
static char *
base_name (const char *path)
{
  size_t end = strlen (path), begin;
  while (end > 0 && path[end - 1] == '/')
    end--;
  for (begin = end; begin > 0 && path[begin - 1] != '/';)
    begin--;
  char *name = strndup (path + begin, end - begin);
  if (name && name[0] != '\0' && strcmp (name, ".") != 0 && strcmp (name, "..") != 0)
    return name;
  free (name);
  return strdup ("root");
}

int
guest_pack_main (char **arguments)
{
  const char *path = arguments[0];
  if (!path || path[0] == '\0') {
    fprintf (stderr, "banger-guest: pack: no path\n");
    return EXIT_OURS;
  }
  char *name = arguments[1] ? strdup (arguments[1]) : base_name (path);
  Source source = { path, name ? name : "" };
  const BangerTreePacker packer = { .write = write_out, .complain = complain, .data = &source };
  errno = ENOMEM;
  int r = name ? banger_tree_pack (path, name, &packer) : -1;
  if (r < 0)
    fprintf (stderr, "cannot read '%s': %s\n", path, strerror (errno));
  free (name);
  return r != 0;
}

/* In */

static BangerTreeKind
kind_of (const char *name)
{
  if (!name)
    return BANGER_TREE_STREAM;
  return strcmp (name, ".") == 0 ? BANGER_TREE_CONTENTS : BANGER_TREE_NAMED;
}

int
guest_unpack (BangerTreeWriter *writer)
{
  const char *damage = NULL;
  const BangerTreeProblem *problem = banger_tree_problem (writer);
  if (guest_untar (STDIN_FILENO, writer, &damage) == 0)
    return 0;
  const char *cut = banger_tree_unfinished (writer);
  if (damage)
    fprintf (stderr, "cannot read the tar: %s%s%s%s\n", damage, cut ? "; it is not whole: '" : "", cut ? cut : "",
             cut ? "'" : "");
  else
    fprintf (stderr, "cannot write '%s': %s\n", problem->path,
             problem->text ? problem->text : strerror (problem->number));
  return 1;
}

int
guest_unpack_main (char **arguments)
{
  const char *path = arguments[0], *name = path ? arguments[1] : NULL;
  BangerTreePlace place;
  char *missing = NULL;
  if (!path || (name && (name[0] == '\0' || strchr (name, '/') || strcmp (name, "..") == 0))) {
    fprintf (stderr, "banger-guest: unpack: no path, or no name\n");
    return EXIT_OURS;
  }
  if (banger_tree_place (path, kind_of (name), name, &place, &missing) < 0) {
    fprintf (stderr, "cannot enter '%s': %s\n", missing ? missing : path, strerror (errno));
    free (missing);
    return 1;
  }
  BangerTreeWriter *writer = banger_tree_writer_new (&place);
  if (writer && name && arguments[2] && strcmp (arguments[2], BANGER_GUEST_UNPACK_COPIED) == 0)
    banger_tree_mark (writer, BANGER_GUEST_COPIED_XATTR);
  int status = writer ? guest_unpack (writer) : 1;
  BangerTreeCounts counts = writer ? banger_tree_counts (writer) : (BangerTreeCounts){ 0 };
  if (status == 0 && counts.passed_over > 0)
    fprintf (stderr, "devices, sockets and pipes that were passed over: %llu\n",
             (unsigned long long)counts.passed_over);
  if (status == 0 && counts.stripped > 0)
    fprintf (stderr, "files that lost a set-user-id or set-group-id bit: %llu\n", (unsigned long long)counts.stripped);
  banger_tree_writer_free (writer);
  return status;
}

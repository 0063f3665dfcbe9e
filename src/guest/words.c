/* Word lists as files below BANGER_GUEST_WORDS_DIR.
 * Never follows a name out of that folder. */
#include "guest/words.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/fd.h"
#include "common/guest-protocol.h"
#include "guest/file.h"

#define EXIT_OURS 125
#define MAX_ID 64
/* execve(2) takes 6 MiB at most; a coded byte has three. */
#define MAX_LIST_BYTES (20 << 20)

static int
list_path (const char *id, char *path, size_t size)
{
  size_t length = id ? strspn (id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-") : 0;
  if (length == 0 || length > MAX_ID || id[length] != '\0') {
    errno = EINVAL;
    return -1;
  }
  snprintf (path, size, BANGER_GUEST_WORDS_DIR "/%s", id);
  return 0;
}

static int
copy_stdin (int fd)
{
  static char buffer[65536];
  size_t total = 0;
  ssize_t n;
  while ((n = read (STDIN_FILENO, buffer, sizeof buffer)) != 0) {
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return -1;
    total += (size_t)n;
    if (total > MAX_LIST_BYTES) {
      errno = E2BIG;
      return -1;
    }
    if (banger_write_all (fd, buffer, (size_t)n) < 0)
      return -1;
  }
  return 0;
}

static int
keep (const char *id)
{
  char path[PATH_MAX];
  if (list_path (id, path, sizeof path) < 0 || guest_make_dirs (BANGER_GUEST_WORDS_DIR) < 0
      || chmod (BANGER_GUEST_WORDS_DIR, 0700) < 0)
    return -1;
  banger_autofd int fd = open (path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0)
    return -1;
  if (copy_stdin (fd) == 0)
    return 0;
  int saved = errno;
  unlink (path);
  errno = saved;
  return -1;
}

int
guest_keep_main (char **arguments)
{
  if (keep (arguments[0]) == 0)
    return 0;
  fprintf (stderr, "banger-guest: keep: %s\n", strerror (errno));
  return EXIT_OURS;
}

char **
guest_words_split (char *text)
{
  size_t n = 1;
  for (const char *c = text; *c != '\0'; c++)
    n += *c == '\n';
  char **words = calloc (n + 1, sizeof *words);
  size_t used = 0;
  char *rest = NULL;
  for (char *word = strtok_r (text, "\n", &rest); words && word; word = strtok_r (NULL, "\n", &rest))
    words[used++] = word;
  return words;
}

char **
guest_words_take (const char *id)
{
  char path[PATH_MAX];
  if (list_path (id, path, sizeof path) < 0)
    return NULL;
  char *text = guest_read_file (path, MAX_LIST_BYTES);
  if (!text)
    return NULL;
  unlink (path);
  return guest_words_split (text);
}

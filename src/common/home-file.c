/* openat2(2) with BENEATH does it; absolute links back into the home folder are gone along by hand.
 * Never opens what is no file or folder. */
#include "common/home-file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/safe-path.h"

#define MAX_LINKS 8
#define TRIES 32
#define AT_ONCE 8 /* of them: the others have 10 ms between them */

static int
open_beneath (int home_fd, const char *below, int flags)
{
  struct open_how how = { .flags = (guint64)flags | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };
  int fd = -1;
  for (int i = 0; i < TRIES; i++) {
    if (i >= AT_ONCE)
      g_usleep (10000);
    fd = (int)syscall (SYS_openat2, home_fd, below, &how, sizeof how);
    if (fd >= 0
        || (errno != EINTR && errno != EAGAIN)) /* EAGAIN: renamed meanwhile, or of another by a lease, fcntl(2) */
      break;
  }
  if (fd < 0 && errno == ENOSYS) /* then without links at all */
    fd = banger_safe_openat (home_fd, below, flags, 0, BANGER_SAFE_XDEV, NULL);
  return fd;
}

static char *
place_of (int fd)
{
  g_autofree char *link = g_strdup_printf ("/proc/self/fd/%d", fd);
  char place[PATH_MAX];
  ssize_t n = readlink (link, place, sizeof place - 1);
  return n > 0 ? g_strndup (place, (gsize)n) : NULL;
}

/* Returns: what is behind @folder and a slash; NULL: it is not below it. */
static const char *
behind (const char *path, const char *folder)
{
  gsize length = strlen (folder);
  return length > 1 && g_str_has_prefix (path, folder) && path[length] == '/' ? path + length + 1 : NULL;
}

/* Of an absolute link that leads back. Returns: (transfer full) (nullable): what to open instead. */
static char *
link_back (int home_fd, const char *home, const char *real_home, const char *below)
{
  char target[PATH_MAX];
  banger_autofd int fd = open_beneath (home_fd, below, O_PATH | O_NOFOLLOW);
  ssize_t n = fd < 0 ? -1 : readlinkat (fd, "", target, sizeof target - 1);
  if (n <= 0)
    return NULL;
  target[n] = '\0';
  const char *rest = behind (target, home);
  if (!rest && real_home)
    rest = behind (target, real_home);
  return rest && *rest ? g_strdup (rest) : NULL;
}

static int
check_kind (int fd, char **ret_real, const char *real_home, GError **error)
{
  struct stat st;
  if (fstat (fd, &st) == 0 && !S_ISREG (st.st_mode) && !S_ISDIR (st.st_mode)) {
    close (fd);
    banger_set_error (error, BANGER_ERROR_INVALID_PATH, "it is no file or folder");
    return -1;
  }
  g_autofree char *place = ret_real ? place_of (fd) : NULL;
  const char *rest = place && real_home ? behind (place, real_home) : NULL;
  if (ret_real)
    *ret_real = g_strdup (rest ? rest : "");
  return fd;
}

int
banger_home_open (const char *home, const char *below, char **ret_real, GError **error)
{
  banger_autofd int home_fd = open (home, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (home_fd < 0) {
    banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, errno, "the home folder %s cannot be opened", home);
    return -1;
  }
  g_autofree char *real_home = place_of (home_fd), *at = g_strdup (below);
  for (int i = 0; i < MAX_LINKS; i++) {
    int fd = open_beneath (home_fd, at, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (fd >= 0)
      return check_kind (fd, ret_real, real_home, error);
    int reason = errno;
    char *next = reason == EXDEV ? link_back (home_fd, home, real_home, at) : NULL;
    if (next) {
      g_free (at);
      at = next;
    } else if (reason == ENOENT || reason == ENOTDIR) {
      return -1;
    } else if (reason == EXDEV || reason == ELOOP) {
      break;
    } else {
      banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, reason, "it cannot be opened");
      return -1;
    }
  }
  banger_set_error (error, BANGER_ERROR_INVALID_PATH, "it is a link, or below one, that leads out of the home folder");
  return -1;
}

char *
banger_home_read_text (const char *home, const char *below, gsize max, GError **error)
{
  g_autoptr (GError) why = NULL;
  banger_autofd int fd = banger_home_open (home, below, NULL, &why);
  struct stat st;
  if (fd < 0) {
    banger_set_error (error, BANGER_ERROR_INVALID_PATH, "%s", why ? why->message : "it is not there");
    return NULL;
  }
  g_autofree char *text = g_malloc0 (max + 2);
  ssize_t n = fstat (fd, &st) < 0 || !S_ISREG (st.st_mode) ? -1 : banger_read_at (fd, text, max + 1, 0);
  if (n > 0 && (gsize)n <= max && strlen (text) == (gsize)n)
    return g_steal_pointer (&text);
  banger_set_error (error, BANGER_ERROR_INVALID_PATH, "it is no text of 1 to %zu bytes", max);
  return NULL;
}

gboolean
banger_home_link_stays (const char *home, const char *real, const char *target)
{
  int depth = -1; /* of the folder that the link is in, below @home */
  const char *from = target;
  if (target[0] == '/') {
    if (!g_str_equal (target, home) && !(from = behind (target, home)))
      return FALSE;
    depth = 0;
    from = g_str_equal (target, home) ? "" : from;
  } else {
    for (const char *p = real; p; p = strchr (p + 1, '/'))
      depth++;
  }
  g_auto (GStrv) parts = g_strsplit (from, "/", -1);
  for (char **part = parts; *part; part++)
    if (strcmp (*part, "..") == 0) {
      if (--depth < 0)
        return FALSE;
    } else if (**part && strcmp (*part, ".") != 0) {
      depth++;
    }
  return TRUE;
}

/* Makes the disk of a program slow, full, failing or hanging, and writes down what its main thread asks of it and how
 * long that works without waiting.
 * Preloaded into bangerd and bangerd-root by tests/fault/parts.py, which writes the list of faults.
 * Never changes a call of which the list does not speak. */
#undef _FILE_OFFSET_BITS /* both names of a call are defined here */
#undef _FORTIFY_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <poll.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LIST_BYTES 16384
#define LOOK_NSEC 20000000
#define TURN_USEC 1000 /* shorter ones are not worth a line */

static const char *list; /* mapped: the faults change while the program runs */
static int diary = -1;
static char program[32];

/* Not through libc, whose functions are ours, and before any constructor ran. */
static long
raw6 (long number, long a, long b, long c, long d, long e, long f)
{
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  if (result >= 0 || result < -4095)
    return result;
  errno = (int)-result;
  return -1;
}
#define FIRST6(a, b, c, d, e, f, ...) (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f)
#define raw(number, ...) raw6 (number, FIRST6 (__VA_ARGS__, 0, 0, 0, 0, 0, 0))

static __attribute__ ((constructor)) void
open_list (void)
{
  const char *path = getenv ("BANGER_FAULT_LIST"), *log = getenv ("BANGER_FAULT_DIARY");
  int fd = path ? (int)raw (SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0) : -1;
  if (fd >= 0) {
    void *map = mmap (NULL, LIST_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    list = map == MAP_FAILED ? NULL : map;
    raw (SYS_close, fd);
  }
  if (log)
    diary = (int)raw (SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  strncpy (program, program_invocation_short_name, sizeof program - 1);
}

/* What @fd and @name stand for. */
static void
resolve (int fd, const char *name, char path[PATH_MAX])
{
  char link[64];
  path[0] = '\0';
  if (name && name[0] == '/') {
    snprintf (path, PATH_MAX, "%s", name);
    return;
  }
  if (fd == AT_FDCWD)
    snprintf (link, sizeof link, "/proc/self/cwd");
  else
    snprintf (link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = (ssize_t)raw (SYS_readlink, link, path, PATH_MAX - 1);
  path[n < 0 ? 0 : n] = '\0';
  if (name && n >= 0 && n < PATH_MAX - 1)
    snprintf (path + n, (size_t)(PATH_MAX - n), "/%s", name);
}

/* The last line "<program or *> io.<op or *> <how> <part of the path>" that fits; false: none. */
static bool
look_up (const char *op, const char *path, char how[32])
{
  bool found = false;
  for (const char *at = list, *end;
       at && *at && *at != '\n' && (end = memchr (at, '\n', (size_t)(list + LIST_BYTES - at))); at = end + 1)
  {
    char who[32], what[32], does[32], part[256];
    if (sscanf (at, "%31s io.%31s %31s %255s", who, what, does, part) != 4)
      continue;
    if ((strcmp (who, "*") != 0 && strcmp (who, program) != 0) || (strcmp (what, "*") != 0 && strcmp (what, op) != 0)
        || !strstr (path, part))
      continue;
    strcpy (how, does);
    found = true;
  }
  return found;
}

static void
write_down (const char *op, const char *path)
{
  char line[PATH_MAX + 64];
  if (diary < 0 || getpid () != gettid () || strcmp (program, "bangerd") != 0)
    return;
  int n = snprintf (line, sizeof line, "%d %s %s\n", getpid (), op, path);
  raw (SYS_write, diary, line, (size_t)n);
}

/* Returns: an errno that the call is to fail with, or 0. */
static int
obey (const char *op, int fd, const char *name)
{
  char path[PATH_MAX], how[32];
  if ((!list || *list == '\n') && diary < 0)
    return 0;
  resolve (fd, name, path);
  if (path[0] != '/')
    return 0;
  write_down (op, path);
  if (!look_up (op, path, how))
    return 0;
  if (strncmp (how, "slow:", 5) == 0) {
    struct timespec pause = { atol (how + 5) / 1000, atol (how + 5) % 1000 * 1000000 };
    nanosleep (&pause, NULL);
    return 0;
  }
  while (strcmp (how, "silent") == 0) {
    struct timespec pause = { 0, LOOK_NSEC };
    nanosleep (&pause, NULL);
    if (!look_up (op, path, how))
      return 0;
  }
  return strcmp (how, "full") == 0 ? ENOSPC : strcmp (how, "fail") == 0 ? EIO : 0;
}

#define STRAIGHT(op, fd, name, call)                                                                                   \
  do {                                                                                                                 \
    int errnum = obey (op, fd, name);                                                                                  \
    if (errnum) {                                                                                                      \
      errno = errnum;                                                                                                  \
      return -1;                                                                                                       \
    }                                                                                                                  \
    return call;                                                                                                       \
  } while (0)

static const char *
open_op (uint64_t flags)
{
  if (flags & O_CREAT)
    return "create";
  return (flags & O_ACCMODE) != O_RDONLY ? "open" : flags & (O_PATH | O_DIRECTORY) ? "look" : "read";
}

static int
open_any (int folder, const char *name, int flags, mode_t mode)
{
  STRAIGHT (open_op ((uint64_t)flags), folder, name, (int)raw (SYS_openat, folder, name, flags, mode));
}

#define MODE_OF(flags, mode)                                                                                           \
  mode_t mode = 0;                                                                                                     \
  if ((flags) & (O_CREAT | __O_TMPFILE)) {                                                                             \
    va_list args;                                                                                                      \
    va_start (args, flags);                                                                                            \
    mode = va_arg (args, mode_t);                                                                                      \
    va_end (args);                                                                                                     \
  }

int
open (const char *name, int flags, ...)
{
  MODE_OF (flags, mode)
  return open_any (AT_FDCWD, name, flags, mode);
}

int
open64 (const char *name, int flags, ...)
{
  MODE_OF (flags, mode)
  return open_any (AT_FDCWD, name, flags, mode);
}

int
openat (int folder, const char *name, int flags, ...)
{
  MODE_OF (flags, mode)
  return open_any (folder, name, flags, mode);
}

int
openat64 (int folder, const char *name, int flags, ...)
{
  MODE_OF (flags, mode)
  return open_any (folder, name, flags, mode);
}

/* openat2(2), which libc does not wrap. */
long
syscall (long number, ...)
{
  va_list args;
  long a[6];
  va_start (args, number);
  for (int i = 0; i < 6; i++)
    a[i] = va_arg (args, long);
  va_end (args);
  if (number == SYS_openat2) {
    const struct open_how *how = (const struct open_how *)a[2];
    int errnum = obey (open_op (how->flags), (int)a[0], (const char *)a[1]);
    if (errnum) {
      errno = errnum;
      return -1;
    }
  }
  return raw (number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

ssize_t
write (int fd, const void *data, size_t n)
{
  STRAIGHT ("write", fd, NULL, raw (SYS_write, fd, data, n));
}

ssize_t
pwrite (int fd, const void *data, size_t n, off_t offset)
{
  STRAIGHT ("write", fd, NULL, raw (SYS_pwrite64, fd, data, n, offset));
}

ssize_t
pwrite64 (int fd, const void *data, size_t n, off64_t offset)
{
  STRAIGHT ("write", fd, NULL, raw (SYS_pwrite64, fd, data, n, offset));
}

ssize_t
copy_file_range (int in, off64_t *from, int out, off64_t *to, size_t n, unsigned flags)
{
  STRAIGHT ("write", out, NULL, raw (SYS_copy_file_range, in, from, out, to, n, flags));
}

int
ftruncate (int fd, off_t size)
{
  STRAIGHT ("truncate", fd, NULL, (int)raw (SYS_ftruncate, fd, size));
}

int
ftruncate64 (int fd, off64_t size)
{
  STRAIGHT ("truncate", fd, NULL, (int)raw (SYS_ftruncate, fd, size));
}

int
fsync (int fd)
{
  STRAIGHT ("fsync", fd, NULL, (int)raw (SYS_fsync, fd));
}

int
fdatasync (int fd)
{
  STRAIGHT ("fsync", fd, NULL, (int)raw (SYS_fdatasync, fd));
}

int
rename (const char *from, const char *to)
{
  STRAIGHT ("rename", AT_FDCWD, to, (int)raw (SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}

int
renameat (int from_folder, const char *from, int folder, const char *to)
{
  STRAIGHT ("rename", folder, to, (int)raw (SYS_renameat2, from_folder, from, folder, to, 0));
}

int
renameat2 (int from_folder, const char *from, int folder, const char *to, unsigned flags)
{
  STRAIGHT ("rename", folder, to, (int)raw (SYS_renameat2, from_folder, from, folder, to, flags));
}

int
unlink (const char *name)
{
  STRAIGHT ("unlink", AT_FDCWD, name, (int)raw (SYS_unlinkat, AT_FDCWD, name, 0));
}

int
unlinkat (int folder, const char *name, int flags)
{
  STRAIGHT ("unlink", folder, name, (int)raw (SYS_unlinkat, folder, name, flags));
}

int
rmdir (const char *name)
{
  STRAIGHT ("unlink", AT_FDCWD, name, (int)raw (SYS_unlinkat, AT_FDCWD, name, AT_REMOVEDIR));
}

int
mkdir (const char *name, mode_t mode)
{
  STRAIGHT ("create", AT_FDCWD, name, (int)raw (SYS_mkdirat, AT_FDCWD, name, mode));
}

int
mkdirat (int folder, const char *name, mode_t mode)
{
  STRAIGHT ("create", folder, name, (int)raw (SYS_mkdirat, folder, name, mode));
}

int
link (const char *from, const char *to)
{
  STRAIGHT ("create", AT_FDCWD, to, (int)raw (SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0));
}

int
linkat (int from_folder, const char *from, int folder, const char *to, int flags)
{
  STRAIGHT ("create", folder, to, (int)raw (SYS_linkat, from_folder, from, folder, to, flags));
}

int
fallocate64 (int fd, int mode, off64_t offset, off64_t length)
{
  STRAIGHT ("write", fd, NULL, (int)raw (SYS_fallocate, fd, mode, offset, length));
}

/* A name service, as GLib asks it for the user's name. */
int
getpwnam_r (const char *name, struct passwd *entry, char *buffer, size_t length, struct passwd **found)
{
  int (*real) (const char *, struct passwd *, char *, size_t, struct passwd **);
  *(void **)&real = dlsym (RTLD_NEXT, "getpwnam_r");
  int errnum = obey ("names", AT_FDCWD, "/etc/passwd");
  *found = NULL;
  return errnum ? errnum : real (name, entry, buffer, length, found);
}

/* Whether something is there: openat and these are all that bangerd asks it with. */

int
stat (const char *name, struct stat *st)
{
  STRAIGHT ("stat", AT_FDCWD, name, (int)raw (SYS_newfstatat, AT_FDCWD, name, st, 0));
}

int
lstat (const char *name, struct stat *st)
{
  STRAIGHT ("stat", AT_FDCWD, name, (int)raw (SYS_newfstatat, AT_FDCWD, name, st, AT_SYMLINK_NOFOLLOW));
}

int
fstatat (int folder, const char *name, struct stat *st, int flags)
{
  STRAIGHT ("stat", folder, name, (int)raw (SYS_newfstatat, folder, name, st, flags));
}

int
fstatat64 (int folder, const char *name, struct stat64 *st, int flags)
{
  STRAIGHT ("stat", folder, name, (int)raw (SYS_newfstatat, folder, name, st, flags));
}

int
access (const char *name, int mode)
{
  STRAIGHT ("stat", AT_FDCWD, name, (int)raw (SYS_faccessat, AT_FDCWD, name, mode));
}

/* With flags of none that libc would have to emulate: for a file's owner they say the same. */
int
faccessat (int folder, const char *name, int mode, int flags)
{
  STRAIGHT ("stat", folder, name, (int)raw (SYS_faccessat2, folder, name, mode, flags));
}

/* How much of the processor the main thread took from one waiting for events to the next: the machine's load is not in
 * it. */
int
poll (struct pollfd *fds, nfds_t n, int msec)
{
  static struct timespec since;
  struct timespec now, timeout = { msec / 1000, msec % 1000 * 1000000L };
  bool is_main = diary >= 0 && getpid () == gettid () && strcmp (program, "bangerd") == 0;
  if (is_main && since.tv_sec + since.tv_nsec > 0) {
    clock_gettime (CLOCK_THREAD_CPUTIME_ID, &now);
    long usec = (now.tv_sec - since.tv_sec) * 1000000 + (now.tv_nsec - since.tv_nsec) / 1000;
    char line[64];
    if (usec >= TURN_USEC)
      raw (SYS_write, diary, line, snprintf (line, sizeof line, "%d turn %ld\n", getpid (), usec));
  }
  int r = (int)raw (SYS_ppoll, fds, n, msec < 0 ? NULL : &timeout, NULL, 8);
  if (is_main)
    clock_gettime (CLOCK_THREAD_CPUTIME_ID, &since);
  return r;
}

/* The steps from a package or file to a kernel's directory.
 * Runs in worker threads.
 * Never parses a kernel or a package: banger-intake does. Never leaves a link or a foreign name in that directory. */
#include "manager/kernel/import.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/names.h"
#include "common/safe-path.h"
#include "intake/protocol.h"
#include "manager/disk/intake.h"
#include "manager/fetch/apt.h"
#include "manager/kernel/pack.h"

#define DOWNLOAD_DIR "download"
#define PACKAGE_MAX (1ull << 30)
#define FILE_MAX ((guint64)512 << 20) /* vmlinux, initrd */
#define MODULES_MAX 1000u             /* that the program may say */

/* Names before they are whole. */
#define NEW_KERNEL BANGER_FILE_KERNEL_VMLINUX ".new"
#define NEW_INITRD BANGER_FILE_KERNEL_INITRD ".new"

/* Where on the way from 0 to 1 reading begins: fetching comes before. */
typedef struct {
  const BangerKernelImport *import;
  double from;
} Reading;

static void
report (const BangerKernelImport *import, double fraction)
{
  if (import->progress)
    import->progress (fraction, import->progress_data);
}

static void
on_progress (double fraction, gpointer data)
{
  const Reading *reading = data;
  report (reading->import, reading->from + CLAMP (fraction, 0, 1) * (0.95 - reading->from));
}

static int
create (int dir_fd, const char *name, GError **error)
{
  int fd = openat (dir_fd, name, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
  if (fd < 0)
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make %s", name);
  return fd;
}

/* What the program says must be so, as far as it can be seen without reading it. */
static gboolean
check_result (int kernel_fd, int initrd_fd, const BangerIntakeResult *result, GError **error)
{
  struct stat kernel, initrd;
  if (fstat (kernel_fd, &kernel) < 0 || fstat (initrd_fd, &initrd) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot look at the kernel's files");
  /* Archives are laid end to end behind this one: docs/guest.md. */
  if (kernel.st_size > 0 && initrd.st_size > 0 && initrd.st_size % 512 == 0 && result->version[0] != '\0'
      && result->n_modules <= MODULES_MAX)
    return TRUE;
  return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL,
                           "cannot read the kernel: the program that reads it did not make the files that it says");
}

/* Makes both whole by rename, the directory entries durable. */
static gboolean
publish (int dir_fd, int kernel_fd, int initrd_fd, GError **error)
{
  if (fsync (kernel_fd) < 0 || fsync (initrd_fd) < 0
      || renameat (dir_fd, NEW_KERNEL, dir_fd, BANGER_FILE_KERNEL_VMLINUX) < 0
      || renameat (dir_fd, NEW_INITRD, dir_fd, BANGER_FILE_KERNEL_INITRD) < 0 || fsync (dir_fd) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot write the kernel's files");
  return TRUE;
}

static gboolean
read_kernel (Reading *reading, int source, int modules, BangerKernelInfo *ret_info, GError **error)
{
  const BangerKernelImport *import = reading->import;
  g_auto (BangerIntakeAnswer) answer = { 0 };
  banger_autofd int kernel_fd = create (import->dir_fd, NEW_KERNEL, error);
  banger_autofd int initrd_fd = kernel_fd < 0 ? -1 : create (import->dir_fd, NEW_INITRD, error);
  if (initrd_fd < 0)
    return FALSE;
  const BangerIntake intake = { .verb = BANGER_INTAKE_KERNEL,
                                .what = "the kernel",
                                .bad = BANGER_ERROR_INVALID_KERNEL,
                                .source_fd = source,
                                .target_fds = { kernel_fd, initrd_fd },
                                .extra_fd = modules,
                                .target_bytes = FILE_MAX,
                                .progress = on_progress,
                                .progress_data = reading,
                                .cancellable = import->cancellable };
  if (!banger_intake_run (&intake, &answer, error) || !check_result (kernel_fd, initrd_fd, &answer.result, error))
    return FALSE;
  g_autofree char *digest = banger_digest_file (kernel_fd, import->cancellable, error);
  if (!digest || !publish (import->dir_fd, kernel_fd, initrd_fd, error))
    return FALSE;
  report (import, 1);
  ret_info->version = g_strdup (answer.result.version);
  ret_info->digest = g_steal_pointer (&digest);
  ret_info->n_modules = answer.result.n_modules;
  ret_info->warnings = g_steal_pointer (&answer.warnings);
  return TRUE;
}

static gboolean
is_package (int fd)
{
  char head[sizeof BANGER_PACKAGE_MAGIC - 1];
  return banger_read_exactly (fd, head, sizeof head, 0) == 0 && memcmp (head, BANGER_PACKAGE_MAGIC, sizeof head) == 0;
}

gboolean
banger_kernel_check_file (const char *path, int fd, gboolean modules, GError **error)
{
  struct stat st;
  if (fstat (fd, &st) < 0 || !S_ISREG (st.st_mode) || (guint64)st.st_size > PACKAGE_MAX)
    return banger_set_error (error, BANGER_ERROR_INVALID_PATH, "%s is not a regular file of at most 1 GiB", path);
  if (modules && is_package (fd))
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "%s is a package and brings its own modules", path);
  return TRUE;
}

gboolean
banger_kernel_import_file (const BangerKernelImport *import, BangerKernelInfo *ret_info, GError **error)
{
  Reading reading = { import, 0 };
  banger_autofd int modules = -1;
  if (import->modules_fd >= 0) {
    modules = banger_kernel_pack_modules (import->modules_fd, import->dir_fd, import->cancellable, error);
    if (modules < 0)
      return FALSE;
  }
  return read_kernel (&reading, import->fd, modules, ret_info, error);
}

static char *
make_download_dir (int dir_fd, GError **error)
{
  char path[PATH_MAX];
  g_autofree char *by_descriptor = g_strdup_printf ("/proc/self/fd/%d", dir_fd);
  ssize_t n = readlink (by_descriptor, path, sizeof path - 1);
  if (n < 0 || (mkdirat (dir_fd, DOWNLOAD_DIR, 0700) < 0 && errno != EEXIST)) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make a folder for the download");
    return NULL;
  }
  path[n] = '\0';
  return g_build_filename (path, DOWNLOAD_DIR, NULL);
}

static gboolean
import_fetched (const BangerKernelImport *import, const char *dir, BangerKernelInfo *ret_info, GError **error)
{
  Reading reading = { import, 0.2 };
  g_autofree char *path = banger_kernel_fetch (import->name, dir, import->cancellable, error);
  banger_autofd int fd = path ? open (path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) : -1;
  if (path && fd < 0)
    return banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, errno, "cannot open %s", path);
  return path && banger_kernel_check_file (path, fd, FALSE, error) && read_kernel (&reading, fd, -1, ret_info, error);
}

gboolean
banger_kernel_import_package (const BangerKernelImport *import, BangerKernelInfo *ret_info, GError **error)
{
  g_autofree char *dir = make_download_dir (import->dir_fd, error);
  if (!dir)
    return FALSE;
  gboolean ok = import_fetched (import, dir, ret_info, error);
  return banger_safe_remove_tree (import->dir_fd, DOWNLOAD_DIR, ok ? error : NULL) && ok;
}

void
banger_kernel_info_clear (BangerKernelInfo *info)
{
  g_clear_pointer (&info->version, g_free);
  g_clear_pointer (&info->digest, g_free);
  g_clear_pointer (&info->warnings, g_strfreev);
}

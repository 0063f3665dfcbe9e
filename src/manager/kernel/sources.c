/* What guest kernels are made from: the rows.
 * Never knows D-Bus; the bytes are written by import.c. */
#include "manager/kernel/sources.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"
#include "manager/fetch/apt.h"
#include "manager/fetch/catalogs.h"

static gboolean
open_modules (BangerKernelSource *kernel, GError **error)
{
  if (!kernel->modules)
    return TRUE;
  g_autofree char *shown = banger_log_escape (kernel->modules, PATH_MAX);
  if (!g_path_is_absolute (kernel->modules))
    return banger_set_error (error, BANGER_ERROR_INVALID_PATH, "modules directory \"%s\" is not an absolute path",
                             shown);
  kernel->modules_fd = open (kernel->modules, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  return kernel->modules_fd >= 0
         || banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, errno, "cannot open %s", shown);
}

static gboolean
check_file (BangerSource *source, GError **error)
{
  BangerKernelSource *kernel = (BangerKernelSource *)source;
  return banger_source_open (source, error)
         && banger_kernel_check_file (source->name, source->fd, kernel->modules != NULL, error)
         && open_modules (kernel, error);
}

static gboolean
check_package (BangerSource *source, GError **error)
{
  if (((BangerKernelSource *)source)->modules)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "package %s brings its own modules", source->name);
  return banger_kernel_check_package (source->name, error);
}

/* Becomes what it stands for, which is checked in its turn. */
static gboolean
check_catalog (BangerSource *source, GError **error)
{
  BangerKernelSource *kernel = (BangerKernelSource *)source;
  g_autoptr (BangerCatalogFound) found = banger_catalogs_find (kernel->catalogs, BANGER_CATALOG_KERNELS, source->name,
                                                               error);
  if (!found)
    return FALSE;
  banger_source_choose (source, found->word, found->what);
  kernel->notice = g_steal_pointer (&found->warning);
  return source->row->check (source, error);
}

static gboolean
make (BangerSource *source, int dir_fd, BangerJobProgress *progress, GCancellable *cancellable, GError **error,
      gboolean (*import) (const BangerKernelImport *, BangerKernelInfo *, GError **))
{
  BangerKernelSource *kernel = (BangerKernelSource *)source;
  const BangerKernelImport what = { .name = source->name,
                                    .fd = source->fd,
                                    .modules_fd = kernel->modules_fd,
                                    .dir_fd = dir_fd,
                                    .progress = banger_job_progress_report,
                                    .progress_data = progress,
                                    .cancellable = cancellable };
  banger_job_progress_stage ("importing kernel", progress);
  if (!import (&what, &kernel->info, error))
    return FALSE;
  if (kernel->notice)
    banger_job_progress_warn (kernel->notice, progress);
  for (char **text = kernel->info.warnings; text && *text; text++)
    banger_job_progress_warn (*text, progress);
  return TRUE;
}

static gboolean
make_file (BangerSource *source, int dir_fd, BangerJobProgress *progress, GCancellable *cancellable, GError **error)
{
  return make (source, dir_fd, progress, cancellable, error, banger_kernel_import_file);
}

static gboolean
make_package (BangerSource *source, int dir_fd, BangerJobProgress *progress, GCancellable *cancellable, GError **error)
{
  return make (source, dir_fd, progress, cancellable, error, banger_kernel_import_package);
}

static void
clear (BangerSource *source)
{
  BangerKernelSource *kernel = (BangerKernelSource *)source;
  banger_kernel_info_clear (&kernel->info);
  banger_clear_fd (&kernel->modules_fd);
  g_free (kernel->modules);
  g_free (kernel->notice);
  g_clear_pointer (&kernel->catalogs, g_ptr_array_unref);
}

static const BangerSourceRow rows[] = {
  { BANGER_KERNEL_SOURCE_CATALOG, TRUE, check_catalog, banger_source_say_both, NULL }, /* nothing is made as that */
  { "apt", TRUE, check_package, banger_source_say_both, make_package },
  { BANGER_SOURCE_FILE, FALSE, check_file, banger_source_say_name, make_file },
  { NULL },
};

const BangerSources banger_kernel_sources = { rows, sizeof (BangerKernelSource), clear };

BangerKernelSource *
banger_kernel_source_new (const char *text, char *modules)
{
  BangerKernelSource *kernel = banger_source_new (&banger_kernel_sources);
  banger_source_choose_text (&kernel->source, text);
  kernel->modules = modules;
  kernel->modules_fd = -1;
  return kernel;
}

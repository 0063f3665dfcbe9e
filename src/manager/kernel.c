/* Guest kernels: their class of asset, and importing them as jobs.
 * Called by the bus side and by manager.c on behalf of vm.c.
 * Never knows D-Bus; the bytes are written by kernel-import.c. */
#include "manager/kernel.h"

#include "common/error.h"
#include "manager/kernel-import.h"
#include "manager/manager.h"

static const char *const state_words[] = { "importing", "ready", NULL };
G_STATIC_ASSERT (G_N_ELEMENTS (state_words) == BANGER_N_ASSET_STATES + 1);

static const BangerRecordField fields[] = {
  BANGER_ASSET_FIELDS (state_words),
  { "kernel-version", BANGER_RECORD_STRING, G_STRUCT_OFFSET (BangerKernel, version) },
  { NULL },
};

const BangerAssetClass banger_kernel_class = {
  .object = BANGER_OBJECT_KERNEL,
  .kind = "kernel",
  .a_kind = "a kernel",
  .size = sizeof (BangerKernel),
  .fields = fields,
  .states = state_words,
  .making = "being imported",
  .hint = "get one with `banger kernel import`",
  .exists = BANGER_ERROR_KERNEL_EXISTS,
  .missing = BANGER_ERROR_NO_SUCH_KERNEL,
  .properties = BANGER_PROPERTIES ("State", "Version", "Digest"),
};

BangerKernel *
banger_kernel_add (BangerManager *manager, const char *name, const char *source, GError **error)
{
  if (!banger_asset_check_name (&banger_kernel_class, manager, name, error))
    return NULL;
  if (!g_str_has_prefix (source, "apt:") && !g_path_is_absolute (source)) {
    banger_set_error (error, BANGER_ERROR_INVALID_PATH,
                      "kernel source \"%s\" is neither an absolute path nor \"apt:PACKAGE\"", source);
    return NULL;
  }
  return banger_asset_add (&banger_kernel_class, manager, name, source, error);
}

typedef struct {
  char *source;
  char *modules; /* NULL: none */
  BangerKernelInfo info;
} Work;

static void
work_free (gpointer data)
{
  Work *work = data;
  banger_kernel_info_clear (&work->info);
  g_free (work->modules);
  g_free (work->source);
  g_free (work);
}

static gboolean
make (gpointer data, int dir_fd, BangerJobProgress *progress, GCancellable *cancellable, GError **error)
{
  Work *work = data;
  return banger_kernel_import (work->source, work->modules, dir_fd, banger_job_progress_report, progress, cancellable,
                               &work->info, error);
}

static void
take (gpointer asset, gpointer data)
{
  BangerKernel *kernel = asset;
  Work *work = data;
  banger_asset_set_string (&kernel->version, work->info.version);
  banger_asset_set_string (&kernel->asset.digest, work->info.digest);
}

void
banger_kernel_create_async (BangerKernel *kernel, const char *modules, BangerJob *job, GAsyncReadyCallback callback,
                            gpointer user_data)
{
  static const BangerAssetMaker maker = { make, take, work_free };
  Work *work = g_new0 (Work, 1);
  work->source = g_strdup (kernel->asset.source);
  work->modules = g_strdup (modules);
  banger_job_set_stage (job, "importing kernel");
  banger_asset_make_async (&kernel->asset, &maker, work, job, callback, user_data);
}

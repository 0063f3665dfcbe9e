/* Kernels on the bus: their own property and ImportKernel.
 * Never changes a kernel itself: kernel.c does. */
#include "manager/bus/kernel-dbus.h"

#include "common/error.h"
#include "common/options.h"
#include "manager/bus/asset-dbus.h"
#include "manager/kernel/kernel.h"
#include "manager/kernel/sources.h"

typedef struct {
  char *source;
  char *modules;
  gboolean wait;
} ImportOptions;

static const BangerOption import_options[] = {
  { "source-bytes", BANGER_OPTION_PATH, G_STRUCT_OFFSET (ImportOptions, source) },
  { "modules", BANGER_OPTION_PATH, G_STRUCT_OFFSET (ImportOptions, modules) },
  { "wait", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (ImportOptions, wait) },
  { NULL },
};

/* An empty source is Debian's cloud kernel. */
static gboolean
import (BangerRequest *request, const BangerAssetCreation *creation, const char *source, ImportOptions *values,
        GError **error)
{
  if (values->source && *source != '\0')
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "kernel: give a source or 'source-bytes', not both");
  const char *text = values->source ? values->source : *source != '\0' ? source : BANGER_KERNEL_DEFAULT_SOURCE;
  BangerKernelSource *kernel = banger_kernel_source_new (text, g_steal_pointer (&values->modules));
  kernel->catalogs = g_ptr_array_ref (banger_objects_manager (request->objects)->config->catalogs);
  return banger_asset_create (request, creation, &kernel->source, error);
}

gboolean
banger_kernel_handle_import (BangerRequest *request, gconstpointer data, GError **error)
{
  BangerAssetCreation creation = { &banger_kernel_class, "import-kernel" };
  ImportOptions values = { 0 };
  const char *source = NULL;
  gboolean ok = banger_request_read (request, error, "ss", &creation.name, &source)
                && banger_options_read (request->message, import_options, &values, error);
  creation.wait = values.wait;
  ok = ok && import (request, &creation, source, &values, error);
  banger_options_clear (import_options, &values);
  return ok;
}

const BangerMember banger_kernel_members[] = { BANGER_ASSET_MEMBERS (&banger_kernel_class), { NULL } };

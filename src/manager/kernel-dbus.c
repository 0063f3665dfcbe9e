/* Kernels on the bus: their own property and ImportKernel.
 * Used by manager-dbus.c.
 * Never changes a kernel itself: kernel.c does. */
#include "manager/kernel-dbus.h"

#include "common/error.h"
#include "common/options.h"
#include "manager/asset-dbus.h"
#include "manager/kernel-import.h"
#include "manager/kernel.h"

typedef struct {
  char *modules;
  gboolean wait;
} ImportOptions;

static const BangerOption import_options[] = {
  { "modules", BANGER_OPTION_STRING, G_STRUCT_OFFSET (ImportOptions, modules) },
  { "wait", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (ImportOptions, wait) },
  { NULL },
};

static gboolean
import (BangerCall *call, const char *name, const char *source, const ImportOptions *values, GError **error)
{
  if (values->modules != NULL && !g_path_is_absolute (values->modules))
    return banger_set_error (error, BANGER_ERROR_INVALID_PATH, "modules directory \"%s\" is not an absolute path",
                             values->modules);
  BangerKernel *kernel = banger_kernel_add (banger_dispatch_manager (call->dispatch), name, source, error);
  BangerRun *run = kernel != NULL ? banger_asset_run (call, &kernel->asset, "import-kernel", values->wait, error)
                                  : NULL;
  if (run != NULL)
    banger_kernel_create_async (kernel, values->modules, banger_run_job (run), banger_asset_made, run);
  return run != NULL;
}

/* An empty source is Debian's cloud kernel. */
gboolean
banger_kernel_handle_import (BangerCall *call, gconstpointer data, GError **error)
{
  const char *name = NULL, *source = NULL;
  ImportOptions values = { 0 };
  gboolean ok = banger_call_read (call, error, "ss", &name, &source)
                && banger_options_read (call->message, import_options, &values, error)
                && import (call, name, *source == '\0' ? BANGER_KERNEL_DEFAULT_SOURCE : source, &values, error);
  banger_options_clear (import_options, &values);
  return ok;
}

static const BangerProperty properties[] = {
  { "Version", 's', G_STRUCT_OFFSET (BangerKernel, version), NULL },
  { NULL },
};

static int
get_property (sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
              void *userdata, sd_bus_error *ret_error)
{
  return banger_asset_property (&banger_kernel_class, properties, userdata, path, property, reply, ret_error);
}

const sd_bus_vtable banger_kernel_vtable[] = {
  SD_BUS_VTABLE_START (0),
  BANGER_ASSET_PROPERTIES (get_property),
  SD_BUS_PROPERTY ("Version", "s", get_property, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
  SD_BUS_VTABLE_END,
};

const BangerMember banger_kernel_members[] = { { "Delete", banger_asset_handle_delete_by_path, &banger_kernel_class },
                                               { NULL } };

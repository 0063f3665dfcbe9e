/* Images on the bus: their own properties, BuildImage and ImportImage.
 * Used by manager-dbus.c.
 * Never changes an image itself: image.c does. */
#include "manager/image-dbus.h"

#include "common/error.h"
#include "common/options.h"
#include "manager/asset-dbus.h"
#include "manager/image.h"

typedef struct {
  BangerImageOptions image;
  gboolean wait;
} CreateOptions;

#define OPTION_SIZE                                                                                                    \
  {                                                                                                                    \
    "size-bytes", BANGER_OPTION_UINT64, G_STRUCT_OFFSET (CreateOptions, image.size_bytes)                              \
  }
#define OPTION_WAIT                                                                                                    \
  {                                                                                                                    \
    "wait", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (CreateOptions, wait)                                                  \
  }

static const BangerOption build_options[] = {
  { "suite", BANGER_OPTION_STRING, G_STRUCT_OFFSET (CreateOptions, image.suite) },
  { "mirror", BANGER_OPTION_STRING, G_STRUCT_OFFSET (CreateOptions, image.mirror) },
  { "packages", BANGER_OPTION_STRV, G_STRUCT_OFFSET (CreateOptions, image.packages) },
  OPTION_SIZE,
  OPTION_WAIT,
  { NULL },
};
static const BangerOption import_options[] = {
  { "fd", BANGER_OPTION_FD, G_STRUCT_OFFSET (CreateOptions, image.fd) },
  OPTION_SIZE,
  OPTION_WAIT,
  { NULL },
};

static gboolean
create (BangerCall *call, const char *name, const CreateOptions *values, const char *kind, GError **error)
{
  BangerImage *image = banger_image_add (banger_dispatch_manager (call->dispatch), name, &values->image, error);
  BangerRun *run = image != NULL ? banger_asset_run (call, &image->asset, kind, values->wait, error) : NULL;
  if (run != NULL)
    banger_image_create_async (image, &values->image, banger_run_job (run), banger_asset_made, run);
  return run != NULL;
}

gboolean
banger_image_handle_build (BangerCall *call, gconstpointer data, GError **error)
{
  const char *name = NULL;
  CreateOptions values = { .image.fd = -1 };
  gboolean ok = banger_call_read (call, error, "s", &name)
                && banger_options_read (call->message, build_options, &values, error)
                && create (call, name, &values, "build-image", error);
  banger_options_clear (build_options, &values);
  return ok;
}

/* An empty path goes with the option fd. */
static gboolean
read_import (BangerCall *call, const char **ret_name, CreateOptions *ret, GError **error)
{
  const char *path = NULL;
  if (!banger_call_read (call, error, "ss", ret_name, &path)
      || !banger_options_read (call->message, import_options, ret, error))
    return FALSE;
  if (*path == '\0' && ret->image.fd < 0)
    return banger_set_error (error, BANGER_ERROR_INVALID_PATH, "image path is empty and there is no option 'fd'");
  ret->image.path = *path == '\0' ? NULL : g_strdup (path);
  return TRUE;
}

gboolean
banger_image_handle_import (BangerCall *call, gconstpointer data, GError **error)
{
  const char *name = NULL;
  CreateOptions values = { .image.fd = -1 };
  gboolean ok = read_import (call, &name, &values, error) && create (call, name, &values, "import-image", error);
  banger_options_clear (import_options, &values);
  g_free (values.image.path);
  return ok;
}

static const BangerProperty properties[] = {
  { "SizeBytes", 't', G_STRUCT_OFFSET (BangerImage, size_bytes), NULL },
  { "UsedBytes", 't', G_STRUCT_OFFSET (BangerImage, used_bytes), NULL },
  { NULL },
};

static int
get_property (sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
              void *userdata, sd_bus_error *ret_error)
{
  return banger_asset_property (&banger_image_class, properties, userdata, path, property, reply, ret_error);
}

const sd_bus_vtable banger_image_vtable[] = {
  SD_BUS_VTABLE_START (0),
  BANGER_ASSET_PROPERTIES (get_property),
  SD_BUS_PROPERTY ("SizeBytes", "t", get_property, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
  SD_BUS_PROPERTY ("UsedBytes", "t", get_property, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
  SD_BUS_VTABLE_END,
};

const BangerMember banger_image_members[] = { { "Delete", banger_asset_handle_delete_by_path, &banger_image_class },
                                              { NULL } };

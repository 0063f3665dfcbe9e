/* Images on the bus: properties, Delete, and the Manager's verbs on images.
 * Used by manager-dbus.c.
 * Never changes an image itself: image.c does. */
#include "manager/image-dbus.h"

#include "common/error.h"
#include "common/options.h"
#include "manager/image.h"
#include "manager/job-dbus.h"
#include "manager/property.h"

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

static void
create_done (GObject *source, GAsyncResult *result, gpointer data)
{
  BangerRun *run = data;
  g_autoptr (GError) error = NULL;
  banger_image_create_finish (NULL, result, &error);
  banger_run_end (run, error);
}

static gboolean
create (BangerCall *call, const char *name, const CreateOptions *values, const char *kind, GError **error)
{
  BangerImage *image = banger_image_add (banger_dispatch_manager (call->dispatch), name, &values->image, error);
  if (image == NULL)
    return FALSE;
  BangerRunSpec spec = {
    .kind = kind,
    .cancelable = TRUE,
    .wait = values->wait,
    .object_kind = BANGER_OBJECT_IMAGE,
    .object_id = image->id,
  };
  BangerRun *run = banger_run_new (call, &spec, error);
  if (run == NULL) {
    banger_image_drop (image);
    return FALSE;
  }
  banger_image_create_async (image, &values->image, banger_run_job (run), create_done, run);
  return TRUE;
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

static gboolean
handle_delete (BangerCall *call, BangerImage *image, GError **error)
{
  static const BangerOption none[] = { { NULL } };
  if (!banger_options_read (call->message, none, NULL, error) || !banger_image_delete (image, error))
    return FALSE;
  banger_call_reply (call, "");
  return TRUE;
}

static BangerImage *
find_by_name (BangerCall *call, GError **error)
{
  const char *name = NULL;
  if (!banger_call_read (call, error, "s", &name))
    return NULL;
  return banger_manager_find_image (banger_dispatch_manager (call->dispatch), name, error);
}

gboolean
banger_image_handle_delete (BangerCall *call, gconstpointer data, GError **error)
{
  BangerImage *image = find_by_name (call, error);
  return image != NULL && handle_delete (call, image, error);
}

gboolean
banger_image_handle_get (BangerCall *call, gconstpointer data, GError **error)
{
  BangerImage *image = find_by_name (call, error);
  if (image == NULL)
    return FALSE;
  banger_call_reply_path (call, BANGER_OBJECT_IMAGE, image->id);
  return TRUE;
}

static gboolean
handle_delete_by_path (BangerCall *call, gconstpointer data, GError **error)
{
  BangerImage *image = banger_dispatch_object (call->dispatch, BANGER_OBJECT_IMAGE,
                                               sd_bus_message_get_path (call->message));
  return handle_delete (call, image, error);
}

static const char *
state_word (int state)
{
  return banger_image_state_to_string ((BangerImageState)state);
}

#define FIELD(name, type, field)                                                                                       \
  {                                                                                                                    \
    name, type, G_STRUCT_OFFSET (BangerImage, field), NULL                                                             \
  }

static const BangerProperty properties[] = {
  FIELD ("Id", 's', id),
  FIELD ("Name", 's', name),
  { "State", 'w', G_STRUCT_OFFSET (BangerImage, state), state_word },
  FIELD ("SizeBytes", 't', size_bytes),
  FIELD ("UsedBytes", 't', used_bytes),
  FIELD ("Source", 's', source),
  FIELD ("Digest", 's', digest),
  FIELD ("CreatedAt", 't', created_at),
  { NULL },
};

static int
get_property (sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
              void *userdata, sd_bus_error *ret_error)
{
  BangerImage *image = banger_dispatch_object (userdata, BANGER_OBJECT_IMAGE, path);
  if (image == NULL)
    return sd_bus_error_setf (ret_error, SD_BUS_ERROR_UNKNOWN_OBJECT, "no image %s", path);
  return banger_property_append (reply, properties, property, image);
}

#define CONST SD_BUS_VTABLE_PROPERTY_CONST
#define CHANGES SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE

const sd_bus_vtable banger_image_vtable[] = {
  SD_BUS_VTABLE_START (0),
  SD_BUS_PROPERTY ("Id", "s", get_property, 0, CONST),
  SD_BUS_PROPERTY ("Name", "s", get_property, 0, CONST),
  SD_BUS_PROPERTY ("State", "s", get_property, 0, CHANGES),
  SD_BUS_PROPERTY ("SizeBytes", "t", get_property, 0, CHANGES),
  SD_BUS_PROPERTY ("UsedBytes", "t", get_property, 0, CHANGES),
  SD_BUS_PROPERTY ("Source", "s", get_property, 0, CONST),
  SD_BUS_PROPERTY ("Digest", "s", get_property, 0, CHANGES),
  SD_BUS_PROPERTY ("CreatedAt", "t", get_property, 0, CONST),
  SD_BUS_METHOD_WITH_ARGS ("Delete", SD_BUS_ARGS ("a{sv}", options), SD_BUS_NO_RESULT, banger_dispatch_call,
                           SD_BUS_VTABLE_UNPRIVILEGED),
  SD_BUS_VTABLE_END,
};

const BangerMember banger_image_members[] = { { "Delete", handle_delete_by_path, NULL }, { NULL } };

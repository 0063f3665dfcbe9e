/* Kernels on the bus: properties, Delete, and the Manager's verbs on kernels.
 * Used by manager-dbus.c.
 * Never changes a kernel itself: kernel.c does. */
#include "manager/kernel-dbus.h"

#include "common/error.h"
#include "common/options.h"
#include "manager/job-dbus.h"
#include "manager/kernel-import.h"
#include "manager/kernel.h"
#include "manager/property.h"

typedef struct {
  char *modules;
  gboolean wait;
} ImportOptions;

static const BangerOption import_options[] = {
  { "modules", BANGER_OPTION_STRING, G_STRUCT_OFFSET (ImportOptions, modules) },
  { "wait", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (ImportOptions, wait) },
  { NULL },
};

static void
import_done (GObject *source, GAsyncResult *result, gpointer data)
{
  BangerRun *run = data;
  g_autoptr (GError) error = NULL;
  banger_kernel_create_finish (NULL, result, &error);
  banger_run_end (run, error);
}

static gboolean
import (BangerCall *call, const char *name, const char *source, const ImportOptions *values, GError **error)
{
  BangerManager *manager = banger_dispatch_manager (call->dispatch);
  if (values->modules != NULL && !g_path_is_absolute (values->modules))
    return banger_set_error (error, BANGER_ERROR_INVALID_PATH, "modules directory \"%s\" is not an absolute path",
                             values->modules);
  BangerKernel *kernel = banger_kernel_add (manager, name, source, error);
  if (kernel == NULL)
    return FALSE;
  BangerRunSpec spec = {
    .kind = "import-kernel",
    .cancelable = TRUE,
    .wait = values->wait,
    .object_kind = BANGER_OBJECT_KERNEL,
    .object_id = kernel->id,
  };
  BangerRun *run = banger_run_new (call, &spec, error);
  if (run == NULL) {
    banger_kernel_drop (kernel);
    return FALSE;
  }
  banger_kernel_create_async (kernel, values->modules, banger_run_job (run), import_done, run);
  return TRUE;
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

static gboolean
handle_delete (BangerCall *call, BangerKernel *kernel, GError **error)
{
  static const BangerOption none[] = { { NULL } };
  if (!banger_options_read (call->message, none, NULL, error) || !banger_kernel_delete (kernel, error))
    return FALSE;
  banger_call_reply (call, "");
  return TRUE;
}

static BangerKernel *
find_by_name (BangerCall *call, GError **error)
{
  const char *name = NULL;
  if (!banger_call_read (call, error, "s", &name))
    return NULL;
  return banger_manager_find_kernel (banger_dispatch_manager (call->dispatch), name, error);
}

gboolean
banger_kernel_handle_delete (BangerCall *call, gconstpointer data, GError **error)
{
  BangerKernel *kernel = find_by_name (call, error);
  return kernel != NULL && handle_delete (call, kernel, error);
}

gboolean
banger_kernel_handle_get (BangerCall *call, gconstpointer data, GError **error)
{
  BangerKernel *kernel = find_by_name (call, error);
  if (kernel == NULL)
    return FALSE;
  banger_call_reply_path (call, BANGER_OBJECT_KERNEL, kernel->id);
  return TRUE;
}

static gboolean
handle_delete_by_path (BangerCall *call, gconstpointer data, GError **error)
{
  BangerKernel *kernel = banger_dispatch_object (call->dispatch, BANGER_OBJECT_KERNEL,
                                                 sd_bus_message_get_path (call->message));
  return handle_delete (call, kernel, error);
}

static const char *
state_word (int state)
{
  return banger_kernel_state_to_string ((BangerKernelState)state);
}

#define FIELD(name, type, field)                                                                                       \
  {                                                                                                                    \
    name, type, G_STRUCT_OFFSET (BangerKernel, field), NULL                                                            \
  }

static const BangerProperty properties[] = {
  FIELD ("Id", 's', id),
  FIELD ("Name", 's', name),
  { "State", 'w', G_STRUCT_OFFSET (BangerKernel, state), state_word },
  FIELD ("Version", 's', version),
  FIELD ("Source", 's', source),
  FIELD ("Digest", 's', digest),
  FIELD ("CreatedAt", 't', created_at),
  { NULL },
};

static int
get_property (sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
              void *userdata, sd_bus_error *ret_error)
{
  BangerKernel *kernel = banger_dispatch_object (userdata, BANGER_OBJECT_KERNEL, path);
  if (kernel == NULL)
    return sd_bus_error_setf (ret_error, SD_BUS_ERROR_UNKNOWN_OBJECT, "no kernel %s", path);
  return banger_property_append (reply, properties, property, kernel);
}

#define CONST SD_BUS_VTABLE_PROPERTY_CONST
#define CHANGES SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE

const sd_bus_vtable banger_kernel_vtable[] = {
  SD_BUS_VTABLE_START (0),
  SD_BUS_PROPERTY ("Id", "s", get_property, 0, CONST),
  SD_BUS_PROPERTY ("Name", "s", get_property, 0, CONST),
  SD_BUS_PROPERTY ("State", "s", get_property, 0, CHANGES),
  SD_BUS_PROPERTY ("Version", "s", get_property, 0, CHANGES),
  SD_BUS_PROPERTY ("Source", "s", get_property, 0, CONST),
  SD_BUS_PROPERTY ("Digest", "s", get_property, 0, CHANGES),
  SD_BUS_PROPERTY ("CreatedAt", "t", get_property, 0, CONST),
  SD_BUS_METHOD_WITH_ARGS ("Delete", SD_BUS_ARGS ("a{sv}", options), SD_BUS_NO_RESULT, banger_dispatch_call,
                           SD_BUS_VTABLE_UNPRIVILEGED),
  SD_BUS_VTABLE_END,
};

const BangerMember banger_kernel_members[] = { { "Delete", handle_delete_by_path, NULL }, { NULL } };

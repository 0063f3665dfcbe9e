/* Images on the bus: their own properties, BuildImage, ImportImage, CommitImage, VerifyImage, WarmImage, PruneImageCache.
 * Never changes an image itself: image.c does. */
#include "manager/bus/image-dbus.h"

#include "common/error.h"
#include "common/fd.h"
#include "common/options.h"
#include "manager/bus/asset-dbus.h"
#include "manager/bus/follow.h"
#include "manager/bus/job-dbus.h"
#include "manager/core/promote.h"
#include "manager/core/work.h"
#include "manager/fetch/blobs.h"
#include "manager/image/export.h"
#include "manager/image/image.h"
#include "manager/image/sources.h"
#include "manager/image/verify.h"
#include "manager/template/templates.h"

typedef struct {
  char *suite, *mirror, *path;
  char *containerfile, *context;
  char **packages;
  int fd;
  guint64 size_bytes;
  gboolean link, wait;
} CreateOptions;

#define OPTION_SIZE                                                                                                    \
  {                                                                                                                    \
    "size-bytes", BANGER_OPTION_UINT64, G_STRUCT_OFFSET (CreateOptions, size_bytes)                                    \
  }
#define OPTION_WAIT                                                                                                    \
  {                                                                                                                    \
    "wait", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (CreateOptions, wait)                                                  \
  }

static const BangerOption build_options[] = {
  { "suite", BANGER_OPTION_STRING, G_STRUCT_OFFSET (CreateOptions, suite) },
  { "mirror", BANGER_OPTION_STRING, G_STRUCT_OFFSET (CreateOptions, mirror) },
  { "packages", BANGER_OPTION_STRV, G_STRUCT_OFFSET (CreateOptions, packages) },
  { "containerfile", BANGER_OPTION_PATH, G_STRUCT_OFFSET (CreateOptions, containerfile) },
  { "context", BANGER_OPTION_PATH, G_STRUCT_OFFSET (CreateOptions, context) },
  OPTION_SIZE,
  OPTION_WAIT,
  { NULL },
};
static const BangerOption import_options[] = {
  { "fd", BANGER_OPTION_FD, G_STRUCT_OFFSET (CreateOptions, fd) },
  { "path-bytes", BANGER_OPTION_PATH, G_STRUCT_OFFSET (CreateOptions, path) },
  { "link", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (CreateOptions, link) },
  OPTION_SIZE,
  OPTION_WAIT,
  { NULL },
};

static gboolean
check_build (const CreateOptions *values, GError **error)
{
  if (!values->containerfile != !values->context)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "options 'containerfile' and 'context' need each other");
  return !values->containerfile || (!values->suite && !values->mirror && !values->packages)
         || banger_set_error (error, BANGER_ERROR_INVALID_ARGS,
                              "options 'suite', 'mirror' and 'packages' are of Debian, not of a Containerfile");
}

gboolean
banger_image_handle_build (BangerRequest *request, gconstpointer data, GError **error)
{
  BangerAssetCreation creation = { &banger_image_class, "build-image" };
  CreateOptions values = { 0 };
  gboolean ok = banger_request_read (request, error, "s", &creation.name)
                && banger_options_read (request->message, build_options, &values, error)
                && check_build (&values, error);
  if (ok) {
    BangerImageSource *image = banger_source_new (&banger_image_sources);
    if (values.containerfile)
      banger_source_choose (&image->source, BANGER_IMAGE_SOURCE_CONTAINERFILE, values.containerfile);
    else
      banger_source_choose (&image->source, BANGER_IMAGE_SOURCE_DEBIAN, values.suite);
    image->context = g_steal_pointer (&values.context);
    image->mirror = g_steal_pointer (&values.mirror);
    image->packages = g_steal_pointer (&values.packages);
    image->size_bytes = values.size_bytes;
    creation.wait = values.wait;
    ok = banger_asset_create (request, &creation, &image->source, error);
  }
  banger_options_clear (build_options, &values);
  return ok;
}

/* An empty path goes with the option fd or path-bytes. */
static gboolean
check_import (const char *path, const CreateOptions *values, GError **error)
{
  if (*path != '\0' && values->path)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "image: give a path or 'path-bytes', not both");
  if (*path == '\0' && !values->path && values->fd < 0)
    return banger_set_error (error, BANGER_ERROR_INVALID_PATH, "image path is empty and there is no option 'fd'");
  if ((*path != '\0' || values->path) && values->fd >= 0)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "image: give a path or a descriptor, not both");
  if (values->link && (!g_path_is_absolute (values->path ? values->path : path) || values->size_bytes != 0))
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS,
                             "image: 'link' is of an ext4 file, by its path, which keeps its size");
  return TRUE;
}

gboolean
banger_image_handle_import (BangerRequest *request, gconstpointer data, GError **error)
{
  BangerAssetCreation creation = { &banger_image_class, "import-image" };
  CreateOptions values = { .fd = -1 };
  const char *path = NULL;
  gboolean ok = banger_request_read (request, error, "ss", &creation.name, &path)
                && banger_options_read (request->message, import_options, &values, error)
                && check_import (path, &values, error);
  if (ok) {
    BangerImageSource *image = banger_source_new (&banger_image_sources);
    if (values.fd >= 0)
      banger_source_choose (&image->source, BANGER_SOURCE_STREAM, NULL);
    else
      banger_source_choose_text (&image->source, values.path ? values.path : path);
    image->catalogs = g_ptr_array_ref (banger_objects_manager (request->objects)->config->catalogs);
    image->source.fd = banger_steal_fd (&values.fd);
    image->size_bytes = values.size_bytes;
    image->link = values.link;
    creation.wait = values.wait;
    ok = banger_asset_create (request, &creation, &image->source, error);
  }
  banger_options_clear (import_options, &values);
  return ok;
}

/* The disks of a VM */

typedef struct {
  BangerRequest *request;
  BangerAssetCreation creation;
  BangerVm *vm;
} Commit;

static void
on_held (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autofree Commit *commit = data;
  g_autoptr (BangerVm) vm = commit->vm;
  g_autoptr (GError) error = NULL;
  BangerVmHold *hold = banger_vm_hold_finish (result, &error);
  if (!hold) {
    banger_request_fail (commit->request, error);
    return;
  }
  const BangerVmDisks *disks = banger_vm_hold_disks (hold);
  const BangerImage *from = banger_manager_image_of (banger_objects_manager (commit->request->objects), vm);
  BangerImageSource *image = banger_source_new (&banger_image_sources);
  banger_source_choose (&image->source, BANGER_IMAGE_SOURCE_VM, banger_vm_record (vm)->name);
  image->disks = (BangerImageDisks){ disks->root_fd, disks->cow_fd, disks->work_fd };
  image->let_go = (GDestroyNotify)banger_vm_hold_free;
  image->held = hold;
  if (from)
    banger_image_settings (from, image->settings);
  if (!banger_asset_create (commit->request, &commit->creation, &image->source, &error))
    banger_request_fail (commit->request, error);
}

/* What cannot be is said before anything is opened. */
gboolean
banger_image_handle_commit (BangerRequest *request, gconstpointer data, GError **error)
{
  static const BangerOption options[] = { { "wait", BANGER_OPTION_BOOL, 0 }, { NULL } };
  BangerManager *manager = banger_objects_manager (request->objects);
  BangerAssetCreation creation = { &banger_image_class, "commit-image" };
  const char *name = NULL;
  if (!banger_request_read (request, error, "ss", &creation.name, &name)
      || !banger_options_read (request->message, options, &creation.wait, error)
      || !banger_asset_check_name (manager->images, creation.name, error))
    return FALSE;
  BangerVm *vm = banger_vms_find (manager->vms, name, error);
  if (!vm)
    return FALSE;
  Commit *commit = g_new0 (Commit, 1);
  *commit = (Commit){ request, creation, banger_vm_ref (vm) };
  const BangerJobSpec spec = banger_request_job_spec (request, creation.kind, TRUE);
  const BangerCaller caller = { spec.op_id, spec.interactive };
  banger_vm_hold_async (vm, &caller, on_held, commit);
  return TRUE;
}

static void
on_verified (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GError) error = NULL;
  if (banger_image_verify_finish (result, &error))
    banger_request_reply (data, "");
  else
    banger_request_fail (data, error);
}

gboolean
banger_image_handle_verify (BangerRequest *request, gconstpointer data, GError **error)
{
  const char *name = NULL;
  int fd = -1;
  if (!banger_request_read (request, error, "s", &name) || !banger_request_no_options (request, error))
    return FALSE;
  const BangerImage *image = banger_asset_find_ready (banger_objects_manager (request->objects)->images, name, &fd,
                                                      error);
  if (image)
    banger_image_verify_async (image, fd, on_verified, request);
  return image != NULL;
}

typedef struct {
  char *format;
  int fd;
  gboolean wait;
} ExportOptions;

static const BangerOption export_options[] = {
  { "fd", BANGER_OPTION_FD, G_STRUCT_OFFSET (ExportOptions, fd) },
  { "format", BANGER_OPTION_STRING, G_STRUCT_OFFSET (ExportOptions, format) },
  { "wait", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (ExportOptions, wait) },
  { NULL },
};

static gboolean export(BangerRequest *request, const char *name, ExportOptions *values, GError **error)
{
  BangerManager *manager = banger_objects_manager (request->objects);
  banger_autofd int dir_fd = -1;
  const BangerImage *image = banger_asset_find_ready (manager->images, name, &dir_fd, error);
  if (!image || !banger_image_export_check (values->format, values->fd, error))
    return FALSE;
  const BangerJobSpec spec = banger_request_job_spec (request, "export-image", TRUE);
  BangerJob *job = banger_image_export_job_new (image, dir_fd, values->fd, values->format, manager->jobs, &spec, error);
  if (!job)
    return FALSE;
  (void)banger_steal_fd (&dir_fd);
  (void)banger_steal_fd (&values->fd);
  banger_request_begin (request, job, values->wait);
  return TRUE;
}

static gboolean
read_export (BangerRequest *request, const char *name, GError **error)
{
  ExportOptions values = { .fd = -1 };
  gboolean ok = banger_options_read (request->message, export_options, &values, error)
                && export(request, name, &values, error);
  banger_options_clear (export_options, &values);
  return ok;
}

gboolean
banger_image_handle_export (BangerRequest *request, gconstpointer data, GError **error)
{
  const char *name = NULL;
  return banger_request_read (request, error, "s", &name) && read_export (request, name, error);
}

static gboolean
handle_export_by_path (BangerRequest *request, gconstpointer data, GError **error)
{
  const BangerAsset *image = banger_objects_find (request->objects, BANGER_OBJECT_IMAGE,
                                                  sd_bus_message_get_path (request->message));
  return read_export (request, image->id, error);
}

/* Templates. */

typedef struct {
  char *kernel;
  guint32 vcpus, memory_mib;
  guint64 disk_bytes;
  gboolean wait;
} WarmOptions;

static const BangerOption warm_options[] = {
  { "kernel", BANGER_OPTION_STRING, G_STRUCT_OFFSET (WarmOptions, kernel) },
  { "vcpu", BANGER_OPTION_UINT32, G_STRUCT_OFFSET (WarmOptions, vcpus) },
  { "memory-mib", BANGER_OPTION_UINT32, G_STRUCT_OFFSET (WarmOptions, memory_mib) },
  { "disk-bytes", BANGER_OPTION_UINT64, G_STRUCT_OFFSET (WarmOptions, disk_bytes) },
  { "wait", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (WarmOptions, wait) },
  { NULL },
};

/* Its VM goes with us: by our own name on the bus, which nobody has again. */
static gboolean
warm (BangerRequest *request, const char *name, const WarmOptions *values, GError **error)
{
  BangerManager *manager = banger_objects_manager (request->objects);
  int fd = -1;
  const BangerAsset *image = banger_asset_find_ready (manager->images, name, &fd, error);
  banger_clear_fd (&fd);
  if (!image)
    return FALSE;
  const BangerVmSpec spec = {
    .image = image->id,
    .kernel = values->kernel,
    .vcpus = values->vcpus,
    .memory_mib = values->memory_mib,
    .disk_bytes = values->disk_bytes,
    .client = manager->client,
  };
  const BangerJobSpec job_spec = banger_request_job_spec (request, "warm-image", TRUE);
  BangerJob *job = banger_templates_job_new (manager->templates, manager->vms, manager->vms_fd, &spec, FALSE,
                                             manager->jobs, &job_spec, error);
  if (job)
    banger_request_begin (request, job, values->wait);
  return job != NULL;
}

gboolean
banger_image_handle_warm (BangerRequest *request, gconstpointer data, GError **error)
{
  const char *name = NULL;
  WarmOptions values = { 0 };
  gboolean ok = banger_request_read (request, error, "s", &name)
                && banger_options_read (request->message, warm_options, &values, error)
                && warm (request, name, &values, error);
  banger_options_clear (warm_options, &values);
  return ok;
}

static int
append_templates (sd_bus_message *reply, BangerObjects *objects, gpointer data)
{
  const BangerAsset *image = data;
  BangerTemplates *templates = banger_objects_manager (objects)->templates;
  g_autoptr (GPtrArray) of = templates ? banger_templates_of (templates, image->id) : g_ptr_array_new ();
  int r = sd_bus_message_open_container (reply, 'a', "(suutttt)");
  for (guint i = 0; r >= 0 && i < of->len; i++) {
    const BangerTemplate *template = of->pdata[i];
    r = sd_bus_message_append (reply, "(suutttt)", template->id, template->vcpus, template->memory_mib,
                               template->disk_bytes, template->size_bytes, template->created_at, template->used_at);
  }
  return r < 0 ? r : sd_bus_message_close_container (reply);
}

/* The one that VMs are made from which are not told otherwise */

static void
on_promoted (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *old = NULL;
  if (banger_asset_promote_finish (result, &old, &error))
    banger_request_reply (data, "s", old ? old : "");
  else
    banger_request_fail (data, error);
}

gboolean
banger_image_handle_promote (BangerRequest *request, gconstpointer data, GError **error)
{
  const char *name = NULL;
  const BangerManager *manager = banger_objects_manager (request->objects);
  const char *wanted = manager->config->image;
  if (!banger_request_read (request, error, "s", &name) || !banger_request_no_options (request, error))
    return FALSE;
  BangerAsset *image = banger_asset_find (manager->images, name, error);
  if (!image)
    return FALSE;
  if (wanted && !g_str_equal (wanted, BANGER_DEFAULT_NAME))
    return banger_set_error (error, BANGER_ERROR_NOT_SUPPORTED,
                             "config.toml says that VMs are made from \"%s\": say \"%s\" there (vm_defaults.image)",
                             wanted, image->name);
  banger_asset_promote_async (image, BANGER_DEFAULT_NAME, on_promoted, request);
  return TRUE;
}

const BangerProperty banger_image_properties[] = {
  { "Templates", "a(suutttt)", TRUE, append_templates },
  { NULL },
};

/* The cache of blobs */

typedef struct {
  int images_fd; /* the manager's */
  gboolean dry_run;
  guint64 bytes, blobs;
} Prune;

static gboolean
prune (gpointer data, GCancellable *cancellable, GError **error)
{
  Prune *self = data;
  return banger_blobs_prune (self->images_fd, self->dry_run, &self->bytes, &self->blobs, error);
}

static void
on_pruned (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GError) error = NULL;
  const Prune *self = banger_work_data (result);
  if (banger_work_finish (result, &error))
    banger_request_reply (data, "tt", self->bytes, self->blobs);
  else
    banger_request_fail (data, error);
}

gboolean
banger_image_handle_prune (BangerRequest *request, gconstpointer data, GError **error)
{
  static const BangerOption options[] = { { "dry-run", BANGER_OPTION_BOOL, 0 }, { NULL } };
  gboolean dry_run = FALSE;
  if (!banger_options_read (request->message, options, &dry_run, error))
    return FALSE;
  static const BangerWork pruning = { "prune-images", prune, NULL, g_free };
  Prune *self = g_new0 (Prune, 1);
  self->images_fd = banger_objects_manager (request->objects)->images_fd;
  self->dry_run = dry_run;
  banger_work_async (&pruning, self, NULL, on_pruned, request);
  return TRUE;
}

const BangerMember banger_image_members[] = {
  BANGER_ASSET_MEMBERS (&banger_image_class),
  { "Export", "a{sv}", "o", "options\0job\0", handle_export_by_path, NULL },
  { "Tag", "sa{sv}", "", "tag\0options\0", banger_asset_handle_tag_by_path, &banger_image_class },
  { NULL },
};

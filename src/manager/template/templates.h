/* Templates: guests that have booted once, and from which others are restored. A table of records, bound by bytes.
 * Never believes one that anything else made than what would make it now, and never keeps one that is not whole. */
#pragma once

#include <gio/gio.h>

#include "manager/core/record.h"
#include "manager/peer/helper.h"
#include "manager/vm/vm.h"

typedef struct BangerTemplates BangerTemplates;

/* What record.json holds: all that made it, then the guest. Strings are never NULL. */
typedef struct {
  char *id;
  char *image_id, *image_digest, *kernel_id, *kernel_digest;
  guint32 vcpus, memory_mib;
  guint64 disk_bytes; /* of the work disk, 0: the image has none */
  char *engine;       /* as the helper calls it, and whether its guests are emulated */
  char *processor, *boot_args, *version;
  char *programs; /* stamp of the VMMs and the guest's agent */
  char *files;    /* stamp of what is in its folder */
  char *root;     /* "snapshot": its root disk is the helper's; "file" */
  guint64 size_bytes;
  guint64 created_at, used_at; /* µs since the epoch */
  int dir_fd;                  /* its folder, -1 until it is whole */
} BangerTemplate;

/* What the table asks of the house, and tells it. */
typedef struct {
  /* Image and kernel with their digests, for a VM of @record: %FALSE: there can be no template for it. */
  gboolean (*describe) (const BangerVmRecord *record, BangerTemplate *ret, gpointer user_data);
  /* Whether image and kernel are as they were. */
  gboolean (*is_current) (const BangerTemplate *template, gpointer user_data);
  guint64 (*budget) (gpointer user_data);     /* bytes */
  gboolean (*automatic) (gpointer user_data); /* whether they are made without being asked for now */
  /* A job that makes one, which is still to begin; (transfer none). */
  BangerJob *(*make) (const BangerVmSpec *spec, gpointer user_data, GError **error);
  void (*changed) (const char *image_id, gpointer user_data); /* that has other templates now */
} BangerTemplatesHouse;

/** banger_templates_new: @house: static; gets @user_data. @install, @helper, @writer, @dir_fd (their folder): borrowed.
 * What is half-made there, or of another banger or processor, goes. */
BangerTemplates *banger_templates_new (const BangerInstall *install, BangerHelper *helper, BangerWriter *writer,
                                       int dir_fd, const BangerTemplatesHouse *house, gpointer user_data,
                                       GError **error);
void banger_templates_free (BangerTemplates *templates);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerTemplates, banger_templates_free)

/** banger_templates_find: the one that a VM of @record may be restored from. */
gboolean banger_templates_find (BangerTemplates *templates, const BangerVmRecord *record, BangerVmTemplate *ret);
/** banger_templates_ended: a guest was restored from it; or @why (nullable) it is not good for that: then it goes. */
void banger_templates_ended (BangerTemplates *templates, const char *id, const char *why);
/** banger_templates_booted: a VM of @record was booted: what spares the next one that is made when it is quiet. */
void banger_templates_booted (BangerTemplates *templates, const BangerVmRecord *record);
/** banger_templates_job_begun, banger_templates_job_ended: of every job, whoever's, for that. */
void banger_templates_job_begun (BangerTemplates *templates, const BangerJob *job);
void banger_templates_job_ended (BangerTemplates *templates, const BangerJob *job);
/** banger_templates_of: Returns: (transfer container): BangerTemplate const *, of that image, the oldest first. */
GPtrArray *banger_templates_of (BangerTemplates *templates, const char *image_id);
/** banger_templates_drop_of: all that are of that image or kernel, which is gone. */
void banger_templates_drop_of (BangerTemplates *templates, const char *id);
/** banger_templates_fit: the least recently used go until the budget holds. */
void banger_templates_fit (BangerTemplates *templates);

/**
 * banger_templates_job_new:
 * Returns: as banger_job_new(): the job that makes the template for VMs like @vm, unless it is there: by a VM of its own,
 * that is gone afterwards.
 * @vms_fd: the folder of VMs. @vm: its image by id. @idle: with the least priority. @spec: who asked.
 */
BangerJob *banger_templates_job_new (BangerTemplates *templates, BangerVms *vms, int vms_fd, const BangerVmSpec *vm,
                                     gboolean idle, BangerJobs *jobs, const BangerJobSpec *spec, GError **error);

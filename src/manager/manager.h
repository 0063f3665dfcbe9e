/* The daemon object: install metadata, directories by descriptor, tables of VMs, images, kernels and jobs.
 * Made by main.c; used by every domain file and by the bus side.
 * Never knows D-Bus: manager-dbus.c observes it. */
#pragma once

#include <gio/gio.h>

#include "common/config.h"
#include "common/install.h"
#include "manager/core/job.h"
#include "manager/core/object.h"
#include "manager/core/writer.h"
#include "manager/image/image.h"
#include "manager/kernel/kernel.h"
#include "manager/snapshot/snapshots.h"
#include "manager/template/templates.h"
#include "manager/vm/processes.h"

typedef struct BangerSshConfig BangerSshConfig; /* ssh-config.h */
typedef struct BangerNames BangerNames;         /* names.h */

/* What the bus side hears; every call in the main thread. */
typedef struct {
  void (*added) (BangerObjectKind kind, const char *id, gpointer user_data);
  void (*removed) (BangerObjectKind kind, const char *id, gpointer user_data);
  /* @properties: NULL-terminated names, one call per transition. */
  void (*changed) (BangerObjectKind kind, const char *id, const char *const *properties, gpointer user_data);
  void (*job_new) (BangerJob *job, gpointer user_data);
  void (*job_finished) (BangerJob *job, gpointer user_data);
  void (*process_ended) (BangerProcess *process, gpointer user_data);
  void (*helper_changed) (gboolean available, gpointer user_data);
  void (*config_changed) (gpointer user_data);
} BangerManagerObserver;

typedef struct BangerManager BangerManager;

struct BangerManager {
  BangerInstall *install;
  BangerConfig *config; /* never NULL; another one after each reload */
  int state_fd;         /* <state>/<uid> */
  int vms_fd;           /* <state>/<uid>/vms */
  int images_fd;        /* <state>/<uid>/images */
  int kernels_fd;       /* <state>/<uid>/kernels */
  int templates_fd;     /* <state>/<uid>/templates */
  int snapshots_fd;     /* <state>/<uid>/snapshots */
  char *state_path;
  char *runtime_path;

  BangerWriter *writer;
  BangerVms *vms;             /* NULL until banger_manager_load() */
  BangerTemplates *templates; /* likewise */
  BangerSnapshots *snapshots; /* likewise */
  BangerAssets *images, *kernels;
  BangerJobs *jobs;
  BangerProcesses *processes;

  BangerHelper *helper;
  BangerNames *names;          /* likewise */
  BangerSshConfig *ssh_config; /* likewise */
  guint helper_notify;
  char *client;         /* what a record says of a VM that goes with us; NULL: there is no bus yet */
  GPtrArray *set_aside; /* char *: folders of unreadable records, for doctor */

  const BangerManagerObserver *observer; /* may be NULL */
  gpointer observer_data;
};

/**
 * banger_manager_new:
 * Checks that this process is @install's owner and not root, opens (and makes, 0700) the owner's directories.
 * @install: (transfer full).
 */
BangerManager *banger_manager_new (BangerInstall *install, GError **error);

/**
 * banger_manager_load:
 * Reads all records, removes half-made images and kernels, sets unreadable records aside, connects to the helper.
 */
gboolean banger_manager_load (BangerManager *manager, GError **error);

/** banger_manager_reconcile: holds the VMs against the helper's leases, in the background; verbs on VMs wait for its
 * end. @looked: see banger_vms_reconcile(). */
void banger_manager_reconcile (BangerManager *manager, GSourceFunc looked, gpointer looked_data);

/**
 * banger_manager_reload_async:
 * Reads the owner's config.toml again, in a worker. What is wrong in it is kept for the doctor and in the log; of a file
 * that is none nothing is used, and what was read before holds on. VMs that there are do not change.
 */
void banger_manager_reload_async (BangerManager *manager, GAsyncReadyCallback callback, gpointer user_data);
/** banger_manager_reload_finish: afterwards @manager->config is the new one. */
gboolean banger_manager_reload_finish (GAsyncResult *result, GError **error);

/**
 * banger_manager_end_jobs:
 * Before the daemon goes: takes no new job and asks every running one that can be cancelled to end. Call it again until
 * nothing is left: what cannot be cancelled now may be at its next stage.
 * Returns: how many jobs and deletions are still running.
 */
guint banger_manager_end_jobs (BangerManager *manager);

void banger_manager_free (BangerManager *manager);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerManager, banger_manager_free)

/** banger_manager_assets: Returns: (transfer none): the table of @class. */
BangerAssets *banger_manager_assets (BangerManager *manager, const BangerAssetClass *class);
/** banger_manager_image_of: Returns: (transfer none) (nullable): what @vm was made from. */
const BangerImage *banger_manager_image_of (BangerManager *manager, BangerVm *vm);

/* The image and the kernel of a VM for which none is named. */
#define BANGER_DEFAULT_NAME "default"

/* The daemon object: install metadata, directories by descriptor, tables of VMs, images, kernels and jobs.
 * Made by main.c; used by every domain file and by the bus side.
 * Never knows D-Bus: manager-dbus.c observes it. */
#pragma once

#include <gio/gio.h>

#include "common/install.h"
#include "manager/image.h"
#include "manager/job.h"
#include "manager/kernel.h"
#include "manager/object.h"

typedef struct BangerVms BangerVms;       /* vm.h */
typedef struct BangerHelper BangerHelper; /* helper-client.h */

/* What the bus side hears; every call in the main thread. */
typedef struct {
  void (*added) (BangerObjectKind kind, const char *id, gpointer user_data);
  void (*removed) (BangerObjectKind kind, const char *id, gpointer user_data);
  /* @properties: NULL-terminated names, one call per transition. */
  void (*changed) (BangerObjectKind kind, const char *id, const char *const *properties, gpointer user_data);
  void (*job_new) (BangerJob *job, gpointer user_data);
  void (*job_finished) (BangerJob *job, gpointer user_data);
  void (*helper_changed) (gboolean available, gpointer user_data);
} BangerManagerObserver;

struct BangerManager {
  BangerInstall *install;
  int state_fd;   /* <state>/<uid> */
  int vms_fd;     /* <state>/<uid>/vms */
  int images_fd;  /* <state>/<uid>/images */
  int kernels_fd; /* <state>/<uid>/kernels */
  char *state_path;
  char *runtime_path;

  BangerVms *vms;      /* NULL until banger_manager_load() */
  GHashTable *images;  /* id -> BangerImage * */
  GHashTable *kernels; /* id -> BangerKernel * */
  GHashTable *jobs;    /* id -> BangerJob * */
  gboolean ending;     /* no new job is taken */

  BangerHelper *helper;
  guint helper_notify;
  GPtrArray *set_aside; /* char *: what unreadable records were renamed to, for doctor */

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
 * end. */
void banger_manager_reconcile (BangerManager *manager);

/**
 * banger_manager_end_jobs:
 * Before the daemon goes: takes no new job and asks every running one that can be cancelled to end. Call it again until
 * nothing is left: what cannot be cancelled now may be at its next stage.
 * Returns: how many jobs are still running.
 */
guint banger_manager_end_jobs (BangerManager *manager);

void banger_manager_free (BangerManager *manager);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerManager, banger_manager_free)

/* Announcing: domain files call these after the table is as announced. */
void banger_manager_added (BangerManager *manager, BangerObjectKind kind, const char *id);
void banger_manager_removed (BangerManager *manager, BangerObjectKind kind, const char *id);
void banger_manager_changed (BangerManager *manager, BangerObjectKind kind, const char *id,
                             const char *const *properties);
#define BANGER_PROPERTIES(...) ((const char *const[]){ __VA_ARGS__, NULL })

/** banger_manager_set_aside: renames the directory of an image's or kernel's unreadable record, logs it, remembers it
 * for doctor. */
void banger_manager_set_aside (BangerManager *manager, BangerObjectKind kind, const char *id, const GError *why);

/** banger_manager_users_of: Returns: (transfer full): names of the VMs made from that image or kernel, "a, b"; %NULL if
 * none. */
char *banger_manager_users_of (BangerManager *manager, const char *image_or_kernel_id);

/* The image and the kernel of a VM for which none is named. */
#define BANGER_DEFAULT_NAME "default"

/* What images and kernels have in common: a record in a directory of its own, and files there that a job makes.
 * Used by image.c, kernel.c, their sides on the bus, and manager.c on behalf of vm.c.
 * Never knows D-Bus, nor what the files are. */
#pragma once

#include <gio/gio.h>

#include "manager/job.h"
#include "manager/object.h"
#include "manager/record.h"

typedef enum {
  BANGER_ASSET_MAKING,
  BANGER_ASSET_READY,
  BANGER_N_ASSET_STATES,
} BangerAssetState;

typedef struct {
  BangerObjectKind object;
  const char *kind;   /* "image": of the record, in messages */
  const char *a_kind; /* "an image" */
  size_t size;        /* of the structure that begins with a BangerAsset */
  const BangerRecordField *fields;
  const char *const *states;     /* words for BangerAssetState */
  const char *making;            /* "being built" */
  const char *hint;              /* how to get one */
  int exists, missing;           /* of BangerError: the name is taken, there is none */
  const char *const *properties; /* that are other ones once it is made */
} BangerAssetClass;

/* Begins a BangerImage or a BangerKernel. Strings are never NULL; "" is not known yet. */
typedef struct {
  const BangerAssetClass *class;
  BangerManager *manager;
  char *id;
  char *name;
  int state;          /* BangerAssetState */
  char *source;       /* what it was made from, for people */
  char *digest;       /* "sha256:..." of its main file */
  guint64 created_at; /* µs since the epoch */
} BangerAsset;

/** banger_asset_set_string: @where, a string of an asset, becomes a copy of @value; "" for %NULL. */
void banger_asset_set_string (char **where, const char *value);

#define BANGER_ASSET_FIELDS(class_states)                                                                              \
  { "id", BANGER_RECORD_STRING, G_STRUCT_OFFSET (BangerAsset, id), NULL, TRUE },                                       \
      { "name", BANGER_RECORD_STRING, G_STRUCT_OFFSET (BangerAsset, name), NULL, TRUE },                               \
      { "state", BANGER_RECORD_WORD, G_STRUCT_OFFSET (BangerAsset, state), class_states, TRUE },                       \
      { "source", BANGER_RECORD_STRING, G_STRUCT_OFFSET (BangerAsset, source) },                                       \
      { "digest", BANGER_RECORD_STRING, G_STRUCT_OFFSET (BangerAsset, digest) },                                       \
  {                                                                                                                    \
    "created-at", BANGER_RECORD_UINT64, G_STRUCT_OFFSET (BangerAsset, created_at)                                      \
  }

/** banger_asset_table_new: Returns: (transfer full): id -> asset, owned by the table. */
GHashTable *banger_asset_table_new (void);

/** banger_asset_load_all: fills the manager's table; half-made ones are removed, unreadable ones set aside. */
gboolean banger_asset_load_all (const BangerAssetClass *class, BangerManager *manager, GError **error);

/** banger_asset_find: by name, or by id where none has that name. NULL with class->missing naming the value. */
gpointer banger_asset_find (const BangerAssetClass *class, BangerManager *manager, const char *name, GError **error);

/** banger_asset_find_ready: as above; WrongState while it is being made. @ret_dir_fd: (transfer full): its directory.
 */
gpointer banger_asset_find_ready (const BangerAssetClass *class, BangerManager *manager, const char *name,
                                  int *ret_dir_fd, GError **error);

/** banger_asset_check_name: whether a new one may be called that. */
gboolean banger_asset_check_name (const BangerAssetClass *class, BangerManager *manager, const char *name,
                                  GError **error);

/**
 * banger_asset_add:
 * Writes the record of a new one (with a name that was checked) and puts it into the table. Its files are made by
 * banger_asset_make_async(); if that cannot be called, undo with banger_asset_drop().
 */
gpointer banger_asset_add (const BangerAssetClass *class, BangerManager *manager, const char *name, const char *source,
                           GError **error);
void banger_asset_drop (BangerAsset *asset);

/* What one is made with. */
typedef struct {
  /* In a thread: makes the files in the directory @dir_fd. */
  gboolean (*make) (gpointer work, int dir_fd, BangerJobProgress *progress, GCancellable *cancellable, GError **error);
  void (*take) (gpointer asset, gpointer work); /* what was found out while making; sets the digest too */
  void (*free) (gpointer work);
} BangerAssetMaker;

/**
 * banger_asset_make_async:
 * Makes the files, as the job @job, and then the record "ready". If that fails or is cancelled, @asset is removed.
 * @work: (transfer full).
 */
void banger_asset_make_async (BangerAsset *asset, const BangerAssetMaker *maker, gpointer work, BangerJob *job,
                              GAsyncReadyCallback callback, gpointer user_data);
gboolean banger_asset_make_finish (GAsyncResult *result, GError **error);

/** banger_asset_delete: InUse naming the VMs that rest on it; WrongState while it is being made. */
gboolean banger_asset_delete (BangerAsset *asset, GError **error);

/* What images and kernels have in common: a record in a directory of its own, and files there that a job makes.
 * Never knows D-Bus, nor what the files are. */
#pragma once

#include <gio/gio.h>

#include "manager/core/job.h"
#include "manager/core/object.h"
#include "manager/core/record.h"
#include "manager/core/source.h"

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
  const char *const *states; /* words for BangerAssetState */
  const char *making;        /* "being built" */
  const char *hint;          /* how to get one */
  int exists, missing;       /* of BangerError: the name is taken, there is none */
  const BangerSources *sources;
  void (*take) (gpointer asset, BangerSource *source); /* what was found out while making; sets the digest too */
} BangerAssetClass;

typedef struct BangerAssets BangerAssets; /* the table of one class */

/* What the table tells the house, and asks of it: nobody who rests on an image has to be known here. */
typedef struct {
  BangerObserver objects;
  /* (transfer full): names of those that rest on the asset @id, "a, b"; %NULL: nobody does. */
  char *(*users_of) (const char *id, gpointer user_data);
  /* The folder with the record that cannot be read is called @name now. */
  void (*set_aside) (BangerObjectKind kind, const char *name, const GError *why, gpointer user_data);
} BangerAssetsHouse;

/* Begins a BangerImage or a BangerKernel. Strings are never NULL; "" is not known yet. */
typedef struct {
  const BangerAssetClass *class;
  BangerAssets *assets;
  char *id;
  char *name;
  int state;          /* BangerAssetState */
  char *source;       /* what it was made from, for people */
  char *digest;       /* "sha256:..." of its main file */
  guint64 created_at; /* µs since the epoch */
  char **tags;        /* other names; NULL: none. In the record of a class that has a row for them */
  BangerJob *making;  /* unowned: what makes it; NULL: it is ready */
  gboolean going;     /* it is being deleted */
  gboolean tagging;   /* its other names are being written */
  int dir_fd;         /* its folder, once it is ready: a start opens nothing on the main loop */
} BangerAsset;

/** banger_asset_set_string: @where, a string of an asset, becomes a copy of @value; "" for %NULL. */
void banger_asset_set_string (char **where, const char *value);

/* The first rows of a class's fields. */
#define BANGER_ASSET_FIELDS(class_states)                                                                              \
  BANGER_ASSET_FIELD ("id", STRING, id, NULL, TRUE, "Id", FALSE),                                                      \
      BANGER_ASSET_FIELD ("name", STRING, name, NULL, TRUE, "Name", TRUE),                                             \
      BANGER_ASSET_FIELD ("state", WORD, state, class_states, TRUE, "State", TRUE),                                    \
      BANGER_ASSET_FIELD ("source", STRING, source, NULL, FALSE, "Source", FALSE),                                     \
      BANGER_ASSET_FIELD ("digest", STRING, digest, NULL, FALSE, "Digest", TRUE),                                      \
      BANGER_ASSET_FIELD ("created-at", UINT64, created_at, NULL, FALSE, "CreatedAt", FALSE)
#define BANGER_ASSET_FIELD(key, type, member, words, required, property, changes)                                      \
  {                                                                                                                    \
    key, BANGER_RECORD_##type, G_STRUCT_OFFSET (BangerAsset, member), words, required, property, changes               \
  }

/** banger_assets_new: an empty table. @house: static; gets @user_data. */
BangerAssets *banger_assets_new (const BangerAssetClass *class, const BangerAssetsHouse *house, gpointer user_data);
void banger_assets_free (BangerAssets *assets);

/**
 * banger_assets_load:
 * Fills the table from the folders below @dir_fd, where new ones are made too; half-made ones are removed in workers,
 * unreadable ones set aside. @dir_fd, @writer: borrowed, outlive the table.
 */
gboolean banger_assets_load (BangerAssets *assets, int dir_fd, BangerWriter *writer, GError **error);

/** banger_assets_find_id: by id alone. Returns: (transfer none) (nullable). */
gpointer banger_assets_find_id (BangerAssets *assets, const char *id);
/** banger_assets_ids: Returns: (transfer container): const char *. */
GPtrArray *banger_assets_ids (BangerAssets *assets);

/** banger_asset_find: by name, or by id where none has that name. NULL with class->missing naming the value. */
gpointer banger_asset_find (BangerAssets *assets, const char *name, GError **error);

/** banger_asset_find_ready: as above; WrongState while it is being made or deleted. @ret_dir_fd: (transfer full): its directory.
 */
gpointer banger_asset_find_ready (BangerAssets *assets, const char *name, int *ret_dir_fd, GError **error);

/** banger_asset_check_name: whether a new one may be called that. */
gboolean banger_asset_check_name (BangerAssets *assets, const char *name, GError **error);

/**
 * banger_asset_job_new:
 * Puts a new one, with a name and a source that were checked, into the table. Returns: as banger_job_new(): the job that
 * makes its record, its files, and then the record "ready"; if it fails or is cancelled, the new one is removed.
 * @source: (transfer full). @spec: who asked.
 */
BangerJob *banger_asset_job_new (BangerAssets *assets, const char *name, BangerSource *source, BangerJobs *jobs,
                                 const BangerJobSpec *spec, GError **error);

/** banger_asset_is_being_made: whether one of that name is, of the same as @source (nullable) says (see BangerSourceRow), and
 * nobody has ended that. */
gboolean banger_asset_is_being_made (BangerAssets *assets, const char *name, const BangerSource *source);
/** banger_asset_job_join: one job more that is the making of it: each can be cancelled, and the last one ends it. */
BangerJob *banger_asset_job_join (BangerAssets *assets, const char *name, BangerJobs *jobs, const BangerJobSpec *spec,
                                  GError **error);

/** banger_asset_delete_async: InUse naming the VMs that rest on it, or its other names; WrongState while it is being made. Until it is gone
 * nothing can be made with it. */
void banger_asset_delete_async (BangerAsset *asset, GAsyncReadyCallback callback, gpointer user_data);
gboolean banger_asset_delete_finish (GAsyncResult *result, GError **error);

/**
 * banger_asset_tag_async:
 * Gives a ready one another name, by which it is found as by its own, or takes it away (@add %FALSE). The name's own errors,
 * WrongState, LimitsExceeded. Nobody else can be called that meanwhile.
 */
void banger_asset_tag_async (BangerAsset *asset, const char *tag, gboolean add, GAsyncReadyCallback callback,
                             gpointer user_data);
/** banger_asset_rename_async: as above, but @name is its own name from then on. */
void banger_asset_rename_async (BangerAsset *asset, const char *name, GAsyncReadyCallback callback, gpointer user_data);
gboolean banger_asset_tag_finish (GAsyncResult *result, GError **error);
/** banger_asset_check_tag: whether its names may change now, and (@add) be one more. */
gboolean banger_asset_check_tag (const BangerAsset *asset, gboolean add, GError **error);
/** banger_asset_has_tag: whether @name is one of its other names. */
gboolean banger_asset_has_tag (const BangerAsset *asset, const char *name);

/** banger_assets_going: how many are being deleted. */
guint banger_assets_going (BangerAssets *assets);

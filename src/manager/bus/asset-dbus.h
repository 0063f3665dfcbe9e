/* What images and kernels have in common on the bus: properties, Delete, and the Manager's verbs on them by name.
 * Never changes one itself: asset.c does. */
#pragma once

#include "manager/bus/job-dbus.h"
#include "manager/core/asset.h"

/* Handlers; the data of their rows is the BangerAssetClass. */
gboolean banger_asset_handle_get (BangerRequest *request, gconstpointer data, GError **error);
gboolean banger_asset_handle_delete (BangerRequest *request, gconstpointer data, GError **error);
gboolean banger_asset_handle_delete_by_path (BangerRequest *request, gconstpointer data, GError **error);

/* s tag, a{sv}; behind s name by name. */
gboolean banger_asset_handle_tag (BangerRequest *request, gconstpointer data, GError **error);
gboolean banger_asset_handle_tag_by_path (BangerRequest *request, gconstpointer data, GError **error);

/* The members that all assets have. */
#define BANGER_ASSET_MEMBERS(class)                                                                                    \
  {                                                                                                                    \
    "Delete", "a{sv}", "", "options\0", banger_asset_handle_delete_by_path, class                                      \
  }

/* What a call that makes one says. */
typedef struct {
  const BangerAssetClass *class;
  const char *kind; /* of the job */
  const char *name; /* the message's */
  gboolean wait;
} BangerAssetCreation;

/**
 * banger_asset_create:
 * The way of every image and kernel: the name, what it is made of, and only then the object and the job that makes it.
 * Answers @request later. @source: (transfer full): chosen.
 */
gboolean banger_asset_create (BangerRequest *request, const BangerAssetCreation *creation, BangerSource *source,
                              GError **error);

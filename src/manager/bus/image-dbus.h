/* Images on the bus: their own properties, BuildImage and ImportImage.
 * Never changes an image itself: image.c does. */
#pragma once

#include "manager/bus/request.h"

extern const BangerMember banger_image_members[];
extern const BangerProperty banger_image_properties[];

gboolean banger_image_handle_build (BangerRequest *request, gconstpointer data,
                                    GError **error); /* s name, a{sv} -> o */
gboolean banger_image_handle_import (BangerRequest *request, gconstpointer data,
                                     GError **error); /* s name, s path, a{sv} -> o */
gboolean banger_image_handle_commit (BangerRequest *request, gconstpointer data,
                                     GError **error); /* s name, s vm, a{sv} -> o */
gboolean banger_image_handle_export (BangerRequest *request, gconstpointer data,
                                     GError **error); /* s name, a{sv} -> o */
gboolean banger_image_handle_promote (BangerRequest *request, gconstpointer data,
                                      GError **error); /* s name, a{sv} -> s */
gboolean banger_image_handle_verify (BangerRequest *request, gconstpointer data, GError **error); /* s name, a{sv} */
gboolean banger_image_handle_warm (BangerRequest *request, gconstpointer data, GError **error); /* s name, a{sv} -> o */
gboolean banger_image_handle_prune (BangerRequest *request, gconstpointer data, GError **error); /* a{sv} -> t, t */

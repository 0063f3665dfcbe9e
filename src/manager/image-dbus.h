/* Images on the bus: their own properties, BuildImage and ImportImage.
 * Used by manager-dbus.c.
 * Never changes an image itself: image.c does. */
#pragma once

#include "manager/dispatch.h"

extern const sd_bus_vtable banger_image_vtable[];
extern const BangerMember banger_image_members[];

gboolean banger_image_handle_build (BangerCall *call, gconstpointer data, GError **error); /* s name, a{sv} -> o */
gboolean banger_image_handle_import (BangerCall *call, gconstpointer data,
                                     GError **error); /* s name, s path, a{sv} -> o */

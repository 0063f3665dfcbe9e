/* Kernels on the bus: properties, Delete, and the Manager's verbs on kernels.
 * Used by manager-dbus.c.
 * Never changes a kernel itself: kernel.c does. */
#pragma once

#include "manager/dispatch.h"

extern const sd_bus_vtable banger_kernel_vtable[];
extern const BangerMember banger_kernel_members[];

gboolean banger_kernel_handle_import (BangerCall *call, gconstpointer data,
                                      GError **error); /* s name, s source, a{sv} -> o */
gboolean banger_kernel_handle_delete (BangerCall *call, gconstpointer data, GError **error); /* s name, a{sv} */
gboolean banger_kernel_handle_get (BangerCall *call, gconstpointer data, GError **error);    /* s name -> o */

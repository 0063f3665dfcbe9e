/* Kernels on the bus: their own property and ImportKernel.
 * Used by manager-dbus.c.
 * Never changes a kernel itself: kernel.c does. */
#pragma once

#include "manager/dispatch.h"

extern const sd_bus_vtable banger_kernel_vtable[];
extern const BangerMember banger_kernel_members[];

gboolean banger_kernel_handle_import (BangerCall *call, gconstpointer data,
                                      GError **error); /* s name, s source, a{sv} -> o */

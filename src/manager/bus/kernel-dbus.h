/* Kernels on the bus: their own property and ImportKernel.
 * Never changes a kernel itself: kernel.c does. */
#pragma once

#include "manager/bus/request.h"

extern const BangerMember banger_kernel_members[];

gboolean banger_kernel_handle_import (BangerRequest *request, gconstpointer data,
                                      GError **error); /* s name, s source, a{sv} -> o */

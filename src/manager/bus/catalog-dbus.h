/* What catalogs have, on the bus. */
#pragma once

#include "manager/bus/request.h"

/* The data of its rows: which class. */
gboolean banger_catalog_handle_list (BangerRequest *request, gconstpointer data, GError **error);
typedef struct BangerCatalogListed BangerCatalogListed;
extern const BangerCatalogListed banger_catalog_listed_images, banger_catalog_listed_kernels;

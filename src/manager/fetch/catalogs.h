/* The catalogs that there are: the owner's, in the order of config.toml, and those that come with banger.
 * Runs in worker threads.
 * Never uses bytes that it did not check: what is parsed is what was signed. */
#pragma once

#include "common/config.h"
#include "manager/fetch/catalog.h"

/* What says whose a catalog is. */
#define BANGER_CATALOG_INSTALLED "installed" /* root, who installed it */
#define BANGER_CATALOG_SIGNED "signed"
#define BANGER_CATALOG_DIGEST "digest"
#define BANGER_CATALOG_UNSIGNED "unsigned" /* nobody */

/* One of them, as it was read. */
typedef struct {
  char *origin;           /* path or URL, printable */
  const char *trust;      /* BANGER_CATALOG_* */
  BangerCatalog *catalog; /* NULL: it could not be read */
  GError *error;          /* why */
} BangerCatalogRead;

/** banger_catalogs_read: all of them; a server that did not give one within the last minute is not asked again. @own: (nullable): of the owner's settings. Returns: (transfer full): BangerCatalogRead. */
GPtrArray *banger_catalogs_read (const GPtrArray *own);

typedef struct {
  char *word, *what; /* see BangerCatalogEntry */
  char *warning;     /* for people; NULL: none */
} BangerCatalogFound;

void banger_catalog_found_free (BangerCatalogFound *found);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerCatalogFound, banger_catalog_found_free)

/**
 * banger_catalogs_find:
 * The first entry called @name. A catalog that cannot be read and stands before is an error: what it would have said is not known.
 * Returns: (transfer full): %NULL with %BANGER_ERROR_NO_SUCH_IMAGE or %BANGER_ERROR_NO_SUCH_KERNEL if none has it, else
 * %BANGER_ERROR_INVALID_CATALOG.
 */
BangerCatalogFound *banger_catalogs_find (const GPtrArray *own, BangerCatalogClass class, const char *name,
                                          GError **error);

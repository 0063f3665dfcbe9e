/* A catalog: what images or kernels can be had by which name, as docs/catalogs.md says.
 * Never opens anything, never names a file of this host's. */
#pragma once

#include <glib.h>

#define BANGER_CATALOG_VERSION 1
#define BANGER_CATALOG_MAX_BYTES (1u << 20)
#define BANGER_CATALOG_MAX_ENTRIES 1000u
#define BANGER_CATALOG_MAX_SUMMARY 200u

typedef enum {
  BANGER_CATALOG_IMAGES,
  BANGER_CATALOG_KERNELS,
  BANGER_N_CATALOG_CLASSES,
} BangerCatalogClass;

/* Strings are never NULL. */
typedef struct {
  char *name;
  const char *kind;   /* for people: "mmdebstrap", "registry", "apt" */
  char *word, *what;  /* of a row of the sources: "docker" and "//docker.io/library/alpine:3.22" */
  char *summary;      /* one line, printable; "" */
  guint64 size_bytes; /* that are fetched; 0: not known */
} BangerCatalogEntry;

typedef struct {
  GPtrArray *entries[BANGER_N_CATALOG_CLASSES]; /* BangerCatalogEntry, in the order of the file */
} BangerCatalog;

/**
 * banger_catalog_parse:
 * @name: for messages. Returns: (transfer full): %NULL with %BANGER_ERROR_INVALID_CATALOG: too large, too deep, no JSON, another version, a member that
 * is not known, a name that is there twice or that nothing may have, a source that is none.
 */
BangerCatalog *banger_catalog_parse (GBytes *text, const char *name, GError **error);
void banger_catalog_free (BangerCatalog *catalog);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerCatalog, banger_catalog_free)

/** banger_catalog_find: Returns: (transfer none) (nullable). */
const BangerCatalogEntry *banger_catalog_find (const BangerCatalog *catalog, BangerCatalogClass class,
                                               const char *name);
/** banger_catalog_may_name: whether an entry could be called that; a reference with a tag or a slash is never one. */
gboolean banger_catalog_may_name (const char *name);

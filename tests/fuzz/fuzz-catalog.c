/* A catalog of somebody's: what is taken has names that images can have, and sources that name nothing of this host's.
 * Run as replay.c says.
 * Never looks one up. */
#include <glib.h>
#include <string.h>

#include "common/error.h"
#include "common/log.h"
#include "fuzz.h"
#include "manager/fetch/catalog.h"

static void
check (const BangerCatalogEntry *entry, BangerCatalogClass class)
{
  g_assert_true (banger_catalog_may_name (entry->name));
  g_assert_true (g_str_equal (entry->word, class == BANGER_CATALOG_KERNELS ? "apt" : "docker")
                 || (class == BANGER_CATALOG_IMAGES && g_str_equal (entry->word, "debian")));
  g_assert_true (g_str_equal (entry->word, "docker") == g_str_has_prefix (entry->what, "//"));
  g_assert_true (entry->what[0] != '-' && !strpbrk (entry->what, " \t\n\"'$;`\\") && strlen (entry->what) < 512);
  g_assert_cmpuint (strlen (entry->summary), <=, BANGER_CATALOG_MAX_SUMMARY);
  g_autofree char *shown = banger_log_escape (entry->summary, BANGER_CATALOG_MAX_SUMMARY);
  g_assert_cmpstr (shown, ==, entry->summary);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) text = g_bytes_new (data, size);
  g_autoptr (BangerCatalog) catalog = banger_catalog_parse (text, "fuzz", &error);
  g_assert_true (catalog || g_error_matches (error, BANGER_ERROR, BANGER_ERROR_INVALID_CATALOG));
  for (guint class = 0; catalog && class < BANGER_N_CATALOG_CLASSES; class ++)
    for (guint i = 0; i < catalog->entries[class]->len; i++) {
      const BangerCatalogEntry *entry = catalog->entries[class]->pdata[i];
      check (entry, class);
      g_assert_true (banger_catalog_find (catalog, class, entry->name) == entry);
    }
  return 0;
}

/* Catalogs: read with a bound, checked, parsed, in their order.
 * Runs in worker threads.
 * Never parses what is not signed as it is to be. */
#include "manager/fetch/catalogs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "common/bytes.h"
#include "common/digest.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/names.h"
#include "manager/fetch/http.h"
#include "manager/fetch/minisign.h"

#define SIGNATURE_SUFFIX ".minisig"
#define FETCHED_USEC (600 * G_USEC_PER_SEC)
#define FAILED_USEC (60 * G_USEC_PER_SEC)
#define MAX_FETCHED 64u

static const char *const installed[] = { "images.json", "kernels.json" };

static void
read_free (gpointer data)
{
  BangerCatalogRead *read = data;
  banger_catalog_free (read->catalog);
  g_clear_error (&read->error);
  g_free (read->origin);
  g_free (read);
}

void
banger_catalog_found_free (BangerCatalogFound *found)
{
  if (!found)
    return;
  g_free (found->word);
  g_free (found->what);
  g_free (found->warning);
  g_free (found);
}

/* Once, and no more than @most of it. Not blocking: it may be a pipe that nobody writes to. */
static GBytes *
read_file (const char *path, gsize most, GError **error)
{
  struct stat st;
  g_autofree char *shown = banger_log_escape (path, PATH_MAX);
  banger_autofd int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0 || fstat (fd, &st) < 0) {
    banger_set_error_errno (error, BANGER_ERROR_INVALID_CATALOG, errno, "cannot open %s", shown);
    return NULL;
  }
  g_autofree char *text = S_ISREG (st.st_mode) ? g_malloc (most + 1) : NULL;
  ssize_t n = text ? banger_read_at (fd, text, most + 1, 0) : 0;
  if (n < 0)
    banger_set_error_errno (error, BANGER_ERROR_INVALID_CATALOG, errno, "cannot read %s", shown);
  else if (!text || (gsize)n > most)
    banger_set_error (error, BANGER_ERROR_INVALID_CATALOG,
                      "%s is not a regular file of at most %" G_GSIZE_FORMAT " bytes", shown, most);
  else
    return g_bytes_new_take (g_steal_pointer (&text), (gsize)n);
  return NULL;
}

static gboolean
check_digest (GBytes *text, const char *sha256, const char *name, GError **error)
{
  g_autoptr (BangerDigest) digest = banger_digest_new ();
  banger_digest_update (digest, g_bytes_get_data (text, NULL), g_bytes_get_size (text));
  g_autofree char *is = banger_digest_finish (digest), *wanted = g_strconcat ("sha256:", sha256, NULL);
  return g_str_equal (is, wanted)
         || banger_set_error (error, BANGER_ERROR_INVALID_CATALOG, "%s: its digest is %s, and config.toml says %s",
                              name, is, wanted);
}

/* What one catalog is read from: both of the same moment. */
typedef struct {
  GBytes *text, *signature; /* signature: NULL: it is not asked for */
} Bytes;

static void
bytes_clear (Bytes *bytes)
{
  g_clear_pointer (&bytes->text, g_bytes_unref);
  g_clear_pointer (&bytes->signature, g_bytes_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Bytes, bytes_clear)

static gboolean
read_both (const char *from, gboolean is_signed, GBytes *(*read) (const char *from, gsize most, GError **error),
           Bytes *ret, GError **error)
{
  g_autofree char *beside = g_strconcat (from, SIGNATURE_SUFFIX, NULL);
  ret->text = read (from, BANGER_CATALOG_MAX_BYTES, error);
  if (ret->text && is_signed)
    ret->signature = read (beside, BANGER_MINISIGN_MAX_BYTES, error);
  return ret->text && (ret->signature || !is_signed);
}

static BangerCatalog *
parse_own (const BangerConfigCatalog *own, const Bytes *bytes, const char *name, GError **error)
{
  if (own->key && !banger_minisign_verify (own->key, bytes->text, bytes->signature, name, error))
    return NULL;
  if (own->sha256 && !check_digest (bytes->text, own->sha256, name, error))
    return NULL;
  return banger_catalog_parse (bytes->text, name, error);
}

/* Those that were fetched and were good, and those that were not: whoever completes a word fetches nothing, and does not wait for a server
 * that is not there. */
static GMutex fetched_lock;
static GHashTable *fetched; /* of fetched_name() -> Fetched */

/* With what it is to be: who mends the key is not told what the old one said. */
static char *
fetched_name (const BangerConfigCatalog *own)
{
  return g_strjoin ("\n", own->url, own->key ? own->key : "", own->sha256 ? own->sha256 : "", NULL);
}

typedef struct {
  Bytes bytes;
  GError *failure; /* NULL: there are bytes */
  gint64 usec;
} Fetched;

static void
fetched_free (gpointer data)
{
  Fetched *one = data;
  bytes_clear (&one->bytes);
  g_clear_error (&one->failure);
  g_free (one);
}

/* @failure: (nullable): why there are no @bytes. */
static void
keep (const BangerConfigCatalog *own, const Bytes *bytes, const GError *failure)
{
  g_autoptr (GMutexLocker) locker = g_mutex_locker_new (&fetched_lock);
  Fetched *one = g_new0 (Fetched, 1);
  one->failure = failure ? g_error_copy (failure) : NULL;
  one->bytes.text = !failure ? g_bytes_ref (bytes->text) : NULL;
  one->bytes.signature = !failure && bytes->signature ? g_bytes_ref (bytes->signature) : NULL;
  one->usec = g_get_monotonic_time ();
  if (!fetched)
    fetched = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, fetched_free);
  if (g_hash_table_size (fetched) >= MAX_FETCHED) /* of settings that are others by now */
    g_hash_table_remove_all (fetched);
  g_hash_table_replace (fetched, fetched_name (own), one);
}

static const Fetched *
look_up (const BangerConfigCatalog *own)
{
  g_autofree char *name = fetched_name (own);
  return fetched ? g_hash_table_lookup (fetched, name) : NULL;
}

static gboolean
find_fetched (const BangerConfigCatalog *own, Bytes *ret)
{
  g_autoptr (GMutexLocker) locker = g_mutex_locker_new (&fetched_lock);
  const Fetched *one = look_up (own);
  if (!one || one->failure || g_get_monotonic_time () - one->usec > FETCHED_USEC)
    return FALSE;
  ret->text = g_bytes_ref (one->bytes.text);
  ret->signature = one->bytes.signature ? g_bytes_ref (one->bytes.signature) : NULL;
  return TRUE;
}

/* Whether it failed so lately that it is not asked again. */
static gboolean
failed_lately (const BangerConfigCatalog *own, GError **error)
{
  g_autoptr (GMutexLocker) locker = g_mutex_locker_new (&fetched_lock);
  const Fetched *one = look_up (own);
  if (!one || !one->failure || g_get_monotonic_time () - one->usec > FAILED_USEC)
    return FALSE;
  g_propagate_error (error, g_error_copy (one->failure));
  return TRUE;
}

/* @anew: also if that failed a moment ago. */
static BangerCatalog *
read_url (const BangerConfigCatalog *own, const char *name, gboolean anew, GError **error)
{
  g_autoptr (GError) local = NULL;
  g_auto (Bytes) old = { NULL, NULL }, bytes = { NULL, NULL };
  if (find_fetched (own, &old)) {
    BangerCatalog *known = parse_own (own, &old, name, NULL);
    if (known)
      return known;
  }
  if (!anew && failed_lately (own, error))
    return NULL;
  BangerCatalog *catalog = NULL;
  if (read_both (own->url, own->key ? TRUE : FALSE, banger_http_get, &bytes, &local))
    catalog = parse_own (own, &bytes, name, &local);
  keep (own, &bytes, local);
  if (local)
    g_propagate_error (error, g_steal_pointer (&local));
  return catalog;
}

static BangerCatalog *
read_own (const BangerConfigCatalog *own, const char *name, gboolean anew, GError **error)
{
  g_auto (Bytes) bytes = { NULL, NULL };
  if (own->problem) {
    banger_set_error (error, BANGER_ERROR_INVALID_CATALOG, "%s", own->problem);
    return NULL;
  }
  if (own->url)
    return read_url (own, name, anew, error);
  return read_both (own->file, own->key ? TRUE : FALSE, read_file, &bytes, error) ? parse_own (own, &bytes, name, error)
                                                                                  : NULL;
}

static guint
count_of (const GPtrArray *own)
{
  return own ? own->len : 0;
}

static BangerCatalogRead *
read_owners (const BangerConfigCatalog *own, gboolean anew)
{
  BangerCatalogRead *read = g_new0 (BangerCatalogRead, 1);
  const char *from = own->file ? own->file : own->url ? own->url : "config.toml";
  read->origin = banger_log_escape (from, PATH_MAX);
  read->trust = own->key ? BANGER_CATALOG_SIGNED : own->sha256 ? BANGER_CATALOG_DIGEST : BANGER_CATALOG_UNSIGNED;
  read->catalog = read_own (own, read->origin, anew, &read->error);
  return read;
}

/* Returns: NULL: it is not there, as an admin may want it. */
static BangerCatalogRead *
read_installed (const char *name)
{
  const char *elsewhere = g_getenv (BANGER_ENV_CATALOGS);
  g_autofree char *path = elsewhere ? g_build_filename (elsewhere, name, NULL)
                                    : g_build_filename (BANGER_DATADIR, BANGER_FOLDER_CATALOGS, name, NULL);
  if (access (path, F_OK) < 0 && errno == ENOENT)
    return NULL;
  BangerCatalogRead *read = g_new0 (BangerCatalogRead, 1);
  read->origin = banger_log_escape (path, PATH_MAX);
  read->trust = BANGER_CATALOG_INSTALLED;
  g_autoptr (GBytes) text = read_file (path, BANGER_CATALOG_MAX_BYTES, &read->error);
  if (text)
    read->catalog = banger_catalog_parse (text, read->origin, &read->error);
  return read;
}

/* Returns: (transfer full): NULL: there is none at that place. */
static BangerCatalogRead *
read_at (const GPtrArray *own, guint place, gboolean anew)
{
  return place < count_of (own) ? read_owners (own->pdata[place], anew)
                                : read_installed (installed[place - count_of (own)]);
}

static guint
count_all (const GPtrArray *own)
{
  return count_of (own) + G_N_ELEMENTS (installed);
}

GPtrArray *
banger_catalogs_read (const GPtrArray *own)
{
  GPtrArray *all = g_ptr_array_new_with_free_func (read_free);
  for (guint i = 0; i < count_all (own); i++) {
    BangerCatalogRead *read = read_at (own, i, FALSE);
    if (read)
      g_ptr_array_add (all, read);
  }
  return all;
}

static BangerCatalogFound *
found_in (const BangerCatalogRead *read, const BangerCatalogEntry *entry)
{
  BangerCatalogFound *found = g_new0 (BangerCatalogFound, 1);
  found->word = g_strdup (entry->word);
  found->what = g_strdup (entry->what);
  if (g_str_equal (read->trust, BANGER_CATALOG_UNSIGNED))
    found->warning = g_strdup_printf (
        "what %s is was said by %s, an unsigned catalog: it has neither key nor sha256 in "
        "config.toml",
        entry->name, read->origin);
  return found;
}

BangerCatalogFound *
banger_catalogs_find (const GPtrArray *own, BangerCatalogClass class, const char *name, GError **error)
{
  g_autoptr (GPtrArray) kept = g_ptr_array_new_with_free_func (read_free);
  for (guint i = 0; i < count_all (own); i++) {
    BangerCatalogRead *read = read_at (own, i, TRUE);
    if (!read)
      continue;
    g_ptr_array_add (kept, read);
    if (!read->catalog) {
      banger_set_error (error, BANGER_ERROR_INVALID_CATALOG, "cannot look for %s: %s", name, read->error->message);
      return NULL;
    }
    const BangerCatalogEntry *entry = banger_catalog_find (read->catalog, class, name);
    if (entry)
      return found_in (read, entry);
  }
  g_autofree char *shown = banger_log_escape (name, 80);
  gboolean images = class == BANGER_CATALOG_IMAGES;
  banger_set_error (error, images ? BANGER_ERROR_NO_SUCH_IMAGE : BANGER_ERROR_NO_SUCH_KERNEL,
                    "no catalog has \"%s\" (banger %s list --available shows what they have)", shown,
                    images ? "image" : "kernel");
  return NULL;
}

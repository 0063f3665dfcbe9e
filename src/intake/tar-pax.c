/* Records of extended headers: POSIX's own, GNU's for sparse files, star's and libarchive's for attributes.
 * Used by tar-reader.c.
 * Never fails over a key that it does not know. */
#include "intake/tar-private.h"

#include <string.h>

#include "common/error.h"

#define NSEC_DIGITS 9
#define MAX_XATTRS 1024u /* each is compared with all before it */

static void
xattr_free (gpointer data)
{
  BangerTarXattr *xattr = data;
  g_free (xattr->name);
  g_bytes_unref (xattr->value);
  g_free (xattr);
}

void
banger_tar_pax_init (TarPax *pax)
{
  *pax = (TarPax){ .entry = { .uid = -1, .gid = -1, .major = -1, .minor = -1 } };
  pax->entry.xattrs = g_ptr_array_new_with_free_func (xattr_free);
}

void
banger_tar_pax_clear (TarPax *pax)
{
  g_clear_pointer (&pax->entry.path, g_free);
  g_clear_pointer (&pax->entry.link, g_free);
  g_clear_pointer (&pax->entry.xattrs, g_ptr_array_unref);
  for (guint i = 0; i < BANGER_TAR_N_ACLS; i++)
    g_clear_pointer (&pax->entry.acls[i], g_free);
  g_clear_pointer (&pax->sparse_name, g_free);
  g_clear_pointer (&pax->runs, g_array_unref);
}

gboolean
banger_tar_decimal (const char **at, guint64 *ret_value)
{
  guint64 value = 0;
  const char *digit = *at;
  for (; g_ascii_isdigit (*digit); digit++) {
    if (value > (G_MAXINT64 - 9) / 10)
      return FALSE;
    value = value * 10 + (guint64)(*digit - '0');
  }
  if (digit == *at)
    return FALSE;
  *at = digit;
  *ret_value = value;
  return TRUE;
}

/* Values; @text ends with a NUL behind @length, and may hold others. */

typedef gboolean (*TakeValue) (TarPax *pax, gsize field, const char *text, gsize length);

static gboolean
take_text (TarPax *pax, gsize field, const char *text, gsize length)
{
  char **where = &G_STRUCT_MEMBER (char *, pax, field);
  g_free (*where);
  *where = length > 0 ? g_strdup (text) : NULL;
  return TRUE;
}

static gboolean
take_number (TarPax *pax, gsize field, const char *text, gsize length)
{
  guint64 value;
  if (length > 0 && (!banger_tar_decimal (&text, &value) || *text != '\0'))
    return FALSE;
  G_STRUCT_MEMBER (gint64, pax, field) = length > 0 ? (gint64)value : -1;
  return TRUE;
}

static gboolean
take_size (TarPax *pax, gsize field, const char *text, gsize length)
{
  gboolean *has = field == offsetof (TarPax, stored) ? &pax->has_size : &pax->has_real_size;
  *has = length > 0;
  guint64 *where = &G_STRUCT_MEMBER (guint64, pax, field);
  *where = 0;
  return length == 0 || (banger_tar_decimal (&text, where) && *text == '\0');
}

/* Seconds with a fraction, rounded down: -1.5 s is half a second after -2 s. */
static gboolean
take_time (TarPax *pax, gsize field, const char *text, gsize length)
{
  gboolean negative = *text == '-', rest = FALSE;
  guint64 seconds = 0, nsec = 0;
  pax->has_mtime = length > 0;
  if (length == 0)
    return TRUE;
  text += negative ? 1 : 0;
  if (*text != '.' && !banger_tar_decimal (&text, &seconds))
    return FALSE;
  text += *text == '.' ? 1 : 0;
  for (guint i = 0; i < NSEC_DIGITS; i++)
    nsec = nsec * 10 + (guint64)(g_ascii_isdigit (*text) ? *text++ - '0' : 0);
  for (; g_ascii_isdigit (*text); text++)
    rest = rest || *text != '0';
  nsec += negative && rest ? 1 : 0;
  pax->entry.mtime = negative ? -(gint64)seconds - (nsec > 0 ? 1 : 0) : (gint64)seconds;
  pax->entry.mtime_nsec = (guint32)(negative && nsec > 0 ? G_USEC_PER_SEC * 1000 - nsec : nsec);
  return *text == '\0';
}

/* Sparse files of GNU tar: 0.0 has a record for each number, 0.1 a list, 1.0 the map before the data. */

static gboolean
add_run (TarPax *pax, guint64 offset)
{
  if (!pax->runs)
    pax->runs = g_array_new (FALSE, FALSE, sizeof (BangerTarRun));
  if (pax->runs->len >= TAR_MAX_RUNS)
    return FALSE;
  g_array_append_val (pax->runs, ((BangerTarRun){ offset, 0 }));
  return TRUE;
}

static gboolean
take_run_offset (TarPax *pax, gsize field, const char *text, gsize length)
{
  guint64 value;
  pax->run_begun = TRUE;
  return banger_tar_decimal (&text, &value) && add_run (pax, value);
}

static gboolean
take_run_length (TarPax *pax, gsize field, const char *text, gsize length)
{
  if (!pax->run_begun)
    return FALSE;
  pax->run_begun = FALSE;
  return banger_tar_decimal (&text, &g_array_index (pax->runs, BangerTarRun, pax->runs->len - 1).length);
}

static gboolean
take_map (TarPax *pax, gsize field, const char *text, gsize length)
{
  g_clear_pointer (&pax->runs, g_array_unref);
  pax->run_begun = FALSE; /* its run is gone */
  while (*text != '\0') {
    guint64 offset;
    if (!banger_tar_decimal (&text, &offset) || *text++ != ',' || !add_run (pax, offset)
        || !banger_tar_decimal (&text, &g_array_index (pax->runs, BangerTarRun, pax->runs->len - 1).length)
        || (*text != '\0' && *text++ != ','))
      return FALSE;
  }
  return TRUE;
}

static gboolean
take_major (TarPax *pax, gsize field, const char *text, gsize length)
{
  guint64 value;
  if (!banger_tar_decimal (&text, &value) || value > 1)
    return FALSE;
  pax->sparse_major = (guint)value;
  return TRUE;
}

/* Extended attributes */

static gboolean
add_xattr (TarPax *pax, char *name, GBytes *value)
{
  BangerTarXattr *xattr = g_new (BangerTarXattr, 1);
  *xattr = (BangerTarXattr){ name, value };
  for (guint i = 0; i < pax->entry.xattrs->len; i++)
    if (strcmp (((BangerTarXattr *)pax->entry.xattrs->pdata[i])->name, name) == 0) {
      xattr_free (pax->entry.xattrs->pdata[i]);
      pax->entry.xattrs->pdata[i] = xattr;
      return TRUE;
    }
  g_ptr_array_add (pax->entry.xattrs, xattr);
  return pax->entry.xattrs->len <= MAX_XATTRS;
}

static gboolean
take_xattr (TarPax *pax, const char *name, const char *text, gsize length)
{
  return add_xattr (pax, g_strdup (name), g_bytes_new (text, length));
}

/* libarchive's: the name as in an URI, the value in base64. It writes star's form, too. */
static gboolean
take_libarchive_xattr (TarPax *pax, const char *name, const char *text, gsize length)
{
  g_autofree char *plain = g_uri_unescape_string (name, NULL);
  if (!plain)
    return FALSE;
  g_autofree char *padded = g_strconcat (text, &"==="[3 - (4 - length % 4) % 4], NULL);
  gsize size;
  guint8 *value = g_base64_decode (padded, &size);
  return add_xattr (pax, g_steal_pointer (&plain), g_bytes_new_take (value, size));
}

static const struct {
  const char *prefix;
  gboolean (*take) (TarPax *pax, const char *name, const char *text, gsize length);
} xattr_keys[] = { { "SCHILY.xattr.", take_xattr }, { "LIBARCHIVE.xattr.", take_libarchive_xattr } };

/* Records */

static const struct {
  const char *key;
  TakeValue take;
  gsize field;
} keys[] = {
  { "path", take_text, offsetof (TarPax, entry.path) },
  { "linkpath", take_text, offsetof (TarPax, entry.link) },
  { "size", take_size, offsetof (TarPax, stored) },
  { "uid", take_number, offsetof (TarPax, entry.uid) },
  { "gid", take_number, offsetof (TarPax, entry.gid) },
  { "mtime", take_time, 0 },
  { "SCHILY.devmajor", take_number, offsetof (TarPax, entry.major) },
  { "SCHILY.devminor", take_number, offsetof (TarPax, entry.minor) },
  { "SCHILY.acl.access", take_text, offsetof (TarPax, entry.acls[BANGER_TAR_ACL_ACCESS]) },
  { "SCHILY.acl.default", take_text, offsetof (TarPax, entry.acls[BANGER_TAR_ACL_DEFAULT]) },
  { "SCHILY.realsize", take_size, offsetof (TarPax, entry.size) },
  { "GNU.sparse.size", take_size, offsetof (TarPax, entry.size) },
  { "GNU.sparse.realsize", take_size, offsetof (TarPax, entry.size) },
  { "GNU.sparse.name", take_text, offsetof (TarPax, sparse_name) },
  { "GNU.sparse.major", take_major, 0 },
  { "GNU.sparse.offset", take_run_offset, 0 },
  { "GNU.sparse.numbytes", take_run_length, 0 },
  { "GNU.sparse.map", take_map, 0 },
};

static gboolean
take_record (TarPax *pax, const char *key, const char *value, gsize length)
{
  for (guint i = 0; i < G_N_ELEMENTS (keys); i++)
    if (strcmp (keys[i].key, key) == 0)
      return keys[i].take (pax, keys[i].field, value, length);
  for (guint i = 0; i < G_N_ELEMENTS (xattr_keys); i++)
    if (g_str_has_prefix (key, xattr_keys[i].prefix))
      return xattr_keys[i].take (pax, key + strlen (xattr_keys[i].prefix), value, length);
  return TRUE;
}

gboolean
banger_tar_pax_read (TarPax *pax, const guint8 *bytes, gsize length)
{
  while (length > 0) {
    guint64 record = 0;
    gsize at = 0;
    for (; at < length && at < 8 && g_ascii_isdigit (bytes[at]); at++)
      record = record * 10 + (guint64)(bytes[at] - '0');
    if (at == 0 || record > length || record < at + 3 || bytes[at] != ' ' || bytes[record - 1] != '\n')
      return FALSE;
    gsize text_length = record - at - 2;
    g_autofree char *text = g_malloc (text_length + 1);
    memcpy (text, bytes + at + 1, text_length);
    text[text_length] = '\0';
    char *equals = memchr (text, '=', text_length);
    if (!equals)
      return FALSE;
    *equals = '\0';
    if (!take_record (pax, text, equals + 1, text_length - (gsize)(equals + 1 - text)))
      return FALSE;
    bytes += record;
    length -= record;
  }
  return TRUE;
}

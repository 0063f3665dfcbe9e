/* POSIX access control lists.
 * Used by ext4-tar.c.
 * Never asks this machine who somebody is. */
#include "intake/ext4-acl.h"

#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <string.h>

typedef struct {
  guint16 tag, perm;
  guint32 id;
  char *name; /* without a number yet, or NULL */
} Entry;

struct BangerAcl {
  GArray *entries;
};

static void
entry_clear (gpointer data)
{
  g_free (((Entry *)data)->name);
}

static int
compare (gconstpointer a, gconstpointer b)
{
  const Entry *x = a, *y = b;
  if (x->tag != y->tag)
    return x->tag < y->tag ? -1 : 1;
  return x->id == y->id ? 0 : x->id < y->id ? -1 : 1;
}

static void
acl_clear (gpointer data)
{
  g_array_unref (((BangerAcl *)data)->entries);
}

BangerAcl *
banger_acl_ref (BangerAcl *acl)
{
  return g_rc_box_acquire (acl);
}

void
banger_acl_free (BangerAcl *acl)
{
  if (acl)
    g_rc_box_release_full (acl, acl_clear);
}

static gboolean
parse_id (const char *text, guint32 *ret_id)
{
  guint64 id;
  if (!g_ascii_string_to_unsigned (text, 10, 0, G_MAXUINT32 - 1, &id, NULL))
    return FALSE;
  *ret_id = (guint32)id;
  return TRUE;
}

static gboolean
parse_permissions (const char *text, guint16 *ret_perm)
{
  static const struct {
    char letter;
    guint16 bit;
  } bits[] = { { 'r', 4 }, { 'w', 2 }, { 'x', 1 }, { '-', 0 } };
  *ret_perm = 0;
  for (; *text != '\0'; text++) {
    guint i = 0;
    while (i < G_N_ELEMENTS (bits) && bits[i].letter != *text)
      i++;
    if (i == G_N_ELEMENTS (bits))
      return FALSE;
    *ret_perm |= bits[i].bit;
  }
  return TRUE;
}

static const struct {
  const char *word, *letter;
  guint16 plain, named; /* 0: cannot be of somebody */
} tags[] = { { "user", "u", ACL_USER_OBJ, ACL_USER },
             { "group", "g", ACL_GROUP_OBJ, ACL_GROUP },
             { "mask", "m", ACL_MASK, 0 },
             { "other", "o", ACL_OTHER, 0 } };

static gboolean
is_tag (guint16 tag)
{
  for (guint i = 0; i < G_N_ELEMENTS (tags); i++)
    if (tag == tags[i].plain || (tags[i].named != 0 && tag == tags[i].named))
      return TRUE;
  return FALSE;
}

/* "user:daemon:r-x:2", "mask::rwx" or "mask:rwx". */
static gboolean
parse_entry (BangerAcl *acl, char *text)
{
  text[strcspn (text, "#")] = '\0';
  g_auto (GStrv) fields = g_strsplit (g_strstrip (text), ":", -1);
  char **at = fields;
  if (*at && (strcmp (*at, "default") == 0 || strcmp (*at, "d") == 0))
    at++;
  guint count = g_strv_length (at), row = 0;
  if (count == 0)
    return TRUE; /* an empty line */
  while (row < G_N_ELEMENTS (tags) && strcmp (tags[row].word, *at) != 0 && strcmp (tags[row].letter, *at) != 0)
    row++;
  if (row == G_N_ELEMENTS (tags) || count < 2 || count > 4)
    return FALSE;
  gboolean named = count > 2 && *at[1] != '\0';
  Entry entry = { .tag = named ? tags[row].named : tags[row].plain, .id = (guint32)ACL_UNDEFINED_ID };
  if (entry.tag == 0 || !parse_permissions (at[count > 2 ? 2 : 1], &entry.perm))
    return FALSE;
  if (named && !parse_id (count > 3 ? at[3] : at[1], &entry.id)) {
    if (count > 3)
      return FALSE;
    entry.name = g_strdup (at[1]);
  }
  g_array_append_val (acl->entries, entry);
  return TRUE;
}

static guint
count_tag (const BangerAcl *acl, guint16 tag)
{
  guint count = 0;
  for (guint i = 0; i < acl->entries->len; i++)
    count += g_array_index (acl->entries, Entry, i).tag == tag ? 1 : 0;
  return count;
}

/* As posix_acl_valid() of Linux. */
static gboolean
is_valid (const BangerAcl *acl)
{
  gboolean named = count_tag (acl, ACL_USER) + count_tag (acl, ACL_GROUP) > 0;
  guint masks = count_tag (acl, ACL_MASK);
  return count_tag (acl, ACL_USER_OBJ) == 1 && count_tag (acl, ACL_GROUP_OBJ) == 1 && count_tag (acl, ACL_OTHER) == 1
         && masks <= 1 && (masks == 1 || !named);
}

static BangerAcl *
acl_new (void)
{
  BangerAcl *acl = g_rc_box_new0 (BangerAcl);
  acl->entries = g_array_new (FALSE, FALSE, sizeof (Entry));
  g_array_set_clear_func (acl->entries, entry_clear);
  return acl;
}

BangerAcl *
banger_acl_parse (const char *text)
{
  g_autoptr (BangerAcl) acl = acl_new ();
  g_auto (GStrv) entries = g_strsplit_set (text, ",\n", -1);
  for (char **entry = entries; *entry; entry++)
    if (!parse_entry (acl, *entry))
      return NULL;
  g_array_sort (acl->entries, compare);
  return is_valid (acl) ? g_steal_pointer (&acl) : NULL;
}

BangerAcl *
banger_acl_from_value (const guint8 *bytes, gsize length)
{
  struct posix_acl_xattr_header header;
  struct posix_acl_xattr_entry one;
  g_autoptr (BangerAcl) acl = acl_new ();
  if (length < sizeof header || (length - sizeof header) % sizeof one != 0)
    return NULL;
  memcpy (&header, bytes, sizeof header);
  for (gsize at = sizeof header; at < length; at += sizeof one) {
    memcpy (&one, bytes + at, sizeof one);
    gboolean named = one.e_tag == ACL_USER || one.e_tag == ACL_GROUP;
    Entry entry = { .tag = one.e_tag, .perm = one.e_perm, .id = named ? one.e_id : (guint32)ACL_UNDEFINED_ID };
    if (one.e_perm > 7 || (named && one.e_id == (guint32)ACL_UNDEFINED_ID) || !is_tag (one.e_tag))
      return NULL;
    g_array_append_val (acl->entries, entry);
  }
  g_array_sort (acl->entries, compare);
  return header.a_version == POSIX_ACL_XATTR_VERSION && is_valid (acl) ? g_steal_pointer (&acl) : NULL;
}

guint32
banger_acl_mode (const BangerAcl *acl)
{
  guint32 mode = 0;
  gboolean masked = count_tag (acl, ACL_MASK) > 0;
  for (guint i = 0; i < acl->entries->len; i++) {
    const Entry *entry = &g_array_index (acl->entries, Entry, i);
    if (entry->tag == ACL_USER_OBJ)
      mode |= (guint32)entry->perm << 6;
    if (entry->tag == (masked ? ACL_MASK : ACL_GROUP_OBJ))
      mode |= (guint32)entry->perm << 3;
    if (entry->tag == ACL_OTHER)
      mode |= entry->perm;
  }
  return mode;
}

gboolean
banger_acl_is_mode (const BangerAcl *acl)
{
  return acl->entries->len == 3;
}

gboolean
banger_acl_has_names (const BangerAcl *acl)
{
  for (guint i = 0; i < acl->entries->len; i++)
    if (g_array_index (acl->entries, Entry, i).name)
      return TRUE;
  return FALSE;
}

/* The third field of the line that begins with @name: both files have the number there. */
static gboolean
find_id (const GByteArray *file, const char *name, guint32 *ret_id)
{
  gsize length = strlen (name);
  for (guint at = 0; at < file->len;) {
    const char *line = (const char *)file->data + at;
    const char *end = memchr (line, '\n', file->len - at);
    gsize n = end ? (gsize)(end - line) : file->len - at;
    if (n > length && line[length] == ':' && memcmp (line, name, length) == 0) {
      g_autofree char *copy = g_strndup (line, n);
      g_auto (GStrv) fields = g_strsplit (copy, ":", 4);
      return g_strv_length (fields) > 2 && parse_id (fields[2], ret_id);
    }
    at += (guint)n + 1;
  }
  return FALSE;
}

const char *
banger_acl_resolve (BangerAcl *acl, const GByteArray *passwd, const GByteArray *group)
{
  for (guint i = 0; i < acl->entries->len; i++) {
    Entry *entry = &g_array_index (acl->entries, Entry, i);
    if (entry->name && !find_id (entry->tag == ACL_USER ? passwd : group, entry->name, &entry->id))
      return entry->name;
    g_clear_pointer (&entry->name, g_free);
  }
  g_array_sort (acl->entries, compare);
  return NULL;
}

GByteArray *
banger_acl_value (const BangerAcl *acl)
{
  const struct posix_acl_xattr_header header = { .a_version = POSIX_ACL_XATTR_VERSION };
  GByteArray *value = g_byte_array_new ();
  g_byte_array_append (value, (const guint8 *)&header, sizeof header);
  for (guint i = 0; i < acl->entries->len; i++) {
    const Entry *entry = &g_array_index (acl->entries, Entry, i);
    const struct posix_acl_xattr_entry one = { entry->tag, entry->perm, entry->id };
    g_byte_array_append (value, (const guint8 *)&one, sizeof one);
  }
  return value;
}

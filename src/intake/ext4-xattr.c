/* Extended attributes of the tree in memory, xattr(7).
 * Runs with the writer.
 * Never keeps what the kernel could not show, or what does not fit into an inode and one block. */
#include <string.h>
#include <sys/stat.h>

#include "common/error.h"
#include "intake/ext4-private.h"

#define MAX_NAME 255u
#define ENTRY_BYTES 16u                            /* struct ext2_ext_attr_entry */
#define BLOCK_ROOM (EXT4_BLOCK - 32u - 4u)         /* header, end */
#define INODE_ROOM (256u - 160u - 4u - 4u)         /* behind the inode's fields: magic, end */
#define TYPE_BIT(mode) (1u << ((mode) >> 12 & 15)) /* of S_IFMT */
#define ALL_TYPES 0xffffu

/* @types: which inodes may have it, as the kernel rules. */
static const struct {
  const char *name;
  gboolean open; /* something must follow */
  guint types;
} namespaces[] = {
  { "user.", TRUE, TYPE_BIT (S_IFREG) | TYPE_BIT (S_IFDIR) },
  { "trusted.", TRUE, ALL_TYPES },
  { "security.", TRUE, ALL_TYPES },
  { "system.posix_acl_access", FALSE, ALL_TYPES & ~TYPE_BIT (S_IFLNK) },
  { "system.posix_acl_default", FALSE, TYPE_BIT (S_IFDIR) },
};

static void
xattr_free (gpointer data)
{
  Ext4Xattr *xattr = data;
  g_free (xattr->name);
  g_free (xattr->value);
  g_free (xattr);
}

static gboolean
refuse (GError **error, const char *path, const BangerExt4Xattr *xattr, const char *why)
{
  g_autofree char *shown = g_utf8_make_valid (path, (gssize)MIN (strlen (path), 400));
  g_autofree char *name = g_utf8_make_valid (xattr->name, (gssize)MIN (strlen (xattr->name), 300));
  return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "%s: its extended attribute '%s' %s", shown, name, why);
}

static gsize
padded (gsize length)
{
  return (length + 3) & ~(gsize)3;
}

/* On the disk the namespace is a number. */
static gsize
room_of (const char *name, gsize length)
{
  const char *dot = strchr (name, '.');
  return ENTRY_BYTES + padded (strlen (dot ? dot + 1 : name)) + padded (length);
}

/* Returns: the row of the namespace; -1: Linux has none such, or not for this type. */
static int
find_namespace (const char *name, guint32 mode)
{
  for (guint i = 0; i < G_N_ELEMENTS (namespaces); i++)
    if (namespaces[i].open ? g_str_has_prefix (name, namespaces[i].name) : strcmp (name, namespaces[i].name) == 0)
      return (namespaces[i].types & TYPE_BIT (mode)) != 0 ? (int)i : -1;
  return -1;
}

static gboolean
add (BangerExt4Writer *writer, Ext4Inode *inode, const char *path, const BangerExt4Xattr *given, GError **error)
{
  int row = find_namespace (given->name, inode->mode);
  if (row < 0) {
    if (writer->foreign_xattrs++ == 0)
      writer->foreign_example = g_utf8_make_valid (given->name, (gssize)MIN (strlen (given->name), MAX_NAME));
    return TRUE;
  }
  if (strlen (given->name) > MAX_NAME)
    return refuse (error, path, given, "has a name of more than 255 bytes");
  if (namespaces[row].open && given->name[strlen (namespaces[row].name)] == '\0')
    return refuse (error, path, given, "has no name behind its namespace");
  gsize room = room_of (given->name, given->length);
  for (guint i = 0; inode->xattrs && i < inode->xattrs->len; i++) {
    const Ext4Xattr *other = inode->xattrs->pdata[i];
    room += room_of (other->name, other->length);
  }
  if (room > BLOCK_ROOM + INODE_ROOM || room_of (given->name, given->length) > BLOCK_ROOM)
    return refuse (error, path, given, "does not fit: all of a file together have 4 KiB");
  if (!inode->xattrs)
    inode->xattrs = g_ptr_array_new_with_free_func (xattr_free);
  Ext4Xattr *xattr = g_new0 (Ext4Xattr, 1);
  *xattr = (Ext4Xattr){ g_strdup (given->name), g_memdup2 (given->value, given->length), given->length };
  g_ptr_array_add (inode->xattrs, xattr);
  return TRUE;
}

gboolean
banger_ext4_copy_xattrs (BangerExt4Writer *writer, Ext4Inode *inode, const BangerExt4Entry *entry, GError **error)
{
  g_clear_pointer (&inode->xattrs, g_ptr_array_unref);
  for (guint i = 0; i < entry->n_xattrs; i++)
    if (!add (writer, inode, entry->path, &entry->xattrs[i], error))
      return FALSE;
  return TRUE;
}

gboolean
banger_ext4_writer_set_xattr (BangerExt4Writer *writer, BangerExt4Inode *inode, const char *path,
                              const BangerExt4Xattr *xattr, GError **error)
{
  return inode->links == 0 || add (writer, inode, path, xattr, error);
}

guint
banger_ext4_writer_foreign_xattrs (BangerExt4Writer *writer, const char **ret_example)
{
  *ret_example = writer->foreign_example;
  return writer->foreign_xattrs;
}

/* What the tree in memory is asked for, and what a layer takes away from those below it.
 * Runs with the writer.
 * Never leaves the tree, whatever a link says. */
#include <string.h>
#include <sys/stat.h>

#include "common/error.h"
#include "intake/ext4-private.h"

#define MAX_SYMLINKS 40 /* as the kernel follows */

static gboolean
refuse (GError **error, const char *path, const char *why)
{
  g_autofree char *shown = g_utf8_make_valid (path, (gssize)MIN (strlen (path), 400));
  return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "%s: %s", shown, why);
}

/* Inodes and names */

static void
inode_clear (Ext4Inode *inode)
{
  g_clear_pointer (&inode->runs, g_array_unref);
  g_clear_pointer (&inode->xattrs, g_ptr_array_unref);
  g_clear_pointer (&inode->children, g_tree_unref);
  g_clear_pointer (&inode->target, g_free);
}

void
banger_ext4_inode_free (gpointer data)
{
  inode_clear (data);
  g_free (data);
}

static int
compare_names (gconstpointer a, gconstpointer b, gpointer data)
{
  return strcmp (a, b);
}

Ext4Inode *
banger_ext4_inode_new (BangerExt4Writer *writer, guint32 mode)
{
  Ext4Inode *inode = g_new0 (Ext4Inode, 1);
  inode->mode = mode;
  inode->layer = inode->emptied = writer->layer;
  if (S_ISDIR (mode))
    inode->children = g_tree_new_full (compare_names, NULL, g_free, NULL);
  g_ptr_array_add (writer->inodes, inode);
  return inode;
}

void
banger_ext4_drop_data (BangerExt4Writer *writer, Ext4Inode *inode)
{
  if (inode->runs && inode->runs->len > 0)
    g_array_append_vals (writer->free_runs, inode->runs->data, inode->runs->len);
  g_clear_pointer (&inode->runs, g_array_unref);
}

char *
banger_ext4_normalise (const char *path, GError **error)
{
  size_t length = strlen (path);
  if (length > BANGER_EXT4_MAX_PATH) {
    refuse (error, path, "path is longer than 16384 bytes");
    return NULL;
  }
  g_autoptr (GString) out = g_string_sized_new (length);
  for (const char *start = path; *start != '\0';) {
    size_t n = strcspn (start, "/");
    const char *why = NULL;
    if (n > 255)
      why = "a name is longer than 255 bytes";
    else if (n == 2 && strncmp (start, "..", 2) == 0)
      why = "'..' in a path";
    if (why) {
      refuse (error, path, why);
      return NULL;
    }
    if (n > 0 && !(n == 1 && *start == '.')) {
      if (out->len > 0)
        g_string_append_c (out, '/');
      g_string_append_len (out, start, (gssize)n);
    }
    start += n + (start[n] == '/' ? 1 : 0);
  }
  return g_string_free (g_steal_pointer (&out), FALSE);
}

gboolean
banger_ext4_count_name (BangerExt4Writer *writer, GError **error)
{
  if (writer->added >= BANGER_EXT4_MAX_ENTRIES)
    return banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED, "more than %u entries", BANGER_EXT4_MAX_ENTRIES);
  writer->added++;
  writer->names++;
  return TRUE;
}

void
banger_ext4_link_child (Ext4Inode *dir, const char *name, Ext4Inode *child)
{
  g_tree_insert (dir->children, g_strdup (name), child);
  child->links++;
  if (S_ISDIR (child->mode)) {
    child->parent = dir;
    dir->subdirs++;
  }
}

Ext4Inode *
banger_ext4_walk_to_parent (BangerExt4Writer *writer, char *path, gboolean make, const char **ret_name, GError **error)
{
  char *slash = strrchr (path, '/');
  *ret_name = slash != NULL ? slash + 1 : path;
  if (!slash)
    return writer->root;
  if (writer->last_dir && strncmp (writer->last_dir_path, path, (size_t)(slash - path)) == 0
      && writer->last_dir_path[slash - path] == '\0')
    return writer->last_dir;

  g_autofree char *dirs = g_strndup (path, (gsize)(slash - path));
  Ext4Inode *dir = writer->root;
  char *rest = NULL;
  for (char *name = strtok_r (dirs, "/", &rest); name; name = strtok_r (NULL, "/", &rest)) {
    Ext4Inode *next = g_tree_lookup (dir->children, name);
    if (!next && make) {
      if (!banger_ext4_count_name (writer, error))
        return NULL;
      next = banger_ext4_inode_new (writer, S_IFDIR | 0755);
      next->mtime = writer->options.time;
      banger_ext4_link_child (dir, name, next);
    }
    if (next && S_ISLNK (next->mode) && next->layer < writer->layer)
      next = banger_ext4_resolve (writer, dir, next->target);
    if (!next || !S_ISDIR (next->mode)) {
      refuse (error, path, !next ? "no such entry" : "lies below what is no directory");
      return NULL;
    }
    dir = next;
  }
  g_free (writer->last_dir_path);
  writer->last_dir_path = g_strndup (path, (gsize)(slash - path));
  writer->last_dir = dir;
  return dir;
}

void
banger_ext4_unlink_child (BangerExt4Writer *writer, Ext4Inode *dir, const char *name, Ext4Inode *child)
{
  g_tree_remove (dir->children, name);
  writer->names--;
  child->links--;
  if (S_ISDIR (child->mode))
    dir->subdirs--;
  if (S_ISDIR (child->mode) || S_ISLNK (child->mode))
    writer->last_dir = NULL;
  if (child->links == 0) {
    banger_ext4_drop_data (writer, child);
    inode_clear (child);
  }
}

/* Symbolic links inside the tree, for the check that there is an init */

static Ext4Inode *
step (BangerExt4Writer *writer, Ext4Inode *dir, const char *name)
{
  if (strcmp (name, ".") == 0 || *name == '\0')
    return dir;
  if (strcmp (name, "..") == 0)
    return dir->parent;
  return g_tree_lookup (dir->children, name);
}

Ext4Inode *
banger_ext4_resolve (BangerExt4Writer *writer, Ext4Inode *here, const char *path)
{
  g_autofree char *rest = g_strdup (path);
  if (*path == '/')
    here = writer->root;
  for (guint links = 0; *rest != '\0';) {
    size_t n = strcspn (rest, "/");
    g_autofree char *name = g_strndup (rest, n);
    g_autofree char *after = g_strdup (rest + n + (rest[n] == '/' ? 1 : 0));
    Ext4Inode *next = S_ISDIR (here->mode) ? step (writer, here, name) : NULL;
    if (!next || (S_ISLNK (next->mode) && ++links > MAX_SYMLINKS))
      return NULL;
    g_free (rest);
    if (!S_ISLNK (next->mode)) {
      here = next;
      rest = g_steal_pointer (&after);
      continue;
    }
    if (next->target[0] == '/')
      here = writer->root;
    rest = *after != '\0' ? g_strconcat (next->target, "/", after, NULL) : g_strdup (next->target);
  }
  return here;
}

gboolean
banger_ext4_writer_has_program (BangerExt4Writer *writer, const char *path)
{
  const Ext4Inode *found = banger_ext4_resolve (writer, writer->root, path);
  return found && S_ISREG (found->mode) && (found->mode & 0111) != 0;
}

/* Returns: (transfer full): a sentence; NULL if it led to no directory, or is a link again. */
static char *
describe_replaced (BangerExt4Writer *writer, const Ext4Replaced *replaced)
{
  char *slash = strrchr (replaced->path, '/');
  g_autofree char *folder = slash ? g_strndup (replaced->path, (gsize)(slash - replaced->path)) : g_strdup ("");
  g_autofree char *led_to = replaced->target[0] == '/' ? g_strdup (replaced->target)
                                                       : g_strconcat (folder, "/", replaced->target, NULL);
  const Ext4Inode *parent = banger_ext4_resolve (writer, writer->root, folder),
                  *was = banger_ext4_resolve (writer, writer->root, led_to);
  const Ext4Inode *now = parent && S_ISDIR (parent->mode)
                             ? g_tree_lookup (parent->children, slash ? slash + 1 : replaced->path)
                             : NULL;
  if (!was || !S_ISDIR (was->mode) || !now || S_ISLNK (now->mode) || now == was)
    return NULL;
  return g_strdup_printf (
      "%.400s was a link to the folder %.400s and is a %s of its own now: what lies behind the link is "
      "not found there any more",
      replaced->path, replaced->target, S_ISDIR (now->mode) ? "folder" : "file");
}

char **
banger_ext4_writer_replaced_links (BangerExt4Writer *writer)
{
  g_autoptr (GPtrArray) texts = g_ptr_array_new ();
  for (guint i = 0; i < writer->replaced->len && texts->len < EXT4_MAX_REPLACED; i++) {
    char *text = describe_replaced (writer, writer->replaced->pdata[i]);
    if (text)
      g_ptr_array_add (texts, text);
  }
  g_ptr_array_add (texts, NULL);
  return (char **)g_ptr_array_steal (texts, NULL);
}

/* Layers */

static char *
link_key (const Ext4Inode *dir, const char *name)
{
  return g_strdup_printf ("%p/%s", (gconstpointer)dir, name);
}

void
banger_ext4_note_link (BangerExt4Writer *writer, const Ext4Inode *dir, const char *name, const Ext4Inode *target)
{
  if (target->layer == writer->layer)
    return;
  if (!writer->own_links)
    writer->own_links = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  g_hash_table_add (writer->own_links, link_key (dir, name));
}

static gboolean
is_own_link (BangerExt4Writer *writer, const Ext4Inode *dir, const char *name)
{
  g_autofree char *key = writer->own_links ? link_key (dir, name) : NULL;
  return key && g_hash_table_contains (writer->own_links, key);
}

void
banger_ext4_remove_name (BangerExt4Writer *writer, Ext4Inode *dir, const char *name, Ext4Inode *child)
{
  if (S_ISDIR (child->mode))
    banger_ext4_remove_lower (writer, child);
  if (child->layer == writer->layer || is_own_link (writer, dir, name)
      || (S_ISDIR (child->mode) && g_tree_nnodes (child->children) > 0))
    return;
  banger_ext4_unlink_child (writer, dir, name, child);
}

static gboolean
collect_name (gpointer name, gpointer child, gpointer names)
{
  g_ptr_array_add (names, g_strdup (name));
  return FALSE;
}

void
banger_ext4_remove_lower (BangerExt4Writer *writer, Ext4Inode *dir)
{
  if (dir->emptied == writer->layer)
    return;
  dir->emptied = writer->layer;
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  g_tree_foreach (dir->children, collect_name, names);
  for (guint i = 0; i < names->len; i++)
    banger_ext4_remove_name (writer, dir, names->pdata[i], g_tree_lookup (dir->children, names->pdata[i]));
}

gboolean
banger_ext4_gives_way (BangerExt4Writer *writer, Ext4Inode *old)
{
  if (!S_ISDIR (old->mode))
    return TRUE;
  banger_ext4_remove_lower (writer, old);
  return g_tree_nnodes (old->children) == 0;
}

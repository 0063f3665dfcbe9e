/* Entries of two file systems on their way into two others: some are left out, some emptied, some lose a few lines.
 * Used by image.c.
 * Never writes to a disk. */
#include "intake/commit.h"

#include <fnmatch.h>
#include <string.h>
#include <sys/stat.h>

#include "common/error.h"
#include "common/guest-protocol.h"

#define ROOT "/root"
#define LOST_FOUND "/lost+found"
#define MAX_TEXT (1u << 20) /* a larger one is not looked through: it stays as it is */

/* Returns: (transfer full): @text without what banger-guest wrote. */
typedef char *(*Filter) (const char *text);

/* Goes through lines with their ends. */
static char *
keep_lines (const char *text, gboolean (*is_kept) (const char *line, gsize length, gboolean *inside))
{
  g_autoptr (GString) kept = g_string_new (NULL);
  gboolean inside = FALSE;
  while (*text != '\0') {
    gsize length = strcspn (text, "\n"), whole = length + (text[length] == '\n');
    if (is_kept (text, length, &inside))
      g_string_append_len (kept, text, (gssize)whole);
    text += whole;
  }
  return g_string_free (g_steal_pointer (&kept), FALSE);
}

static gboolean
is_line (const char *line, gsize length, const char *wanted)
{
  return length == strlen (wanted) && memcmp (line, wanted, length) == 0;
}

static gboolean
is_no_key (const char *line, gsize length, gboolean *inside)
{
  if (is_line (line, length, BANGER_GUEST_KEYS_BEGIN) && strstr (line, "\n" BANGER_GUEST_KEYS_END "\n"))
    *inside = TRUE;
  gboolean kept = !*inside;
  if (is_line (line, length, BANGER_GUEST_KEYS_END))
    *inside = FALSE;
  return kept;
}

static gboolean
is_no_host (const char *line, gsize length, gboolean *inside)
{
  gsize mark = strlen (BANGER_GUEST_HOSTS_MARK);
  return length < mark || memcmp (line + length - mark, BANGER_GUEST_HOSTS_MARK, mark) != 0;
}

static gboolean
is_no_login (const char *line, gsize length, gboolean *inside)
{
  return !g_str_has_prefix (line, BANGER_GUEST_LOGIN ":");
}

static char *
without_keys (const char *text)
{
  return keep_lines (text, is_no_key);
}

static char *
without_host (const char *text)
{
  return keep_lines (text, is_no_host);
}

static char *
without_login (const char *text)
{
  return keep_lines (text, is_no_login);
}

static char *
without_servers (const char *text)
{
  return g_strdup (g_str_has_prefix (text, BANGER_GUEST_RESOLV_MARK "\n") ? "" : text);
}

static char *
without_all (const char *text)
{
  return g_strdup ("");
}

/* What banger-guest writes at each start (src/guest/configure.c), and what services keep for the next one
 * (src/guest/identity.c): an image has none of it. */
typedef struct {
  const char *pattern; /* fnmatch(3), of a whole path */
  Filter filter;       /* NULL: it is left out */
} Own;
static const Own own[] = {
  { "/etc/machine-id", without_all }, /* without the file systemd may take it for a first boot */
  { "/var/lib/dbus/machine-id", NULL },
  { "/etc/hostname", NULL },
  { "/etc/hosts", without_host },
  { "/etc/passwd", without_login },
  { "/etc/resolv.conf", without_servers },
  { "/etc/ssh/ssh_host_*key*", NULL },
  { ROOT "/.ssh/authorized_keys", without_keys },
  { "/var/lib/systemd/random-seed", NULL },
  { "/var/lib/systemd/credential.secret", NULL },
  { "/var/lib/urandom/random-seed", NULL },
  { "/var/lib/dhcp/*.lease*", NULL },
  { "/var/lib/dhclient/*.lease*", NULL },
  { "/var/lib/dhcpcd/*.lease*", NULL },
  { "/var/lib/NetworkManager/*.lease", NULL },
  { "/var/lib/NetworkManager/secret_key", NULL },
  /* what people typed, secrets too, and what the machine wrote down of itself */
  { ROOT "/.*_history", NULL },
  { "/home/*/.*_history", NULL },
  { ROOT "/.lesshst", NULL },
  { "/home/*/.lesshst", NULL },
  { ROOT "/.viminfo", NULL },
  { "/home/*/.viminfo", NULL },
  { "/var/log/journal/*", NULL },
  { "/var/log/wtmp", without_all },
  { "/var/log/btmp", without_all },
  { "/var/log/lastlog", without_all },
};

static const Own *
find_own (const char *path)
{
  for (guint i = 0; i < G_N_ELEMENTS (own); i++)
    if (fnmatch (own[i].pattern, path, FNM_PATHNAME) == 0)
      return &own[i];
  return NULL;
}

/* One of the two disks. */
typedef struct {
  const BangerCommit *commit;
  BangerExt4Reader *from;
  const char *below;           /* where the guest has it: "" or ROOT */
  gboolean to_rootfs, to_seed; /* where the bytes of the file under way go */
  GHashTable *copied;          /* inside it: what came from the owner's home, and is left out */
  guint64 *done, used;         /* of both */
} Tree;

static gboolean
skip (gpointer data, const char *inside)
{
  const Tree *tree = data;
  g_autofree char *path = g_strconcat (tree->below, inside, NULL);
  if (strcmp (inside, LOST_FOUND) == 0)
    return TRUE;
  if (*tree->below == '\0' && tree->commit->work && strcmp (path, ROOT) == 0) /* the other one lies over it */
    return TRUE;
  const Own *row = find_own (path);
  return row && !row->filter;
}

/* Returns: what is in it below /root; %NULL: it is not. */
static const char *
in_seed (const char *path)
{
  const char *inside = g_str_has_prefix (path, ROOT) ? path + strlen (ROOT) : NULL;
  return inside && (*inside == '\0' || *inside == '/') ? inside : NULL;
}

static gboolean
add (Tree *tree, const BangerExt4Entry *entry, GError **error)
{
  const char *inside = in_seed (entry->path), *link = entry->hardlink ? in_seed (entry->hardlink) : "";
  tree->to_rootfs = TRUE;
  tree->to_seed = inside && link;
  if (!banger_ext4_writer_add (tree->commit->rootfs, entry, error))
    return FALSE;
  if (!tree->to_seed)
    return TRUE;
  BangerExt4Entry below = *entry;
  below.path = inside;
  below.hardlink = entry->hardlink ? link : NULL;
  return banger_ext4_writer_add (tree->commit->seed, &below, error);
}

static gboolean
give (const Tree *tree, const void *bytes, gsize length, guint64 offset, GError **error)
{
  return (!tree->to_rootfs || banger_ext4_writer_data (tree->commit->rootfs, bytes, length, offset, error))
         && (!tree->to_seed || banger_ext4_writer_data (tree->commit->seed, bytes, length, offset, error));
}

/* Returns: (transfer full): what becomes of a file; %NULL: it stays as it is. */
static char *
filtered (const Tree *tree, const BangerExt4Entry *entry, const char *path)
{
  const Own *row = S_ISREG (entry->mode) && !entry->hardlink ? find_own (path) : NULL;
  if (row && row->filter == without_all)
    return g_strdup ("");
  if (!row || entry->size > MAX_TEXT)
    return NULL;
  g_autoptr (GByteArray) bytes = banger_ext4_reader_read_file (tree->from, entry->path, MAX_TEXT);
  if (!bytes || memchr (bytes->data, '\0', bytes->len))
    return NULL;
  g_autofree char *text = g_strndup ((const char *)bytes->data, bytes->len);
  return row->filter (text);
}

/* Of each of its names. */
static gboolean
is_copied (Tree *tree, const BangerExt4Entry *entry)
{
  if (entry->hardlink)
    return g_hash_table_contains (tree->copied, entry->hardlink);
  for (gsize i = 0; i < entry->n_xattrs && !S_ISDIR (entry->mode); i++)
    if (strcmp (entry->xattrs[i].name, BANGER_GUEST_COPIED_XATTR) == 0) {
      g_hash_table_add (tree->copied, g_strdup (entry->path));
      return TRUE;
    }
  return FALSE;
}

static gboolean
take_entry (gpointer data, const BangerExt4Entry *entry, const GArray *runs, GError **error)
{
  Tree *tree = data;
  BangerExt4Entry whole = *entry;
  if (is_copied (tree, entry)) {
    tree->to_rootfs = tree->to_seed = FALSE;
    return TRUE;
  }
  g_autofree char *path = g_strconcat (tree->below, entry->path, NULL);
  g_autofree char *link = entry->hardlink ? g_strconcat (tree->below, entry->hardlink, NULL) : NULL;
  g_autofree char *text = filtered (tree, entry, path);
  whole.path = path;
  whole.hardlink = link;
  whole.size = text ? strlen (text) : entry->size;
  if (!add (tree, &whole, error) || (text && *text != '\0' && !give (tree, text, strlen (text), 0, error)))
    return FALSE;
  if (text)
    tree->to_rootfs = tree->to_seed = FALSE;
  return TRUE;
}

static gboolean
take_bytes (gpointer data, const void *bytes, gsize length, guint64 offset, GError **error)
{
  const Tree *tree = data;
  const BangerCommit *commit = tree->commit;
  *tree->done += length;
  commit->progress (MIN ((double)*tree->done / (double)MAX (tree->used, 1), 1.0), commit->progress_data);
  return give (tree, bytes, length, offset, error);
}

static gboolean
walk (Tree *tree, GError **error)
{
  const BangerExt4Sink sink = { .add = take_entry, .bytes = take_bytes, .skip = skip, .data = tree };
  g_autoptr (GHashTable) copied = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  tree->copied = copied;
  return banger_ext4_reader_walk (tree->from, "/", &sink, NULL, error);
}

gboolean
banger_commit_read (const BangerCommit *commit, GError **error)
{
  guint64 size, root_used, work_used = 0, done = 0;
  banger_ext4_reader_sizes (commit->root, &size, &root_used);
  if (commit->work)
    banger_ext4_reader_sizes (commit->work, &size, &work_used);
  Tree root = { .commit = commit, .from = commit->root, .below = "", .done = &done, .used = root_used + work_used };
  Tree work = { .commit = commit, .from = commit->work, .below = ROOT, .done = &done, .used = root_used + work_used };
  return walk (&root, error) && (!commit->work || walk (&work, error));
}

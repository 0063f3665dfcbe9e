/* The state file of a snapshot: what the VM was, and where its memory is.
 * Never believed: whoever could write the file may have written anything. */
#include "engine/snapshot-file.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/bytes.h"

/* With the version of what follows: another one is another file. */
#define MAGIC "banger snapshot 1\n"

static const BangerBodyField fields[] = {
  { "vmm", BANGER_FIELD_STRING, TRUE, offsetof (BangerSnapshotFile, vmm), 0, NULL },
  { "kvm", BANGER_FIELD_BOOL, TRUE, offsetof (BangerSnapshotFile, kvm), 0, NULL },
  { "mapped", BANGER_FIELD_BOOL, TRUE, offsetof (BangerSnapshotFile, mapped), 0, NULL },
  { "stream_bytes", BANGER_FIELD_UINT, TRUE, offsetof (BangerSnapshotFile, stream_bytes), G_MAXINT64, NULL },
  { "config", BANGER_FIELD_NODE, TRUE, offsetof (BangerSnapshotFile, config), 0, NULL },
  { NULL, BANGER_FIELD_STRING, FALSE, 0, 0, NULL },
};

static gboolean
fault (GError **error, const char *what)
{
  g_set_error_literal (error, BANGER_VMM_ERROR, BANGER_VMM_ERROR_REQUEST, what);
  return FALSE;
}

gboolean
banger_snapshot_file_write (int fd, const BangerSnapshotFile *file, GError **error)
{
  g_autofree char *header = g_malloc0 (BANGER_SNAPSHOT_HEADER);
  g_autoptr (JsonNode) root = banger_body_write (fields, file);
  g_autofree char *text = json_to_string (root, FALSE);
  if (strlen (MAGIC) + strlen (text) >= BANGER_SNAPSHOT_HEADER)
    return fault (error, "the configuration does not fit into the state file");
  strcpy (stpcpy (header, MAGIC), text);
  return banger_write_at (fd, header, BANGER_SNAPSHOT_HEADER, 0) == 0 || fault (error, g_strerror (errno));
}

gboolean
banger_snapshot_file_read (int fd, BangerSnapshotFile *ret_file, GError **error)
{
  g_autofree char *header = g_malloc0 (BANGER_SNAPSHOT_HEADER + 1);
  ssize_t n = banger_read_at (fd, header, BANGER_SNAPSHOT_HEADER, 0);
  if (n < BANGER_SNAPSHOT_HEADER)
    return fault (error, n < 0 ? g_strerror (errno) : "the file is cut off");
  if (!g_str_has_prefix (header, MAGIC))
    return fault (error, "not a state file of this VMM, or one that was never finished");
  const char *text = header + strlen (MAGIC);
  g_autoptr (JsonNode) root = banger_body_parse (text, strlen (text), error);
  return root && banger_body_read (root, fields, ret_file, error);
}

void
banger_snapshot_file_clear (BangerSnapshotFile *file)
{
  banger_body_clear (fields, file);
}

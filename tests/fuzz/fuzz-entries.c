/* What `banger vm cp` makes of what comes out of a guest: frames of a program that was taken over, and a tar by that program's own
 * code; whatever they say goes below one folder.
 * Run as replay.c says.
 * Never touches another folder: that this holds is what is looked at. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"
#include "intake/entries.h"
#include "intake/files.h"

typedef struct {
  const uint8_t *bytes;
  size_t left;
} Input;

static gssize
read_input (void *bytes, gsize length, gpointer data)
{
  Input *input = data;
  gsize n = MIN (length, input->left);
  memcpy (bytes, input->bytes, n);
  input->bytes += n;
  input->left -= n;
  return (gssize)n;
}

static int
open_up (const char *path, const struct stat *st, int type, struct FTW *ftw)
{
  return type == FTW_D || type == FTW_DNR ? chmod (path, 0700) : 0;
}

static int
remove_one (const char *path, const struct stat *st, int type, struct FTW *ftw)
{
  return type == FTW_DP ? rmdir (path) : unlink (path);
}

static void
remove_all (const char *top)
{
  nftw (top, open_up, 16, FTW_PHYS);
  nftw (top, remove_one, 16, FTW_PHYS | FTW_DEPTH);
}

static char *around, *target;

/* Beside the destination there is one file, as it was. */
static void
check_around (void)
{
  g_autoptr (GDir) dir = g_dir_open (around, 0, NULL);
  g_autofree char *mine = g_build_filename (around, "mine", NULL), *content = NULL;
  guint n = 0;
  while (g_dir_read_name (dir))
    n++;
  g_assert_cmpuint (n, <=, 2);
  g_assert_true (g_file_get_contents (mine, &content, NULL, NULL));
  g_assert_cmpstr (content, ==, "mine");
}

/* As vm cp: what cannot be written is passed over. */
static gboolean
put (BangerTreeWriter *writer, const BangerTreeEntry *entry)
{
  int next = 1;
  while (next > 0) {
    if ((entry ? banger_tree_entry (writer, entry) : banger_tree_finish (writer)) == 0)
      return TRUE;
    next = banger_tree_skip (writer);
  }
  return next == 0;
}

static gboolean
write_frame (BangerTreeWriter *writer, const BangerEntriesFrame *frame)
{
  switch (frame->kind) {
    case BANGER_ENTRIES_ENTRY:
      g_assert_cmpuint (strlen (frame->entry.path), <, BANGER_ENTRIES_MAX_NAME);
      g_assert_cmpuint (strlen (frame->entry.link), <, BANGER_ENTRIES_MAX_NAME);
      return put (writer, &frame->entry);
    case BANGER_ENTRIES_DATA:
      g_assert_cmpuint (frame->length, <=, BANGER_ENTRIES_MAX_DATA);
      return banger_tree_data (writer, frame->bytes, frame->length, frame->offset) == 0;
    case BANGER_ENTRIES_FAILED:
      g_assert_cmpuint (strlen (frame->text), <=, BANGER_INTAKE_MAX_TEXT);
      return FALSE;
    case BANGER_ENTRIES_END:
      return put (writer, NULL);
  }
  g_assert_not_reached ();
}

static void
make_folders (void)
{
  if (around)
    return;
  around = g_dir_make_tmp ("fuzz-entries-XXXXXX", NULL);
  target = g_build_filename (around, "target", NULL);
  g_autofree char *mine = g_build_filename (around, "mine", NULL);
  g_assert_true (g_file_set_contents (mine, "mine", -1, NULL));
}

static void
write_all (Input input, BangerTreeKind kind)
{
  BangerTreePlace place;
  BangerEntriesFrame frame;
  char *missing = NULL;
  make_folders ();
  g_assert_true (mkdir (target, 0700) == 0 || errno == EEXIST);
  g_assert_cmpint (banger_tree_place (target, kind, "name", &place, &missing), ==, 0);
  BangerTreeWriter *writer = banger_tree_writer_new (&place);
  g_autoptr (BangerEntriesReader) reader = banger_entries_reader_new (read_input, &input);
  while (banger_entries_next (reader, &frame) && write_frame (writer, &frame))
    continue;
  gboolean empty = banger_tree_counts (writer).entries == 0;
  banger_tree_writer_free (writer);
  check_around ();
  if (!empty)
    remove_all (target);
}

__attribute__ ((destructor)) static void
remove_folders (void)
{
  if (around)
    remove_all (around);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  int from = memfd_create ("tar", MFD_CLOEXEC), to = memfd_create ("frames", MFD_CLOEXEC);
  struct stat st;
  g_assert_cmpint (write (from, data, size), ==, size);
  lseek (from, 0, SEEK_SET);
  g_assert_true (banger_intake_files (from, to));
  g_assert_cmpint (fstat (to, &st), ==, 0);
  g_autofree uint8_t *frames = g_malloc ((gsize)st.st_size + 1);
  g_assert_cmpint (pread (to, frames, (size_t)st.st_size, 0), ==, st.st_size);
  close (from);
  close (to);
  const Input inputs[] = { { data, size }, { frames, (size_t)st.st_size } };
  for (guint i = 0; i < G_N_ELEMENTS (inputs); i++)
    write_all (inputs[i], (BangerTreeKind)(size % 3));
  return 0;
}

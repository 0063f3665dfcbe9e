/* The two files of a suspended VM: kept once they are whole, held against what its record says of them, dropped.
 * Never believes a file by its name: sizes, sum, banger's version and the processor's model must be the recorded ones. */
#include "manager/vm/private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "manager/core/work.h"
#include "manager/disk/stamp.h"

#define CHUNK (1 << 20)
#define LANES 4
#define MULTIPLY G_GUINT64_CONSTANT (0x9E3779B185EBCA87)

typedef struct {
  BangerVm *vm;
  gboolean left;
  char *recorded; /* of the record when it was asked */
  char *found;    /* what it would be now */
} Saved;

static const struct {
  const char *fresh, *kept;
} files[] = {
  { BANGER_FILE_VM_SAVE_STATE, BANGER_FILE_VM_SAVED_STATE },
  { BANGER_FILE_VM_SAVE_MEMORY, BANGER_FILE_VM_SAVED_MEMORY },
};

static void
saved_free (gpointer data)
{
  Saved *saved = data;
  saved->vm->behind -= saved->left;
  g_free (saved->recorded);
  g_free (saved->found);
  banger_vm_unref (saved->vm);
  g_free (saved);
}

static Saved *
saved_new (BangerVm *vm)
{
  Saved *saved = g_new0 (Saved, 1);
  saved->vm = banger_vm_ref (vm);
  saved->recorded = g_strdup (vm->record.suspended);
  return saved;
}

/* Against rot and mix-ups, not against their owner: quick enough that nobody waits for it. */
typedef struct {
  guint64 lanes[LANES];
} Sum;

static void
sum_add (Sum *sum, const guint8 *data, gsize length)
{
  for (; length >= sizeof sum->lanes; data += sizeof sum->lanes, length -= sizeof sum->lanes)
    for (int i = 0; i < LANES; i++) {
      guint64 word;
      memcpy (&word, data + 8 * i, sizeof word);
      guint64 mixed = sum->lanes[i] + word * MULTIPLY;
      sum->lanes[i] = ((mixed << 31) | (mixed >> 33)) * MULTIPLY;
    }
  for (; length > 0; data++, length--)
    sum->lanes[0] = (sum->lanes[0] ^ *data) * MULTIPLY;
}

static gboolean
sum_file (int fd, Sum *sum, GCancellable *cancellable, GError **error)
{
  g_autofree guint8 *chunk = g_malloc (CHUNK);
  for (;;) {
    if (g_cancellable_set_error_if_cancelled (cancellable, error))
      return FALSE;
    gsize held = 0; /* whole chunks, whatever read(2) gives */
    ssize_t n;
    while (held < CHUNK && (n = read (fd, chunk + held, CHUNK - held)) != 0) {
      if (n < 0 && errno != EINTR)
        return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read it");
      held += (gsize)MAX (n, 0);
    }
    sum_add (sum, chunk, held);
    if (held < CHUNK)
      return TRUE;
  }
}

char *
vm_saved_describe (int dir_fd, const char *dir_path, const char *const *names, gboolean sync, GCancellable *cancellable,
                   GError **error)
{
  Sum sum = { { 1, 2, 3, 4 } };
  struct stat st[VM_SAVED_FILES];
  for (gsize i = 0; i < VM_SAVED_FILES; i++) {
    banger_autofd int fd = openat (dir_fd, names[i], O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat (fd, &st[i]) < 0 || (sync && fsync (fd) < 0)) {
      banger_set_error_errno (error, BANGER_ERROR_STATE_CORRUPT, errno, "%s/%s", dir_path, names[i]);
      return NULL;
    }
    if (!S_ISREG (st[i].st_mode) || st[i].st_size == 0) {
      banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "%s/%s is %s", dir_path, names[i],
                        S_ISREG (st[i].st_mode) ? "empty" : "no file");
      return NULL;
    }
    if (!sum_file (fd, &sum, cancellable, error)) {
      g_prefix_error (error, "%s/%s: ", dir_path, names[i]);
      return NULL;
    }
  }
  g_autofree char *model = banger_stamp_processor ();
  guint64 all = sum.lanes[0] ^ (sum.lanes[1] << 1) ^ (sum.lanes[2] << 2) ^ (sum.lanes[3] << 3);
  return g_strdup_printf ("1 " BANGER_VERSION " %" G_GINT64_FORMAT " %" G_GINT64_FORMAT " %016" G_GINT64_MODIFIER
                          "x %s",
                          (gint64)st[0].st_size, (gint64)st[1].st_size, all, model);
}

static char *
describe (const BangerVm *vm, gboolean fresh, gboolean sync, GCancellable *cancellable, GError **error)
{
  const char *const names[] = { fresh ? files[0].fresh : files[0].kept, fresh ? files[1].fresh : files[1].kept };
  G_STATIC_ASSERT (G_N_ELEMENTS (names) == VM_SAVED_FILES && G_N_ELEMENTS (files) == VM_SAVED_FILES);
  return vm_saved_describe (vm->dir_fd, vm->dir_path, names, sync, cancellable, error);
}

static gboolean
rename_all (const BangerVm *vm, GError **error)
{
  for (gsize i = 0; i < G_N_ELEMENTS (files); i++)
    if (renameat (vm->dir_fd, files[i].fresh, vm->dir_fd, files[i].kept) < 0)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot keep %s", files[i].fresh);
  return fsync (vm->dir_fd) == 0
         || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot write the folder of the VM");
}

static gboolean
keep (gpointer data, GCancellable *cancellable, GError **error)
{
  Saved *saved = data;
  saved->found = describe (saved->vm, TRUE, TRUE, cancellable, error);
  return saved->found && rename_all (saved->vm, error);
}

static gboolean
drop (gpointer data, GCancellable *cancellable, GError **error)
{
  const Saved *saved = data;
  gboolean ok = TRUE;
  for (gsize i = 0; i < G_N_ELEMENTS (files); i++) {
    struct stat st;
    /* A VMM that runs has the fresh ones, by their inodes: they are emptied, and have their names again. */
    if (fstatat (saved->vm->dir_fd, files[i].fresh, &st, AT_SYMLINK_NOFOLLOW) < 0)
      (void)renameat (saved->vm->dir_fd, files[i].kept, saved->vm->dir_fd, files[i].fresh);
    banger_autofd int fd = openat (saved->vm->dir_fd, files[i].fresh,
                                   O_WRONLY | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if ((unlinkat (saved->vm->dir_fd, files[i].kept, 0) < 0 && errno != ENOENT && ok)
        || (fd < 0 && errno != ENOENT && ok))
      ok = banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot drop %s", files[i].kept);
  }
  return ok;
}

static void
take_back (gpointer data)
{
  drop (data, NULL, NULL);
}

/* Each difference in a word of its own: what does not fit is not lost, and may fit again. */
gboolean
vm_saved_compare (const char *recorded, const char *found, const char *where, GError **error)
{
  g_auto (GStrv) was = g_strsplit (recorded, " ", 6), is = g_strsplit (found, " ", 6);
  if (g_strv_length (was) != 6 || !g_str_equal (was[0], is[0]) || !g_str_equal (was[1], is[1]))
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE,
                             "it was suspended by banger %s, this is " BANGER_VERSION ", which cannot take it up",
                             was[0] && was[1] ? was[1] : "?");
  if (!g_str_equal (was[5], is[5]))
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE,
                             "it was suspended on another processor, %s: this one is %s", was[5], is[5]);
  if (!g_str_equal (was[2], is[2]) || !g_str_equal (was[3], is[3]) || !g_str_equal (was[4], is[4]))
    return banger_set_error (error, BANGER_ERROR_STATE_CORRUPT,
                             "what was saved of it is damaged (%s are not as they were written)", where);
  return TRUE;
}

static gboolean
compare (const Saved *saved, GError **error)
{
  g_autofree char *where = g_strdup_printf ("%s and %s in %s", files[0].kept, files[1].kept, saved->vm->dir_path);
  return vm_saved_compare (saved->recorded, saved->found, where, error);
}

static gboolean
check (gpointer data, GCancellable *cancellable, GError **error)
{
  Saved *saved = data;
  saved->found = describe (saved->vm, FALSE, FALSE, cancellable, error);
  return saved->found && compare (saved, error);
}

/* For the next suspension of a VM that is about to start; and nothing of an earlier one, unless it is to go on from it. */
static gboolean
renew (gpointer data, GCancellable *cancellable, GError **error)
{
  const Saved *saved = data;
  for (gsize i = 0; i < G_N_ELEMENTS (files); i++) {
    const char *const old[] = { files[i].fresh, *saved->recorded ? NULL : files[i].kept };
    for (gsize j = 0; j < G_N_ELEMENTS (old); j++)
      if (old[j] && unlinkat (saved->vm->dir_fd, old[j], 0) < 0 && errno != ENOENT)
        return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot remove %s", old[j]);
    banger_autofd int fd = openat (saved->vm->dir_fd, files[i].fresh,
                                   O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make %s", files[i].fresh);
  }
  return TRUE;
}

static void
remove_fresh (gpointer data)
{
  const Saved *saved = data;
  for (gsize i = 0; i < G_N_ELEMENTS (files); i++)
    (void)unlinkat (saved->vm->dir_fd, files[i].fresh, 0);
}

void
vm_files_keep_saved_async (BangerVm *vm, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  static const BangerWork keeping = { "keep-saved", keep, take_back, saved_free };
  banger_work_async (&keeping, saved_new (vm), cancellable, callback, user_data);
}

/* As vm_files_finish(): what is left alone still writes. */
static gboolean
saved_finish (GAsyncResult *result, GError **error)
{
  Saved *saved = banger_work_data (result);
  if (banger_work_is_left (result) && !saved->left) {
    saved->left = TRUE;
    saved->vm->behind++;
  }
  return banger_work_finish (result, error);
}

char *
vm_files_keep_saved_finish (GAsyncResult *result, GError **error)
{
  Saved *saved = banger_work_data (result);
  return saved_finish (result, error) ? g_steal_pointer (&saved->found) : NULL;
}

static const BangerWork dropping = { "drop-saved", drop, NULL, saved_free };

void
vm_files_drop_saved_async (BangerVm *vm, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  banger_work_async (&dropping, saved_new (vm), cancellable, callback, user_data);
}

void
vm_files_check_saved_async (BangerVm *vm, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  static const BangerWork checking = { "check-saved", check, NULL, saved_free };
  banger_work_async (&checking, saved_new (vm), cancellable, callback, user_data);
}

void
vm_files_renew_saved_async (BangerVm *vm, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  static const BangerWork renewing = { "renew-saved", renew, remove_fresh, saved_free };
  banger_work_async (&renewing, saved_new (vm), cancellable, callback, user_data);
}

gboolean
vm_files_saved_finish (GAsyncResult *result, GError **error)
{
  return saved_finish (result, error);
}

static void
on_forgotten (GObject *source, GAsyncResult *result, gpointer data)
{
  const Saved *saved = banger_work_data (result);
  g_autoptr (GError) error = NULL;
  if (!banger_work_finish (result, &error))
    vm_log (saved->vm, NULL, LOG_WARNING, "what was saved of it is left until its next start: %s", error->message);
}

/* Nobody waits for it from the beginning. */
void
vm_forget_saved (BangerVm *vm)
{
  Saved *saved = saved_new (vm);
  saved->left = TRUE;
  vm->behind++;
  banger_work_async (&dropping, saved, NULL, on_forgotten, NULL);
}

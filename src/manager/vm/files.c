/* What a verb makes, reads and removes in the VM's folder, each in a worker: a disk may hang.
 * Never lets two starts of a VM write there at a time: vm->behind counts the workers that nobody waits for any more. */
#include "manager/vm/private.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/fd.h"
#include "common/guest-protocol.h"
#include "manager/core/later.h"
#include "manager/core/record.h"
#include "manager/core/work.h"
#include "manager/disk/rootdisk.h"
#include "manager/vm/guest-config.h"
#include "manager/vm/initrd.h"

#define TAIL_BYTES 2048
#define TAIL_LINES 12
#define TAIL_SECONDS 2 /* that a message waits for what it quotes */
#define SETTLE_LOOK_MSEC 20
#define LINE_SECONDS 2 /* that a deletion waits for the line in known_hosts */
#define GUEST_BINARY BANGER_LIBEXECDIR "/banger-guest"

/* One work: the members that it needs. */
typedef struct {
  BangerVm *vm;
  gboolean writes; /* no start may begin before it has ended */
  gboolean left;   /* nobody waits for it any more */
  int from_fd;     /* folder of an image or a kernel, -1 */
  const char *from, *to;
  guint64 bytes;
  off_t was; /* how large what was made larger was; 0: it was not */
  BangerJobProgress *progress;
  GPtrArray *names;    /* to be removed */
  BangerSshPaths *ssh; /* the table's may go first */
  gboolean known_host;
  VmGuestConfig *guest;
  char *address;
  char *text; /* that was read */
  int log_fd; /* that was opened */
  gboolean removed;
  GCancellable *late; /* bounds it */
} Work;

static Work *
work_new (BangerVm *vm, gboolean writes)
{
  Work *work = g_new0 (Work, 1);
  work->vm = banger_vm_ref (vm);
  work->writes = writes;
  work->from_fd = work->log_fd = -1;
  return work;
}

static void
work_free (gpointer data)
{
  Work *work = data;
  work->vm->behind -= work->left && work->writes;
  banger_clear_fd (&work->from_fd);
  banger_clear_fd (&work->log_fd);
  g_clear_pointer (&work->progress, banger_job_progress_free);
  g_clear_pointer (&work->names, g_ptr_array_unref);
  g_clear_pointer (&work->ssh, banger_ssh_paths_free);
  g_clear_object (&work->late);
  g_clear_pointer (&work->guest, vm_guest_config_free);
  g_free (work->address);
  g_free (work->text);
  banger_vm_unref (work->vm);
  g_free (work);
}

gboolean
vm_files_finish (GAsyncResult *result, GError **error)
{
  Work *work = banger_work_data (result);
  if (banger_work_is_left (result) && !work->left) {
    work->left = TRUE;
    work->vm->behind += work->writes;
  }
  return banger_work_finish (result, error);
}

/* What is left alone may end at any time, and tells nobody. */
static gboolean
on_settle_look (gpointer data)
{
  GTask *task = data;
  const BangerVm *vm = g_task_get_task_data (task);
  if (g_task_return_error_if_cancelled (task))
    return G_SOURCE_REMOVE;
  if (vm->behind > 0)
    return G_SOURCE_CONTINUE;
  g_task_return_boolean (task, TRUE);
  return G_SOURCE_REMOVE;
}

void
vm_files_settle_async (BangerVm *vm, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  GTask *task = g_task_new (NULL, cancellable, callback, user_data);
  g_task_set_task_data (task, banger_vm_ref (vm), (GDestroyNotify)banger_vm_unref);
  g_timeout_add_full (G_PRIORITY_DEFAULT, SETTLE_LOOK_MSEC, on_settle_look, task, g_object_unref);
}

gboolean
vm_files_settle_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

/* What is not worth a longer wait. */
static void
bounded_async (const BangerWork *kind, Work *work, guint seconds, GAsyncReadyCallback callback, gpointer user_data)
{
  work->late = g_cancellable_new ();
  banger_cancel_later (work->late, seconds);
  banger_work_async (kind, work, work->late, callback, user_data);
}

/* Disks. */

static gboolean
copy (gpointer data, GCancellable *cancellable, GError **error)
{
  Work *work = data;
  return banger_disk_copy (work->from_fd, work->from, work->vm->dir_fd, work->to, work->bytes,
                           !work->vm->record.ephemeral, /* whose disks go with its run, and so with the host's */
                           work->progress ? banger_job_progress_report : NULL, work->progress, cancellable, error);
}

static void
remove_copy (gpointer data)
{
  const Work *work = data;
  banger_disk_remove (work->vm->dir_fd, work->to, NULL);
}

void
vm_files_copy_async (BangerVm *vm, int from_fd, const char *from, const char *to, guint64 bytes, BangerJob *job,
                     GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  static const BangerWork copying = { "copy-disk", copy, remove_copy, work_free };
  Work *work = work_new (vm, TRUE);
  work->from_fd = fcntl (from_fd, F_DUPFD_CLOEXEC, 3);
  work->from = from;
  work->to = to;
  work->bytes = bytes;
  work->progress = job ? banger_job_progress_new (job) : NULL;
  banger_work_async (&copying, work, cancellable, callback, user_data);
}

static gboolean
reserve (gpointer data, GCancellable *cancellable, GError **error)
{
  const Work *work = data;
  return banger_disk_reserve (work->from_fd, work->to, work->vm->dir_fd, work->to, error);
}

static gboolean
fill (gpointer data, GCancellable *cancellable, GError **error)
{
  const Work *work = data;
  return banger_disk_fill (work->from_fd, work->to, work->vm->dir_fd, work->to, !work->vm->record.ephemeral,
                           cancellable, error);
}

static Work *
work_from (BangerVm *vm, int from_fd, const char *name)
{
  Work *work = work_new (vm, TRUE);
  work->from_fd = fcntl (from_fd, F_DUPFD_CLOEXEC, 3);
  work->to = name;
  return work;
}

void
vm_files_reserve_async (BangerVm *vm, int from_fd, const char *name, GCancellable *cancellable,
                        GAsyncReadyCallback callback, gpointer user_data)
{
  static const BangerWork reserving = { "reserve-disk", reserve, remove_copy, work_free };
  banger_work_async (&reserving, work_from (vm, from_fd, name), cancellable, callback, user_data);
}

void
vm_files_fill_async (BangerVm *vm, int from_fd, const char *name, GCancellable *cancellable,
                     GAsyncReadyCallback callback, gpointer user_data)
{
  static const BangerWork filling = { "fill-disk", fill, remove_copy, work_free };
  banger_work_async (&filling, work_from (vm, from_fd, name), cancellable, callback, user_data);
}

/* A disk that the VM wrote to is never silently an empty one. */
static gboolean
check_there (gpointer data, GCancellable *cancellable, GError **error)
{
  const Work *work = data;
  struct stat st;
  return fstatat (work->vm->dir_fd, work->to, &st, AT_SYMLINK_NOFOLLOW) == 0
         || banger_set_error_errno (error, BANGER_ERROR_STATE_CORRUPT, errno,
                                    "the disk %s/%s of this VM, which ran before: put the file back, or delete the VM",
                                    work->vm->dir_path, work->to);
}

/* Sparse: it takes no room until the guest writes. What failed in between is as it was. */
static gboolean
grow (gpointer data, GCancellable *cancellable, GError **error)
{
  Work *work = data;
  struct stat st;
  if (!check_there (data, cancellable, error))
    return FALSE;
  banger_autofd int fd = openat (work->vm->dir_fd, work->to, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0 || fstat (fd, &st) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot open %s/%s", work->vm->dir_path,
                                   work->to);
  if (!S_ISREG (st.st_mode))
    return banger_set_error (error, BANGER_ERROR_UNSAFE_FILE, "%s/%s is no file", work->vm->dir_path, work->to);
  if ((guint64)st.st_size >= work->bytes)
    return TRUE;
  if (ftruncate (fd, (off_t)work->bytes) == 0 && fsync (fd) == 0) {
    work->was = st.st_size;
    return TRUE;
  }
  banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make %s/%s larger", work->vm->dir_path, work->to);
  (void)!ftruncate (fd, st.st_size);
  return FALSE;
}

/* Its record says what it was. A start waits for this (VM's behind); what another made of it meanwhile stays. */
static void
shrink (gpointer data)
{
  const Work *work = data;
  struct stat st;
  if (work->was == 0)
    return;
  banger_autofd int fd = openat (work->vm->dir_fd, work->to, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd >= 0 && fstat (fd, &st) == 0 && S_ISREG (st.st_mode) && (guint64)st.st_size == work->bytes)
    (void)!ftruncate (fd, work->was);
}

void
vm_files_grow_async (BangerVm *vm, const char *name, guint64 bytes, GCancellable *cancellable,
                     GAsyncReadyCallback callback, gpointer user_data)
{
  static const BangerWork growing = { "grow-disk", grow, shrink, work_free };
  Work *work = work_new (vm, TRUE);
  work->to = name;
  work->bytes = bytes;
  banger_work_async (&growing, work, cancellable, callback, user_data);
}

/* The owner could write it, and the kernel believed what it said. */
static gboolean
check_not_old (gpointer data, GCancellable *cancellable, GError **error)
{
  const Work *work = data;
  struct stat st;
  return fstatat (work->vm->dir_fd, work->to, &st, AT_SYMLINK_NOFOLLOW) < 0
         || banger_set_error (error, BANGER_ERROR_STATE_CORRUPT,
                              "the disk %s/%s was made by an older banger in a way that is not used any more, because "
                              "it was not safe; delete the VM and make it anew",
                              work->vm->dir_path, work->to);
}

void
vm_files_check_async (BangerVm *vm, const char *name, GCancellable *cancellable, GAsyncReadyCallback callback,
                      gpointer user_data)
{
  static const BangerWork there = { "check-disk", check_there, NULL, work_free },
                          not_old = { "check-disk", check_not_old, NULL, work_free };
  Work *work = work_new (vm, FALSE);
  work->to = name;
  banger_work_async (g_str_equal (name, BANGER_FILE_VM_COW) ? &not_old : &there, work, cancellable, callback,
                     user_data);
}

static gboolean
remove_names (gpointer data, GCancellable *cancellable, GError **error)
{
  const Work *work = data;
  gboolean ok = TRUE;
  for (guint i = 0; i < work->names->len; i++)
    ok = banger_disk_remove (work->vm->dir_fd, work->names->pdata[i], ok ? error : NULL) && ok;
  return ok;
}

void
vm_files_remove_async (BangerVm *vm, const char *const *names, GCancellable *cancellable, GAsyncReadyCallback callback,
                       gpointer user_data)
{
  static const BangerWork removing = { "remove-files", remove_names, NULL, work_free };
  Work *work = work_new (vm, TRUE);
  work->names = g_ptr_array_new ();
  for (; *names; names++)
    g_ptr_array_add (work->names, (char *)*names);
  banger_work_async (&removing, work, cancellable, callback, user_data);
}

void
vm_files_clean_async (BangerVm *vm, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
#define OF_A_RUN BANGER_FILE_VM_INITRD, BANGER_FILE_VM_SAVE_STATE, BANGER_FILE_VM_SAVE_MEMORY
  static const char *const all[] = { OF_A_RUN, BANGER_FILE_VM_COW, BANGER_FILE_VM_ROOTFS, BANGER_FILE_VM_WORK, NULL },
                           *const of_a_run[] = { OF_A_RUN, NULL };
  vm_files_remove_async (vm, *vm->record.root ? of_a_run : all, cancellable, callback, user_data);
}

/* A stop in order is done when it is on the disk: the root disk's flushes went no further than our page cache. */
static gboolean
sync_disks (gpointer data, GCancellable *cancellable, GError **error)
{
  static const char *const disks[] = { BANGER_FILE_VM_ROOTFS, BANGER_FILE_VM_WORK };
  const Work *work = data;
  for (guint i = 0; i < G_N_ELEMENTS (disks); i++) {
    banger_autofd int fd = openat (work->vm->dir_fd, disks[i], O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if ((fd < 0 && errno != ENOENT) || (fd >= 0 && fsync (fd) < 0))
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot write %s to the disk", disks[i]);
  }
  return TRUE;
}

void
vm_files_sync_async (BangerVm *vm, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  static const BangerWork syncing = { "sync-disks", sync_disks, NULL, work_free };
  banger_work_async (&syncing, work_new (vm, FALSE), cancellable, callback, user_data);
}

/* The folder. The VM goes with it, also if nobody waits any more. */

static gboolean
remove_folder (gpointer data, GCancellable *cancellable, GError **error)
{
  Work *work = data;
  work->removed = banger_record_remove (work->from_fd, work->vm->record.id, error);
  return work->removed;
}

static void
folder_free (gpointer data)
{
  const Work *work = data;
  BangerVm *vm = work->vm;
  if (work->left && work->removed && vm->vms && !vm->op)
    vm_forget (vm);
  else if (work->left && !work->removed && vm->vms && vm->gone) /* nobody can ask for it any more */
    banger_record_remove_async (vm->vms->vms_fd, vm->record.id, NULL, NULL);
  work_free (data);
}

/* Its line in known_hosts goes first. Where that is may hang by itself, and holds nothing of the VM: the folder does not
 * wait for it long, and the line goes when it can. */

static gboolean
remove_line (gpointer data, GCancellable *cancellable, GError **error)
{
  const Work *work = data;
  g_autoptr (GError) own = NULL;
  if (!banger_ssh_known_hosts_set (work->ssh, work->vm->alias, work->vm->dir_path, NULL, &own))
    vm_log (work->vm, NULL, LOG_WARNING, "its line stays in %s: %s", work->ssh->known_hosts_file, own->message);
  return TRUE;
}

typedef struct {
  Work *folder;
  GCancellable *cancellable;
  GAsyncReadyCallback callback;
  gpointer user_data;
} Removal;

static void
on_line_removed (GObject *source, GAsyncResult *result, gpointer data)
{
  static const BangerWork removing = { "remove-folder", remove_folder, NULL, folder_free };
  g_autofree Removal *removal = data;
  g_autoptr (GCancellable) cancellable = removal->cancellable;
  if (!vm_files_finish (result, NULL))
    vm_log (removal->folder->vm, NULL, LOG_WARNING, "its line in known_hosts goes later: that file does not answer");
  banger_work_async (&removing, removal->folder, cancellable, removal->callback, removal->user_data);
}

void
vm_files_remove_folder_async (BangerVm *vm, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  static const BangerWork forgetting = { "remove-host-key", remove_line, NULL, work_free };
  Removal *removal = g_new0 (Removal, 1);
  Work *line = work_new (vm, FALSE);
  line->ssh = banger_ssh_paths_new (g_get_user_config_dir ());
  *removal = (Removal){ work_new (vm, FALSE), g_object_ref (cancellable), callback, user_data };
  removal->folder->from_fd = fcntl (vm->vms->vms_fd, F_DUPFD_CLOEXEC, 3);
  bounded_async (&forgetting, line, LINE_SECONDS, on_line_removed, removal);
}

/* Keys. The host key is known before the first connection. */

static gboolean
make_keys (gpointer data, GCancellable *cancellable, GError **error)
{
  const Work *work = data;
  const BangerVm *vm = work->vm;
  if (!banger_ssh_prepare (work->ssh, vm->dir_path, cancellable, error))
    return FALSE;
  if (!work->known_host)
    return TRUE;
  g_autofree char *path = g_build_filename (vm->dir_path, BANGER_FILE_VM_HOST_KEY ".pub", NULL);
  g_autofree char *public = NULL;
  return g_file_get_contents (path, &public, NULL, error)
         && banger_ssh_known_hosts_set (work->ssh, vm->alias, vm->dir_path, public, error);
}

static void
forget_host (gpointer data)
{
  const Work *work = data;
  if (work->known_host)
    banger_ssh_known_hosts_set (work->ssh, work->vm->alias, work->vm->dir_path, NULL, NULL);
}

void
vm_files_keys_async (BangerVm *vm, gboolean known_host, GCancellable *cancellable, GAsyncReadyCallback callback,
                     gpointer user_data)
{
  static const BangerWork making = { "make-keys", make_keys, forget_host, work_free };
  Work *work = work_new (vm, TRUE);
  work->ssh = banger_ssh_paths_new (g_get_user_config_dir ());
  work->known_host = known_host;
  banger_work_async (&making, work, cancellable, callback, user_data);
}

/* The initramfs. */

const char *
vm_guest_binary (void)
{
  const char *other = g_getenv (BANGER_ENV_GUEST);
  return other ? other : GUEST_BINARY;
}

static gboolean
write_initrd (gpointer data, GCancellable *cancellable, GError **error)
{
  Work *work = data;
  const BangerGuestConfig *config = vm_guest_config_read (work->guest, error);
  return config && banger_initrd_write_vm (work->from_fd, work->vm->dir_fd, vm_guest_binary (), config, error);
}

static void
remove_initrd (gpointer data)
{
  const Work *work = data;
  banger_disk_remove (work->vm->dir_fd, BANGER_FILE_VM_INITRD, NULL);
}

void
vm_files_initrd_async (BangerVm *vm, int kernel_fd, gboolean work_disk, GCancellable *cancellable,
                       GAsyncReadyCallback callback, gpointer user_data)
{
  static const BangerWork writing = { "make-initrd", write_initrd, remove_initrd, work_free };
  Work *work = work_new (vm, TRUE);
  work->from_fd = fcntl (kernel_fd, F_DUPFD_CLOEXEC, 3);
  work->guest = vm_guest_config_new (vm, work_disk);
  banger_work_async (&writing, work, cancellable, callback, user_data);
}

/* A guest that is restored has its own in its memory. The VMM wants a file all the same, and who finds no record looks
 * there for the address. */
static gboolean
write_placeholder (gpointer data, GCancellable *cancellable, GError **error)
{
  const Work *work = data;
  g_autofree char *path = g_build_filename (work->vm->dir_path, BANGER_FILE_VM_INITRD, NULL);
  g_autofree char *text = g_strdup_printf ("\naddress=%s\n", work->address);
  return g_file_set_contents_full (path, text, -1, G_FILE_SET_CONTENTS_NONE, 0600, error);
}

void
vm_files_no_initrd_async (BangerVm *vm, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  static const BangerWork writing = { "make-initrd", write_placeholder, remove_initrd, work_free };
  Work *work = work_new (vm, TRUE);
  work->address = g_strdup (vm->record.address);
  banger_work_async (&writing, work, cancellable, callback, user_data);
}

gboolean
vm_files_initrd_finish (GAsyncResult *result, GError **error)
{
  if (!vm_files_finish (result, error))
    return FALSE;
  const Work *work = banger_work_data (result);
  if (work->guest && !vm_guest_config_has_dns (work->guest) && work->vm->record.nat)
    vm_log (work->vm, work->vm->op, LOG_WARNING,
            "the guest has no name server: those of this host run on the host itself");
  return TRUE;
}

/* The console log. */

static gboolean
truncate_console (gpointer data, GCancellable *cancellable, GError **error)
{
  const Work *work = data;
  banger_autofd int fd = openat (work->vm->dir_fd, BANGER_FILE_VM_CONSOLE,
                                 O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
  return fd >= 0 || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make %s", work->vm->console_log);
}

void
vm_files_console_async (BangerVm *vm, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  static const BangerWork opening = { "open-console", truncate_console, NULL, work_free };
  banger_work_async (&opening, work_new (vm, TRUE), cancellable, callback, user_data);
}

static int
open_log (const BangerVm *vm, const char *name, GError **error)
{
  int fd = openat (vm->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  gboolean none = fd < 0 && (errno == ENOENT || vm->dir_fd < 0);
  if (none && g_str_equal (name, BANGER_FILE_VM_SETUP_LOG))
    banger_set_error (error, BANGER_ERROR_WRONG_STATE, "%s has no log of a setup: none has run in it", vm->record.name);
  else if (none)
    banger_set_error (error, BANGER_ERROR_WRONG_STATE, "%s has no console log yet: start it first", vm->record.name);
  else if (fd < 0)
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot open %s/%s", vm->dir_path, name);
  return fd;
}

static gboolean
show_log (gpointer data, GCancellable *cancellable, GError **error)
{
  Work *work = data;
  work->log_fd = open_log (work->vm, work->to, error);
  return work->log_fd >= 0;
}

static gboolean
read_tail (gpointer data, GCancellable *cancellable, GError **error)
{
  Work *work = data;
  banger_autofd int fd = open_log (work->vm, BANGER_FILE_VM_CONSOLE, error);
  struct stat st;
  if (fd < 0)
    return FALSE;
  g_autofree char *text = g_malloc (TAIL_BYTES + 1);
  ssize_t n = fstat (fd, &st) < 0 ? -1 : banger_read_at (fd, text, TAIL_BYTES, MAX (0, st.st_size - TAIL_BYTES));
  if (n < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read %s", work->vm->console_log);
  text[n] = '\0';
  g_auto (GStrv) lines = g_strsplit_set (text, "\r\n", -1);
  g_autoptr (GString) tail = g_string_new (NULL);
  guint taken = 0;
  for (guint i = g_strv_length (lines); i > 0 && taken < TAIL_LINES; i--) {
    g_autofree char *line = banger_log_escape (g_strstrip (lines[i - 1]), 200);
    if (*line == '\0')
      continue;
    g_string_prepend (tail, line);
    g_string_prepend (tail, "\n  ");
    taken++;
  }
  work->text = taken > 0 ? g_string_free (g_steal_pointer (&tail), FALSE) : NULL;
  return TRUE;
}

void
banger_vm_open_log_async (BangerVm *vm, gboolean setup, GAsyncReadyCallback callback, gpointer user_data)
{
  static const BangerWork showing = { "show-console", show_log, NULL, work_free };
  Work *work = work_new (vm, FALSE);
  work->to = setup ? BANGER_FILE_VM_SETUP_LOG : BANGER_FILE_VM_CONSOLE;
  bounded_async (&showing, work, vm->vms->end_seconds, callback, user_data);
}

int
banger_vm_open_log_finish (GAsyncResult *result, char **ret_path, GError **error)
{
  Work *work = banger_work_data (result);
  g_autofree char *path = g_build_filename (work->vm->dir_path, work->to, NULL);
  g_autoptr (GError) own = NULL;
  if (vm_files_finish (result, &own)) {
    *ret_path = g_steal_pointer (&path);
    return banger_steal_fd (&work->log_fd);
  }
  if (g_error_matches (own, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    banger_set_error (error, BANGER_ERROR_TIMEOUT, "cannot open %s: its disk does not answer", path);
  else
    g_propagate_error (error, g_steal_pointer (&own));
  return -1;
}

void
vm_files_tail_async (BangerVm *vm, GAsyncReadyCallback callback, gpointer user_data)
{
  static const BangerWork reading = { "read-console", read_tail, NULL, work_free };
  bounded_async (&reading, work_new (vm, FALSE), TAIL_SECONDS, callback, user_data);
}

char *
vm_files_tail_finish (GAsyncResult *result)
{
  Work *work = banger_work_data (result);
  return vm_files_finish (result, NULL) ? g_steal_pointer (&work->text) : NULL;
}

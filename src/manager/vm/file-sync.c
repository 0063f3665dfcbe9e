/* Files of the owner's home on their way into a guest that has just been started: [[file_sync]] of config.toml.
 * Never fails a start: what cannot be copied is a warning. Never reads what is not below the home folder, and waits for
 * that no longer than a few seconds. */
#include <limits.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/guest-protocol.h"
#include "common/home-file.h"
#include "common/tree-pack.h"
#include "manager/core/later.h"
#include "manager/core/work.h"
#include "manager/vm/talk.h"

#define HOME_SECONDS 3                             /* that the home folder may take to answer */
#define QUIET_SECONDS 15                           /* that it or the guest may take for the next bytes */
#define MAX_SECONDS 600                            /* for one entry: a guest may take it byte by byte */
#define MAX_LEFT 4                                 /* workers that wait for a home folder which does not answer */
#define MAX_BYTES (G_GUINT64_CONSTANT (256) << 20) /* of one entry */
#define TOLD_LINES 3
#define SAID_BYTES 1024

/* One entry: opened by one thread, sent by another, looked at when those have ended. */
typedef struct {
  BangerFileSync sync; /* its strings are ours */
  const char *home;
  int fd;
  char *real; /* where it is below the home folder */
  GError *error;
  GPtrArray *complaints;
  guint n_complaints;
  guint64 bytes;
  gboolean too_large;
  gboolean left; /* nobody waits for its worker any more */
  int to;        /* while it is sent */
  gint *moves;
  char said[SAID_BYTES + 1];
} Item;

typedef struct {
  VmOp *op; /* NULL: nobody waits any more */
  GPtrArray *items;
  guint at;
  GCancellable *late; /* ends the waiting for the home folder */
  gulong cancel_id;
} Sync;

static guint left; /* each has a thread of those that all workers share; in the main loop */

static void
leave (Item *item)
{
  left += !item->left;
  item->left = TRUE;
}

/* In the main loop, when the last worker that has it has ended. */
static void
item_clear (gpointer data)
{
  Item *item = data;
  left -= item->left;
  g_free (item->sync.source);
  g_free (item->sync.target);
  g_free (item->real);
  banger_clear_fd (&item->fd);
  g_clear_error (&item->error);
  g_ptr_array_unref (item->complaints);
}

static void
item_unref (gpointer data)
{
  g_atomic_rc_box_release_full (data, item_clear);
}

static Item *
item_new (const BangerFileSync *sync)
{
  Item *item = g_atomic_rc_box_new0 (Item);
  item->sync = *sync;
  item->sync.source = g_strdup (sync->source);
  item->sync.target = g_strdup (sync->target);
  item->home = g_get_home_dir ();
  item->fd = item->to = -1;
  item->complaints = g_ptr_array_new_with_free_func (g_free);
  return item;
}

/* Sending, in a thread. */

static int
send_bytes (const void *bytes, size_t length, void *data)
{
  Item *item = data;
  item->bytes += length;
  item->too_large = item->bytes > MAX_BYTES;
  for (size_t done = 0; !item->too_large && done < length;) {
    ssize_t n = send (item->to, (const char *)bytes + done, length - done, MSG_NOSIGNAL);
    if (n < 0 && errno != EINTR)
      return -1;
    done += n > 0 ? (size_t)n : 0;
    g_atomic_int_inc (item->moves);
  }
  return item->too_large ? -1 : 0;
}

/* @path: in the tar: "nvim/init.lua" of what is ".config/nvim" here. */
static char *
below_home (const Item *item, const char *path)
{
  const char *slash = strchr (path, '/');
  return g_strconcat (item->real, slash ? slash : "", NULL);
}

static void
complain (const char *path, const char *why, int number, void *data)
{
  Item *item = data;
  g_autofree char *where = below_home (item, path), *shown = banger_log_escape (where, PATH_MAX);
  if (item->n_complaints++ < TOLD_LINES)
    g_ptr_array_add (item->complaints, g_strdup_printf ("file_sync[%u], '~/%s': %s", item->sync.number, shown,
                                                        why ? why : g_strerror (number)));
}

static const char *
refuse_link (const char *path, const char *target, void *data)
{
  const Item *item = data;
  g_autofree char *where = below_home (item, path);
  return banger_home_link_stays (item->home, where, target) ? NULL : "it is a link that leads out of the home folder";
}

static char *
leaf_of (const char *path)
{
  return g_strdup (strrchr (path, '/') + 1);
}

static void
send_item (int in, int out, gint *moves, gpointer data)
{
  Item *item = data;
  g_autofree char *leaf = leaf_of (item->sync.target);
  const BangerTreePacker packer = { .write = send_bytes,
                                    .complain = complain,
                                    .data = item,
                                    .set_mode = item->sync.mode >= 0,
                                    .mode = (unsigned)MAX (item->sync.mode, 0),
                                    .refuse_link = refuse_link };
  gsize length = 0;
  item->to = in;
  item->moves = moves;
  banger_tree_pack_fd (item->fd, leaf, &packer);
  shutdown (in, SHUT_WR);
  for (ssize_t n; (n = read (out, item->said + length, SAID_BYTES - length)) > 0 && length < SAID_BYTES;) {
    length += (gsize)n;
    g_atomic_int_inc (moves);
  }
}

/* The steps of one start. */

static void
sync_free (Sync *sync)
{
  if (sync->cancel_id)
    g_signal_handler_disconnect (sync->op->job.cancellable, sync->cancel_id);
  g_ptr_array_unref (sync->items);
  g_object_unref (sync->late);
  g_free (sync);
}

static void
sync_end (Sync *sync)
{
  VmOp *op = sync->op;
  gboolean cancelled = g_cancellable_is_cancelled (op->job.cancellable);
  sync_free (sync);
  op->data = NULL;
  vm_go_on (op, cancelled ? vm_why (op, banger_error_cancelled ()) : NULL);
}

G_GNUC_PRINTF (3, 4) static void warn (const Sync *sync, const Item *item, const char *format, ...)
{
  va_list arguments;
  va_start (arguments, format);
  g_autofree char *why = g_strdup_vprintf (format, arguments);
  va_end (arguments);
  g_autofree char *shown = banger_log_escape (item->sync.source, PATH_MAX);
  g_autofree char *text = g_strdup_printf ("file_sync[%u], '~/%s': %s", item->sync.number, shown, why);
  banger_job_warn (&sync->op->job, text);
}

static void send_next (Sync *sync);

static void
tell (const Sync *sync, const Item *item, int status)
{
  for (guint i = 0; i < item->complaints->len; i++)
    banger_job_warn (&sync->op->job, item->complaints->pdata[i]);
  if (item->n_complaints > item->complaints->len)
    warn (sync, item, "%u more are missing", item->n_complaints - item->complaints->len);
  if (item->too_large)
    warn (sync, item, "it is larger than 256 MiB: not all of it is in the guest");
  else if (status != 0) {
    g_autofree char *said = g_strdup (item->said), *shown = banger_log_escape (g_strstrip (said), SAID_BYTES);
    warn (sync, item, "the guest could not take it: %s", *shown ? shown : "it says no more");
  }
}

static void
on_sent (GObject *source, GAsyncResult *result, gpointer data)
{
  Sync *sync = data;
  g_autoptr (GError) error = NULL;
  int status = vm_talk_finish (result, &error);
  Item *item = sync->items->pdata[sync->at++];
  if (status < 0)
    leave (item);
  gboolean cancelled = g_cancellable_is_cancelled (sync->op->job.cancellable);
  if (!cancelled && status < 0)
    warn (sync, item, "%s; nor was what follows copied", error->message);
  if (cancelled || status < 0) { /* who does not answer once is not asked again */
    sync_end (sync);
    return;
  }
  tell (sync, item, status);
  send_next (sync);
}

/* What is above it is its owner's alone, as what is below the home folder is most often. */
static void
send_one (Sync *sync, Item *item)
{
  static const char script[] = "umask 077; [ -d \"$1\" ] || mkdir -p -- \"$1\" || exit; "
                               "exec " BANGER_GUEST_BINARY " unpack \"$1\" \"$2\" " BANGER_GUEST_UNPACK_COPIED;
  static const VmTalk talk = {
    .talk = send_item, .hear_errors = TRUE, .quiet_seconds = QUIET_SECONDS, .seconds = MAX_SECONDS
  };
  g_autofree char *leaf = leaf_of (item->sync.target);
  g_autofree char *parent = g_strndup (item->sync.target, strlen (item->sync.target) - strlen (leaf));
  const char *const words[] = { "sh", "-c", script, "sh", parent, leaf, NULL };
  vm_talk_async (sync->op->vm, &talk, words, g_atomic_rc_box_acquire (item), item_unref, sync->op->job.cancellable,
                 on_sent, sync);
}

static void
send_next (Sync *sync)
{
  for (; sync->at < sync->items->len; sync->at++) {
    Item *item = sync->items->pdata[sync->at];
    if (item->fd >= 0) {
      send_one (sync, item);
      return;
    }
    warn (sync, item, "%s", item->error ? item->error->message : "it is not there");
  }
  sync_end (sync);
}

/* Opening. */

static gboolean
open_items (gpointer data, GCancellable *cancellable, GError **error)
{
  GPtrArray *items = data;
  for (guint i = 0; i < items->len; i++) {
    Item *item = items->pdata[i];
    item->fd = banger_home_open (item->home, item->sync.source, &item->real, &item->error);
  }
  return TRUE;
}

static void
unref_items (gpointer data)
{
  g_ptr_array_unref (data);
}

static void
warn_of_home (VmOp *op)
{
  banger_job_warn (&op->job, "file_sync: the home folder does not answer: nothing of it was copied");
}

static void
on_opened (GObject *source, GAsyncResult *result, gpointer data)
{
  Sync *sync = data;
  if (banger_work_is_left (result))
    leave (sync->items->pdata[0]);
  if (banger_work_finish (result, NULL)) {
    send_next (sync);
    return;
  }
  if (!g_cancellable_is_cancelled (sync->op->job.cancellable))
    warn_of_home (sync->op);
  sync_end (sync);
}

static void
copy_files (VmOp *op)
{
  static const BangerWork work = { .name = "file-sync", .run = open_items, .free = unref_items };
  const GPtrArray *entries = op->vm->vms->sources->config (op->vm->vms->user_data)->file_sync;
  if (left >= MAX_LEFT) {
    warn_of_home (op);
    vm_go_on (op, NULL);
    return;
  }
  Sync *sync = op->data = g_new0 (Sync, 1);
  sync->op = op;
  sync->items = g_ptr_array_new_with_free_func (item_unref);
  for (guint i = 0; i < entries->len; i++)
    g_ptr_array_add (sync->items, item_new (entries->pdata[i]));
  sync->late = g_cancellable_new ();
  banger_job_set_stage (&op->job, "copying files of the home folder");
  banger_job_set_cancelable (&op->job, TRUE);
  sync->cancel_id = g_signal_connect_swapped (op->job.cancellable, "cancelled", G_CALLBACK (g_cancellable_cancel),
                                              sync->late);
  banger_cancel_later (sync->late, HOME_SECONDS);
  banger_work_async (&work, g_ptr_array_ref (sync->items), sync->late, on_opened, sync);
}

/* One that becomes a template is to have nothing of the user's; one that goes on has it already. */
static gboolean
nothing_to_copy (VmOp *op)
{
  const BangerVm *vm = op->vm;
  return op->went_on || vm->reserved || vm->vms->sources->config (vm->vms->user_data)->file_sync->len == 0;
}

/* What is under way is in the record, too: who finds it there knows that nobody goes on with it. */

const char *
vm_provide_begin (VmOp *op)
{
  BangerVmRecord *record = &op->vm->record;
  if (op->went_on)
    return vm_provide_lost (op->vm);
  op->provides = record->providing = !nothing_to_copy (op) || !vm_setup_skip (op);
  return record->providing ? "files of the home folder or its setup are still on their way" : "";
}

const char *
vm_provide_lost (const BangerVm *vm)
{
  return vm->record.providing
             ? "its start was broken off before it had all files of the home folder and its setup: a restart brings them"
             : "";
}

/* Or what comes of it is another verb's. */
static gboolean
is_provided (VmOp *op)
{
  const BangerVm *vm = op->vm;
  return !op->provides || !vm->record.providing || vm->died || vm->queue || vm->record.state != BANGER_VM_RUNNING;
}

/* That it runs is on the disk already. */
static void
provided_recorded (VmOp *op, GError *error)
{
  if (error)
    vm_log (op->vm, op, LOG_WARNING, "cannot write the record: %s", error->message);
  g_clear_error (&error);
  vm_go_on (op, NULL);
}

static void
provided (VmOp *op)
{
  op->vm->record.providing = g_error_matches (op->error, BANGER_ERROR, BANGER_ERROR_CANCELLED);
  vm_set_state_then (op, BANGER_VM_RUNNING, vm_provide_lost (op->vm), provided_recorded);
}

const VmStep vm_part_provide[] = {
  { "file-sync", copy_files, .skip = nothing_to_copy, .on_death = vm_cancel_on_death },
  { "setup", vm_setup, .skip = vm_setup_skip, .on_death = vm_cancel_on_death },
  { "provided", provided, .skip = is_provided, .when = VM_ALWAYS },
  { NULL },
};

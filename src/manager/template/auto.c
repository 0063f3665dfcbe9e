/* Templates that nobody asked for: of what was booted where one would have fitted, once nothing else goes on.
 * Never in the way of a start: it begins when all is quiet, has the least priority, and is cancelled for it. */
#include "manager/template/private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"
#include "manager/core/work.h"

#define QUIET_SECONDS 5
#define MAX_WISHES 16
#define MAX_CANCELLED 3 /* then it is made beside others, with what processors they leave */
#define DISK_LEFT 10    /* the part of the file system that stays free */
#define MEMORY_LEFT (G_GUINT64_CONSTANT (512) << 20)

typedef struct {
  BangerTemplate *wanted;
  guint cancelled;
} Wish;

typedef struct {
  BangerTemplates **link;
  int dir_fd;
  guint64 bytes; /* of its memory */
} Room;

typedef struct {
  GPtrArray *wishes; /* Wish *, the oldest first */
  guint busy;        /* jobs of others */
  guint timer, cancel;
  gboolean looking;   /* whether there is room */
  gboolean cancelled; /* our job, by us */
  gboolean making;    /* the next job is ours */
  BangerJob *job;     /* ours; NULL: none */
} TemplateAuto;

static void
wish_free (gpointer data)
{
  Wish *wish = data;
  template_free (wish->wanted);
  g_free (wish);
}

static void
auto_free (gpointer data)
{
  TemplateAuto *self = data;
  g_clear_handle_id (&self->timer, g_source_remove);
  g_clear_handle_id (&self->cancel, g_source_remove);
  g_clear_pointer (&self->job, banger_job_unref);
  g_ptr_array_unref (self->wishes);
  g_free (self);
}

static TemplateAuto *
get_auto (BangerTemplates *templates)
{
  if (!templates->automatic) {
    TemplateAuto *self = g_new0 (TemplateAuto, 1);
    self->wishes = g_ptr_array_new_with_free_func (wish_free);
    templates->automatic = self;
    templates->automatic_free = auto_free;
  }
  return templates->automatic;
}

static gboolean on_quiet (gpointer data);

/* The time of quiet begins anew. */
static void
arm (BangerTemplates *templates)
{
  TemplateAuto *self = get_auto (templates);
  g_clear_handle_id (&self->timer, g_source_remove);
  if (self->wishes->len > 0 && self->busy == 0 && !self->job && !self->looking)
    self->timer = g_timeout_add_seconds (QUIET_SECONDS, on_quiet, templates);
}

void
banger_templates_booted (BangerTemplates *templates, const BangerVmRecord *record)
{
  TemplateAuto *self = get_auto (templates);
  g_autoptr (BangerTemplate) wanted = templates->house->automatic (templates->user_data)
                                          ? template_wanted (templates, record, NULL)
                                          : NULL;
  if (!wanted || template_find (templates, wanted) || template_has_failed (templates, wanted)
      || self->wishes->len == MAX_WISHES)
    return;
  for (guint i = 0; i < self->wishes->len; i++)
    if (template_is_same (((const Wish *)self->wishes->pdata[i])->wanted, wanted))
      return;
  Wish *wish = g_new0 (Wish, 1);
  wish->wanted = g_steal_pointer (&wanted);
  g_ptr_array_add (self->wishes, wish);
  arm (templates);
}

/* Whether there is room for it, with more to spare than it takes: what the VM and its template need at the same time. */

static void
room_free (gpointer data)
{
  Room *room = data;
  banger_clear_fd (&room->dir_fd);
  g_rc_box_release (room->link);
  g_free (room);
}

static guint64
memory_available (void)
{
  guint64 kib = 0;
  char line[128];
  FILE *file = fopen ("/proc/meminfo", "re");
  while (file && fgets (line, sizeof line, file) && sscanf (line, "MemAvailable: %" G_GUINT64_FORMAT, &kib) != 1)
    continue;
  if (file)
    fclose (file);
  return kib * 1024;
}

static gboolean
look_for_room (gpointer data, GCancellable *cancellable, GError **error)
{
  const Room *room = data;
  struct statvfs st;
  if (fstatvfs (room->dir_fd, &st) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "how full the disk is cannot be seen");
  if ((guint64)st.f_bavail * st.f_frsize < room->bytes + (guint64)st.f_blocks * st.f_frsize / DISK_LEFT)
    return banger_set_error (error, BANGER_ERROR_NO_SPACE, "the disk has too little room");
  return memory_available () >= room->bytes + MEMORY_LEFT
         || banger_set_error (error, BANGER_ERROR_NO_SPACE, "the host has too little memory");
}

/* The oldest wish goes, whatever became of it. The next start may wish the same, but for one that @failed. */
static void
drop_first (BangerTemplates *templates, const char *why, gboolean failed)
{
  TemplateAuto *self = get_auto (templates);
  const Wish *wish = self->wishes->pdata[0];
  if (why)
    banger_log (LOG_INFO, NULL, "no template of image %s is made by itself: %s", wish->wanted->image_id, why);
  if (failed)
    template_failed (templates, wish->wanted);
  g_ptr_array_remove_index (self->wishes, 0);
}

static void
make_first (BangerTemplates *templates)
{
  TemplateAuto *self = get_auto (templates);
  const BangerTemplate *wanted = ((const Wish *)self->wishes->pdata[0])->wanted;
  const BangerVmSpec spec = { .image = wanted->image_id,
                              .kernel = wanted->kernel_id,
                              .vcpus = wanted->vcpus,
                              .memory_mib = wanted->memory_mib,
                              .disk_bytes = wanted->disk_bytes };
  g_autoptr (GError) error = NULL;
  self->making = TRUE;
  BangerJob *job = templates->house->make (&spec, templates->user_data, &error);
  self->making = FALSE;
  if (!job) {
    drop_first (templates, error->message, FALSE);
    arm (templates);
    return;
  }
  self->job = banger_job_ref (job);
  banger_job_begin (job);
}

static void
on_room (GObject *source, GAsyncResult *result, gpointer data)
{
  const Room *room = banger_work_data (result);
  BangerTemplates *templates = *room->link;
  g_autoptr (GError) error = NULL;
  gboolean ok = banger_work_finish (result, &error);
  if (!templates)
    return;
  TemplateAuto *self = get_auto (templates);
  self->looking = FALSE;
  if (!ok)
    drop_first (templates, error->message, FALSE);
  else if (self->busy == 0) {
    make_first (templates);
    return;
  }
  arm (templates);
}

/* None goes for one that nobody asked for. */
static gboolean
is_over_budget (const BangerTemplates *templates, const BangerTemplate *wanted)
{
  guint64 all = (guint64)wanted->memory_mib << 20;
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init (&iter, templates->table);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    all += ((const BangerTemplate *)value)->size_bytes;
  return all > templates->house->budget (templates->user_data);
}

static gboolean
on_quiet (gpointer data)
{
  static const BangerWork looking = { "template-room", look_for_room, NULL, room_free };
  BangerTemplates *templates = data;
  TemplateAuto *self = get_auto (templates);
  self->timer = 0;
  if (!templates->house->automatic (templates->user_data)) { /* not any more */
    g_ptr_array_set_size (self->wishes, 0);
    return G_SOURCE_REMOVE;
  }
  const BangerTemplate *wanted = ((const Wish *)self->wishes->pdata[0])->wanted;
  gboolean full = is_over_budget (templates, wanted);
  if (full || template_find (templates, wanted) || !templates->house->is_current (wanted, templates->user_data)) {
    drop_first (templates, full ? "templates.budget has no room for it beside the others" : NULL, FALSE);
    arm (templates);
    return G_SOURCE_REMOVE;
  }
  Room *room = g_new0 (Room, 1);
  room->link = g_rc_box_acquire (templates->link);
  room->dir_fd = fcntl (templates->dir_fd, F_DUPFD_CLOEXEC, 3);
  room->bytes = (guint64)wanted->memory_mib << 20;
  self->looking = TRUE;
  banger_work_async (&looking, room, NULL, on_room, NULL);
  return G_SOURCE_REMOVE;
}

/* From an idle: who begins a job is not to find itself in the end of another. */
static gboolean
on_cancel (gpointer data)
{
  TemplateAuto *self = ((BangerTemplates *)data)->automatic;
  self->cancel = 0;
  if (self->job && self->job->state == BANGER_JOB_RUNNING)
    self->cancelled = banger_job_cancel (self->job, NULL);
  return G_SOURCE_REMOVE;
}

static gboolean
is_start (const BangerJob *job)
{
  static const char *const kinds[] = { "create-vm", "start-vm", "restart-vm", "fork-vm", "warm-image", NULL };
  return g_strv_contains (kinds, job->kind);
}

void
banger_templates_job_begun (BangerTemplates *templates, const BangerJob *job)
{
  TemplateAuto *self = get_auto (templates);
  if (self->making)
    return;
  self->busy++;
  arm (templates);
  Wish *wish = self->job ? self->wishes->pdata[0] : NULL;
  if (!wish || !is_start (job) || self->cancel != 0 || wish->cancelled >= MAX_CANCELLED
      || g_str_equal (self->job->stage, TEMPLATE_STAGE_KEEPING)) /* its guest runs no more */
    return;
  wish->cancelled++;
  self->cancel = g_idle_add (on_cancel, templates);
}

void
banger_templates_job_ended (BangerTemplates *templates, const BangerJob *job)
{
  TemplateAuto *self = get_auto (templates);
  if (job == self->job) {
    gboolean done = job->state == BANGER_JOB_DONE;
    gboolean for_a_start = job->state == BANGER_JOB_CANCELLED && self->cancelled;
    /* A guest that got no processor is another matter the next time. */
    gboolean late = g_error_matches (job->error, BANGER_ERROR, BANGER_ERROR_GUEST_TIMEOUT);
    if (!for_a_start)
      drop_first (templates, done ? NULL : job->error ? job->error->message : "it was cancelled", !done && !late);
    self->cancelled = FALSE;
    g_clear_handle_id (&self->cancel, g_source_remove);
    g_clear_pointer (&self->job, banger_job_unref);
  } else if (self->busy > 0) {
    self->busy--;
  }
  arm (templates);
}

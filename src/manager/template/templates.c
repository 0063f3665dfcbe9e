/* The table of templates: found by what made them, dropped when that is another one, bound by bytes.
 * Never waits for a disk, but at the start of the daemon. */
#include "manager/template/private.h"

#include <fcntl.h>
#include <string.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/names.h"
#include "manager/core/later.h"
#include "manager/disk/stamp.h"
#include "manager/peer/helper-answers.h"

#define FIELD(key, type, member)                                                                                       \
  {                                                                                                                    \
    key, BANGER_RECORD_##type, G_STRUCT_OFFSET (BangerTemplate, member), NULL, TRUE                                    \
  }
/* Those that are compared come first. */
#define N_KEYS 11
const BangerRecordField template_fields[] = {
  FIELD ("image-id", STRING, image_id),
  FIELD ("image-digest", STRING, image_digest),
  FIELD ("kernel-id", STRING, kernel_id),
  FIELD ("kernel-digest", STRING, kernel_digest),
  FIELD ("vcpus", UINT32, vcpus),
  FIELD ("memory-mib", UINT32, memory_mib),
  FIELD ("disk-bytes", UINT64, disk_bytes),
  FIELD ("engine", STRING, engine),
  FIELD ("processor", STRING, processor),
  FIELD ("boot-args", STRING, boot_args),
  FIELD ("banger-version", STRING, version),
  FIELD ("id", STRING, id),
  FIELD ("programs", STRING, programs),
  FIELD ("files", STRING, files),
  FIELD ("root", STRING, root),
  FIELD ("size-bytes", UINT64, size_bytes),
  FIELD ("created-at", UINT64, created_at),
  FIELD ("used-at", UINT64, used_at),
  { NULL },
};

static BangerTemplate *
template_new (void)
{
  BangerTemplate *template = g_new0 (BangerTemplate, 1);
  template->dir_fd = -1;
  return template;
}

void
template_free (BangerTemplate *template)
{
  banger_record_clear (template_fields, template);
  banger_clear_fd (&template->dir_fd);
  g_free (template);
}

BangerTemplate *
template_copy_keys (const BangerTemplate *template)
{
  BangerTemplate *copy = template_new ();
  for (const BangerRecordField *field = template_fields; field < template_fields + N_KEYS; field++) {
    gpointer to = G_STRUCT_MEMBER_P (copy, field->offset);
    gconstpointer from = G_STRUCT_MEMBER_P (template, field->offset);
    if (field->type == BANGER_RECORD_STRING)
      *(char **)to = g_strdup (*(char *const *)from);
    else
      memcpy (to, from, field->type == BANGER_RECORD_UINT64 ? sizeof (guint64) : sizeof (guint32));
  }
  return copy;
}

gboolean
template_is_same (const BangerTemplate *a, const BangerTemplate *b)
{
  for (const BangerRecordField *field = template_fields; field < template_fields + N_KEYS; field++) {
    gconstpointer x = G_STRUCT_MEMBER_P (a, field->offset), y = G_STRUCT_MEMBER_P (b, field->offset);
    gboolean same = field->type == BANGER_RECORD_STRING   ? g_strcmp0 (*(char *const *)x, *(char *const *)y) == 0
                    : field->type == BANGER_RECORD_UINT64 ? *(const guint64 *)x == *(const guint64 *)y
                                                          : *(const guint32 *)x == *(const guint32 *)y;
    if (!same)
      return FALSE;
  }
  return TRUE;
}

gboolean
template_has_failed (BangerTemplates *templates, const BangerTemplate *wanted)
{
  for (guint i = 0; i < templates->failed->len; i++)
    if (template_is_same (templates->failed->pdata[i], wanted))
      return TRUE;
  return FALSE;
}

void
template_failed (BangerTemplates *templates, const BangerTemplate *template)
{
  if (!template_has_failed (templates, template))
    g_ptr_array_add (templates->failed, template_copy_keys (template));
}

BangerTemplate *
template_wanted (BangerTemplates *templates, const BangerVmRecord *record, GError **error)
{
  g_autoptr (BangerTemplate) wanted = template_new ();
  if (!templates->engine) {
    banger_set_error (error, BANGER_ERROR_HELPER_UNAVAILABLE, "the root helper has not said which engine there is");
    return NULL;
  }
  if (!templates->house->describe (record, wanted, templates->user_data)) {
    banger_set_error (error, BANGER_ERROR_NOT_SUPPORTED, "VMs like %s are not restored from a template", record->name);
    return NULL;
  }
  wanted->vcpus = record->vcpus;
  wanted->memory_mib = record->memory_mib;
  wanted->engine = g_strdup (templates->engine);
  wanted->processor = g_strdup (templates->processor);
  wanted->boot_args = g_strdup (banger_vm_boot_args ());
  wanted->version = g_strdup (BANGER_VERSION);
  return g_steal_pointer (&wanted);
}

BangerTemplate *
template_find (BangerTemplates *templates, const BangerTemplate *wanted)
{
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init (&iter, templates->table);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    if (template_is_same (value, wanted))
      return value;
  return NULL;
}

static gboolean
is_of (gpointer key, gpointer value, gpointer data)
{
  const BangerTemplate *template = value;
  return g_str_equal (template->image_id, data) || g_str_equal (template->kernel_id, data);
}

gboolean
banger_templates_find (BangerTemplates *templates, const BangerVmRecord *record, BangerVmTemplate *ret)
{
  g_autoptr (BangerTemplate) wanted = template_wanted (templates, record, NULL);
  const BangerTemplate *found = wanted ? template_find (templates, wanted) : NULL;
  if (wanted && !found && g_hash_table_find (templates->table, is_of, wanted->image_id))
    banger_log (LOG_INFO, NULL, "%s is booted: its image has templates, but none of its shape", record->name);
  int fd = found ? fcntl (found->dir_fd, F_DUPFD_CLOEXEC, 3) : -1;
  if (fd < 0)
    return FALSE;
  *ret = (BangerVmTemplate){ .id = g_strdup (found->id),
                             .dir_fd = fd,
                             .files = g_strdup (found->files),
                             .programs = g_strdup (found->programs),
                             .snapshot = g_str_equal (found->root, "snapshot") };
  return TRUE;
}

static void
on_used (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GError) error = NULL;
  if (!banger_writer_finish (result, &error))
    banger_log (LOG_WARNING, NULL, "that a template was used cannot be recorded: %s", error->message);
}

void
banger_templates_ended (BangerTemplates *templates, const char *id, const char *why)
{
  BangerTemplate *template = g_hash_table_lookup (templates->table, id);
  if (!template)
    return;
  if (why) {
    template_failed (templates, template); /* it would be made again and again */
    template_drop (templates, id, why);
    return;
  }
  template->used_at = (guint64)g_get_real_time ();
  banger_record_put (templates->writer, template, template->dir_fd, "template", template_fields, template, on_used,
                     NULL);
  templates->house->changed (template->image_id, templates->user_data);
}

static gint
compare_age (gconstpointer a, gconstpointer b)
{
  const BangerTemplate *x = *(BangerTemplate *const *)a, *y = *(BangerTemplate *const *)b;
  return (x->created_at > y->created_at) - (x->created_at < y->created_at);
}

GPtrArray *
banger_templates_of (BangerTemplates *templates, const char *image_id)
{
  GPtrArray *of = g_ptr_array_new ();
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init (&iter, templates->table);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    if (g_str_equal (((const BangerTemplate *)value)->image_id, image_id))
      g_ptr_array_add (of, value);
  g_ptr_array_sort (of, compare_age);
  return of;
}

/* The record goes first: without it nothing of the rest is believed. */
static void
remove_files (BangerTemplates *templates, const char *id)
{
  banger_record_remove_async (templates->dir_fd, id, NULL, NULL);
  banger_gone_disks_add (templates->disks, id);
}

void
template_drop (BangerTemplates *templates, const char *id, const char *why)
{
  const BangerTemplate *template = g_hash_table_lookup (templates->table, id);
  if (!template)
    return;
  g_autofree char *image = g_strdup (template->image_id), *own = g_strdup (id);
  banger_log (LOG_INFO, BANGER_FIELDS (BANGER_FIELD_OBJECT, own), "template %s goes: %s", own, why);
  g_hash_table_remove (templates->table, own);
  remove_files (templates, own);
  templates->house->changed (image, templates->user_data);
}

void
banger_templates_drop_of (BangerTemplates *templates, const char *id)
{
  for (const BangerTemplate *template; (template = g_hash_table_find (templates->table, is_of, (gpointer)id));)
    template_drop (templates, template->id, "what it was made from is gone");
}

void
banger_templates_fit (BangerTemplates *templates)
{
  guint64 budget = templates->house->budget (templates->user_data);
  for (;;) {
    guint64 all = 0;
    const BangerTemplate *oldest = NULL, *template;
    GHashTableIter iter;
    g_hash_table_iter_init (&iter, templates->table);
    while (g_hash_table_iter_next (&iter, NULL, (gpointer *)&template)) {
      all += template->size_bytes;
      if (!oldest || template->used_at < oldest->used_at)
        oldest = template;
    }
    if (all <= budget || !oldest)
      return;
    template_drop (templates, oldest->id, "all together are over templates.budget, and it was not used for longest");
  }
}

gboolean
template_add (BangerTemplates *templates, BangerTemplate *template)
{
  g_autofree char *image = g_strdup (template->image_id);
  if (!templates->house->is_current (template, templates->user_data)) {
    remove_files (templates, template->id);
    template_free (template);
    return FALSE;
  }
  g_hash_table_insert (templates->table, template->id, template);
  banger_templates_fit (templates);
  templates->house->changed (image, templates->user_data);
  return TRUE;
}

/* At the start. */

static gboolean
is_whole (const BangerTemplate *template)
{
  for (const BangerRecordField *field = template_fields; field->key; field++)
    if (field->type == BANGER_RECORD_STRING && !G_STRUCT_MEMBER (char *, template, field->offset))
      return FALSE;
  return TRUE;
}

static BangerTemplate *
load_one (const BangerTemplates *templates, const char *id, GError **error)
{
  g_autoptr (BangerTemplate) template = template_new ();
  gboolean missing = FALSE;
  banger_autofd int dir_fd = banger_record_open_dir (templates->dir_fd, id, error);
  if (dir_fd < 0 || !banger_record_load (dir_fd, "template", template_fields, template, &missing, error)) {
    if (missing) {
      g_clear_error (error);
      banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "it is half-made");
    }
    return NULL;
  }
  const char *other = !is_whole (template) || !g_str_equal (template->id, id)
                          ? "its record is not whole, or of another one"
                      : !g_str_equal (template->version, BANGER_VERSION)               ? "it is of another banger"
                      : !g_str_equal (template->processor, templates->processor)       ? "it is of another processor"
                      : !templates->house->is_current (template, templates->user_data) ? "what it was made from is gone"
                                                                                       : NULL;
  if (other) {
    banger_set_error (error, BANGER_ERROR_WRONG_STATE, "%s", other);
    return NULL;
  }
  template->dir_fd = banger_steal_fd (&dir_fd);
  return g_steal_pointer (&template);
}

static gboolean
load (BangerTemplates *templates, GError **error)
{
  g_auto (GStrv) ids = banger_record_list (templates->dir_fd, error);
  for (char **id = ids; id && *id; id++) {
    g_autoptr (GError) why = NULL;
    BangerTemplate *template = load_one (templates, *id, &why);
    if (template) {
      g_hash_table_insert (templates->table, template->id, template);
      continue;
    }
    banger_log (LOG_NOTICE, NULL, "removing the template %s: %s", *id, why->message);
    remove_files (templates, *id);
  }
  return ids != NULL;
}

/* What there is to start VMs with is asked once for each life of the helper, which does not look again either. */

static void
engine_is_known (BangerTemplates *templates)
{
  templates->asking = FALSE;
  for (GTask *task; (task = g_queue_pop_head (&templates->waiting));)
    banger_task_return_later (task, NULL);
}

static void
on_engine (GObject *source, GAsyncResult *result, gpointer data)
{
  BangerTemplates **link = data, *templates = *link;
  g_autoptr (GError) error = NULL;
  BangerEngineInfo info = { 0 };
  g_rc_box_release (link);
  if (!templates)
    return;
  if (banger_helper_engine_finish (result, &info, &error)) {
    g_free (templates->engine);
    templates->engine = *info.name ? g_strconcat (info.name, *info.kvm ? " emulated" : " kvm", NULL) : NULL;
    banger_engine_info_clear (&info);
  } else {
    banger_log (LOG_INFO, NULL, "which engine there is for templates is not known: %s", error->message);
  }
  engine_is_known (templates);
}

void
template_engine_async (BangerTemplates *templates, GAsyncReadyCallback callback, gpointer user_data)
{
  GTask *task = g_task_new (NULL, NULL, callback, user_data);
  if (templates->asking)
    g_queue_push_tail (&templates->waiting, task);
  else
    banger_task_return_later (task, NULL);
}

static void
helper_changed (gboolean available, gpointer data)
{
  BangerTemplates *templates = data;
  if (!available)
    return;
  templates->asking = TRUE;
  banger_helper_call (templates->helper, NULL, "GetEngine", NULL, on_engine, g_rc_box_acquire (templates->link));
}

BangerTemplates *
banger_templates_new (const BangerInstall *install, BangerHelper *helper, BangerWriter *writer, int dir_fd,
                      const BangerTemplatesHouse *house, gpointer data, GError **error)
{
  g_autoptr (BangerTemplates) templates = g_new0 (BangerTemplates, 1);
  templates->install = install;
  templates->helper = helper;
  templates->writer = writer;
  templates->dir_fd = dir_fd;
  templates->house = house;
  templates->user_data = data;
  templates->table = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, (GDestroyNotify)template_free);
  templates->making = g_hash_table_new (g_str_hash, g_str_equal);
  templates->disks = banger_gone_disks_new (helper);
  g_queue_init (&templates->waiting);
  templates->link = g_rc_box_new0 (BangerTemplates *);
  *templates->link = templates;
  templates->failed = g_ptr_array_new_with_free_func ((GDestroyNotify)template_free);
  templates->processor = banger_stamp_processor ();
  templates->notify = banger_helper_add_notify (helper, helper_changed, templates);
  return load (templates, error) ? g_steal_pointer (&templates) : NULL;
}

void
banger_templates_free (BangerTemplates *templates)
{
  if (!templates)
    return;
  banger_helper_remove_notify (templates->helper, templates->notify);
  *templates->link = NULL;
  if (templates->automatic)
    templates->automatic_free (templates->automatic);
  g_ptr_array_unref (templates->failed);
  g_rc_box_release (templates->link);
  g_queue_clear_full (&templates->waiting, g_object_unref);
  g_hash_table_unref (templates->table);
  g_hash_table_unref (templates->making);
  banger_gone_disks_free (templates->disks);
  g_free (templates->engine);
  g_free (templates->processor);
  g_free (templates);
}

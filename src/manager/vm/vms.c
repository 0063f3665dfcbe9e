/* What a new VM needs, and what is found of VMs at a start of the daemon.
 * Never gives away an address, a name or an id that a VM has which cannot be read. */
#include "manager/vm/private.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/fd.h"
#include "common/guest-protocol.h"
#include "common/ids.h"
#include "common/state-file.h"
#include "common/validate.h"
#include "manager/vm/initrd.h"

#define MIB (G_GUINT64_CONSTANT (1) << 20)
#define SALVAGE_BYTES 65536
/* Who kills or deletes waits no longer; the last seconds are for the answer to what was sent already. */
#define END_SECONDS 25
#define SYNC_SECONDS 60 /* that a stop in order waits for the disk */

static void
table_free_vm (gpointer data)
{
  banger_vm_unref (data);
}

static gboolean
open_dirs (BangerVms *vms, GError **error)
{
  vms->vms_fd = open (vms->vms_path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (vms->vms_fd < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot open %s", vms->vms_path);
  return TRUE;
}

/* Only what is wrong with the record itself is told of: a lack of descriptors, say, passes. */
static gboolean
is_unreadable (const GError *why)
{
  return g_error_matches (why, BANGER_ERROR, BANGER_ERROR_STATE_CORRUPT)
         || g_error_matches (why, BANGER_ERROR, BANGER_ERROR_INVALID_NAME)
         || g_error_matches (why, BANGER_ERROR, BANGER_ERROR_UNSAFE_FILE);
}

/* The line of the guest's configuration in the initramfs of the last start: without it the address of a VM that runs
 * would be given to another. */
static char *
salvage_address (int dir_fd)
{
  static const char start[] = "\naddress=";
  banger_autofd int fd = openat (dir_fd, BANGER_FILE_VM_INITRD, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  struct stat st;
  if (fd < 0 || fstat (fd, &st) < 0 || !S_ISREG (st.st_mode))
    return NULL;
  g_autofree char *text = g_malloc (SALVAGE_BYTES + 1); /* the VM's own archive is the last */
  ssize_t n = banger_read_at (fd, text, SALVAGE_BYTES, MAX (0, st.st_size - SALVAGE_BYTES));
  const char *found = n > 0 ? memmem (text, (size_t)n, start, strlen (start)) : NULL;
  if (!found)
    return NULL;
  text[n] = '\0';
  found += strlen (start);
  return g_strndup (found, strspn (found, "0123456789."));
}

/* What can be had of a record that cannot be read: of a newer banger, say, it has the same words. */
static void
salvage (BangerVm *vm)
{
  BangerVmRecord *record = &vm->record;
  g_autoptr (JsonObject) object = vm->dir_fd < 0 ? NULL
                                                 : banger_state_read_json (vm->dir_fd, BANGER_FILE_RECORD, NULL, NULL);
  for (const BangerRecordField *field = banger_vm_fields; object && field->key; field++) {
    JsonNode *node = json_object_get_member (object, field->key);
    if (node && field->type == BANGER_RECORD_STRING && JSON_NODE_HOLDS_VALUE (node)
        && json_node_get_value_type (node) == G_TYPE_STRING)
      vm_set_string (G_STRUCT_MEMBER_P (record, field->offset), json_node_get_string (node));
  }
  g_autofree char *address = banger_address_parse (record->address) == 0 ? salvage_address (vm->dir_fd) : NULL;
  if (address)
    vm_set_string (&record->address, address);
  if (!record->name || !banger_name_check (record->name, "VM name", NULL) || vm_find_name (vm->vms, record->name))
    vm_set_string (&record->name, record->id);
}

/* It may run: so it keeps its name, its address and its image, and can be killed and deleted. */
static void
add_unreadable (BangerVms *vms, const char *id, const GError *why)
{
  g_autoptr (BangerVm) vm = vm_new (vms, id);
  vm->dir_fd = banger_record_open_dir (vms->vms_fd, id, NULL);
  vm->unreadable = vm->found = TRUE;
  vm->record.state = BANGER_VM_UNREADABLE;
  salvage (vm);
  vm_set_string (&vm->record.reason, why->message);
  vm_record_fill (&vm->record);
  vm_record_copy (&vm->announced, &vm->record);
  g_hash_table_insert (vms->table, vm->record.id, banger_vm_ref (vm));
  if (is_unreadable (why))
    vms->observer->unreadable (id, why, vms->user_data);
  else
    banger_log (LOG_ERR, BANGER_FIELDS (BANGER_FIELD_VM, id), "a VM cannot be read: %s", why->message);
}

static void
load_failed (BangerVms *vms, const char *id, gboolean missing, const GError *why)
{
  if (missing) /* a deletion or an addition that did not get far: see banger_record_remove() */
    banger_record_remove_async (vms->vms_fd, id, NULL, NULL);
  else
    add_unreadable (vms, id, why);
}

static void
load_one (BangerVms *vms, const char *id)
{
  g_autoptr (BangerVm) vm = vm_new (vms, id);
  g_autoptr (GError) error = NULL;
  gboolean missing = FALSE;
  vm->dir_fd = banger_record_open_dir (vms->vms_fd, id, &error);
  if (vm->dir_fd < 0 || !banger_record_load (vm->dir_fd, "vm", banger_vm_fields, &vm->record, &missing, &error)
      || !banger_name_check (vm->record.name, "VM name", &error))
  {
    load_failed (vms, id, missing, error);
    return;
  }
  vm->found = vm->unknown = vm->announced_unknown = TRUE;
  vm_record_fill (&vm->record);
  vm_record_copy (&vm->announced, &vm->record);
  g_hash_table_insert (vms->table, vm->record.id, banger_vm_ref (vm));
}

static void
on_host_clock (gpointer data)
{
  BangerVms *vms = data;
  GHashTableIter iter;
  BangerVm *vm;
  g_hash_table_iter_init (&iter, vms->table);
  while (g_hash_table_iter_next (&iter, NULL, (gpointer *)&vm))
    if (vm->clock)
      banger_guest_clock_check (vm->clock);
}

BangerVms *
banger_vms_new (const BangerInstall *install, BangerHelper *helper, BangerWriter *writer,
                const BangerVmSources *sources, const BangerVmObserver *observer, gpointer data, GError **error)
{
  g_autoptr (BangerVms) vms = g_new0 (BangerVms, 1);
  vms->install = install;
  vms->helper = helper;
  vms->writer = writer;
  vms->sources = sources;
  vms->observer = observer;
  vms->user_data = data;
  vms->end_seconds = END_SECONDS;
  vms->sync_seconds = SYNC_SECONDS;
  vms->vmm_ended = vm_exit_begin;
  vms->again = vm_reconcile_again;
  vms->vms_fd = vms->runtime_fd = -1;
  g_autofree char *uid = g_strdup_printf ("%u", install->owner_uid);
  vms->vms_path = g_build_filename (install->state_dir, uid, BANGER_FOLDER_VMS, NULL);
  vms->runtime_path = g_build_filename (install->runtime_dir, uid, NULL);
  vms->ssh = banger_ssh_paths_new (g_get_user_config_dir ());
  vms->table = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, table_free_vm);
  g_queue_init (&vms->held);
  vms->clock_watch = banger_host_clock_watch (on_host_clock, vms);
  if (!banger_subnet_parse (install->bridge_address, &vms->subnet, error) || !open_dirs (vms, error))
    return NULL;
  banger_record_take_back (vms->vms_fd);
  g_auto (GStrv) ids = banger_record_list (vms->vms_fd, error);
  if (!ids)
    return NULL;
  for (char **id = ids; *id; id++)
    load_one (vms, *id);
  vm_reach_tidy (vms);
  return g_steal_pointer (&vms);
}

void
banger_vms_free (BangerVms *vms)
{
  if (!vms)
    return;
  g_clear_handle_id (&vms->retry_id, g_source_remove);
  banger_helper_set_late (vms->helper, NULL, NULL);
  if (vms->helper_notify)
    banger_helper_remove_notify (vms->helper, vms->helper_notify);
  g_clear_handle_id (&vms->clock_watch, g_source_remove);
  g_queue_clear_full (&vms->held, (GDestroyNotify)vm_op_free);
  /* Whoever still holds a VM has an empty shell: no watch, no agent. */
  GHashTableIter iter;
  BangerVm *vm;
  g_hash_table_iter_init (&iter, vms->table);
  while (g_hash_table_iter_next (&iter, NULL, (gpointer *)&vm)) {
    vm_forwards_close (vm);
    vm_drop_agent (vm);
    vm_unwatch (vm);
    vm->vms = NULL;
  }
  banger_relays_free (vms->relays);
  g_hash_table_unref (vms->table);
  banger_ssh_paths_free (vms->ssh);
  banger_clear_fd (&vms->vms_fd);
  banger_clear_fd (&vms->runtime_fd);
  g_free (vms->vms_path);
  g_free (vms->runtime_path);
  g_free (vms);
}

/* Adding. */

static gboolean
check_new_name (BangerVms *vms, const char *name, GError **error)
{
  if (!vm_check_name (vms, name, error))
    return FALSE;
  if (g_hash_table_size (vms->table) >= vms->install->max_vms)
    return banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED,
                             "there are %u VMs, the limit is %" G_GUINT64_FORMAT ": delete one",
                             g_hash_table_size (vms->table), vms->install->max_vms);
  return TRUE;
}

static gboolean
give_address (BangerVms *vms, BangerVmRecord *record, GError **error)
{
  g_autoptr (GArray) taken = g_array_new (FALSE, FALSE, sizeof (guint32));
  GHashTableIter iter;
  BangerVm *vm;
  g_hash_table_iter_init (&iter, vms->table);
  while (g_hash_table_iter_next (&iter, NULL, (gpointer *)&vm)) {
    guint32 address = banger_address_parse (vm->record.address);
    g_array_append_val (taken, address);
  }
  guint32 address;
  if (!banger_subnet_allocate (&vms->subnet, (const guint32 *)(gpointer)taken->data, taken->len, &address, error))
    return FALSE;
  record->address = banger_address_format (address);
  return TRUE;
}

/* Two ids that would share a tap are never given. */
static char *
give_id (BangerVms *vms)
{
  for (;;) {
    g_autofree char *id = banger_id_new ();
    g_autofree char *tap = banger_tap_name (id);
    gboolean taken = FALSE;
    GHashTableIter iter;
    gpointer other;
    g_hash_table_iter_init (&iter, vms->table);
    while (!taken && g_hash_table_iter_next (&iter, &other, NULL)) {
      g_autofree char *other_tap = banger_tap_name (other);
      taken = g_str_equal (tap, other_tap);
    }
    if (!taken)
      return g_steal_pointer (&id);
  }
}

static gboolean
has_port (char **forwards, const char *full)
{
  gsize length = (gsize)(strrchr (full, ':') - full) + 1;
  for (; forwards && *forwards; forwards++)
    if (strncmp (*forwards, full, length) == 0)
      return TRUE;
  return FALSE;
}

static void
append (char ***list, const char *text)
{
  guint n = *list ? g_strv_length (*list) : 0;
  *list = g_renew (char *, *list, n + 2);
  (*list)[n] = g_strdup (text);
  (*list)[n + 1] = NULL;
}

/* What config.toml publishes, but for ports that were asked for. Whether they are free is found out by each start. */
static void
add_published (const BangerConfig *config, const char *image, const char *name, BangerVmRecord *record)
{
  for (guint i = 0; i < config->publish->len; i++) {
    const BangerPublish *publish = config->publish->pdata[i];
    gboolean full = record->forwards && g_strv_length (record->forwards) >= VM_MAX_FORWARDS;
    if (full || !banger_config_fits (publish->images, image) || !banger_config_fits (publish->names, name)
        || has_port (record->forwards, publish->forward))
      continue;
    append (&record->forwards, publish->forward);
    append (&record->published, publish->forward);
  }
}

static gboolean
fill_spec (const BangerVms *vms, BangerVmRecord *record, const BangerVmSpec *spec, const BangerVmSource *image,
           GError **error)
{
  const BangerInstall *install = vms->install;
  const BangerConfig *config = vms->sources->config (vms->user_data);
  record->vcpus = spec->vcpus ? spec->vcpus : (guint32)config->vcpus;
  record->memory_mib = spec->memory_mib ? spec->memory_mib : (guint32)(config->memory_bytes / MIB);
  guint64 bytes = spec->disk_bytes ? spec->disk_bytes : MAX (config->disk_bytes, image->seed_bytes);
  record->nat = spec->nat;
  record->ephemeral = spec->ephemeral;
  record->client = g_strdup (spec->client);
  record->init = g_strdup (spec->init);
  record->setup = g_strdup (BANGER_SETUP_PENDING);
  record->setup_script = g_strdup (spec->setup);
  if (spec->setup && !vm_check_setup (spec->setup, error))
    return FALSE;
  if (spec->init && !banger_guest_init_check (spec->init, error))
    return FALSE;
  if (spec->publish && !(record->forwards = vm_forwards_check (spec->publish, error)))
    return FALSE;
  if (!vm_reach_lists ((BangerVms *)vms, record, &spec->reach, &record->links, &record->host_ports, error))
    return FALSE;
  if (!vm_check_vcpus (record->vcpus, error) || !vm_check_memory (install, record->memory_mib, error))
    return FALSE;
  record->disk_bytes = vm_check_disk (bytes, image->seed_bytes, error);
  return record->disk_bytes > 0;
}

static gboolean
fill_record (BangerVm *vm, const char *name, const BangerVmSpec *spec, GError **error)
{
  BangerVms *vms = vm->vms;
  BangerVmRecord *record = &vm->record;
  BangerVmSource image = { .dir_fd = -1 }, kernel = { .dir_fd = -1 };
  gboolean ok = vms->sources->find_image (spec->image, &image, vms->user_data, error)
                && vms->sources->find_kernel (spec->kernel, &kernel, vms->user_data, error)
                && fill_spec (vms, record, spec, &image, error) && give_address (vms, record, error);
  if (ok && !spec->bare)
    add_published (vms->sources->config (vms->user_data), image.name, name, record);
  record->name = g_strdup (name);
  record->state = BANGER_VM_CREATING;
  record->image = g_strdup (image.name);
  record->image_id = g_strdup (image.id);
  record->kernel = g_strdup (kernel.name);
  record->kernel_id = g_strdup (kernel.id);
  record->mac = banger_vm_mac (record->id);
  record->login_user = g_strdup (BANGER_GUEST_LOGIN);
  record->created_at = (guint64)g_get_real_time ();
  if (spec->fork_of)
    vm_fork_fill (record, spec->fork_of);
  vm_record_fill (record);
  banger_vm_source_clear (&image);
  banger_vm_source_clear (&kernel);
  return ok;
}

BangerVm *
banger_vms_add (BangerVms *vms, const char *name, const BangerVmSpec *spec, GError **error)
{
  if (!check_new_name (vms, name, error))
    return NULL;
  g_autofree char *id = give_id (vms);
  g_autoptr (BangerVm) vm = vm_new (vms, id);
  if (!fill_record (vm, name, spec, error))
    return NULL;
  vm_record_copy (&vm->announced, &vm->record);
  g_hash_table_insert (vms->table, vm->record.id, banger_vm_ref (vm));
  vms->observer->objects.added (BANGER_OBJECT_VM, id, vms->user_data);
  vm_log (vm, NULL, LOG_INFO, "added");
  return vm; /* the table's reference */
}

void
banger_vm_reserve (BangerVm *vm)
{
  vm->reserved = TRUE;
}

gboolean
banger_vm_is_gone (const BangerVm *vm)
{
  return vm->gone;
}

void
banger_vm_drop (BangerVm *vm)
{
  vm_forget (vm);
}

/* Arguments and results of the methods: names, types, and the gate of each kind.
 * Never lets a value pass that a handler would have to check again. */
#include <string.h>

#include "common/log.h"
#include "common/names.h"
#include "common/op-id.h"
#include "common/options.h"
#include "common/validate.h"
#include "privileged/call.h"
#include "privileged/gate.h"
#include "privileged/lease.h"

#define MIN_COW (G_GUINT64_CONSTANT (16) << 20)
#define MAX_COW (G_GUINT64_CONSTANT (4) << 40)
#define MIN_MEMORY 16

#define MAX_KEEP 256

typedef gboolean (*Gate) (BangerCall *call, const char *text, GError **error);
typedef gboolean (*Reader) (BangerCall *call, BangerArg arg, GError **error);

static gboolean
gate_vm (BangerCall *call, const char *text, GError **error)
{
  return banger_id_check (text, "VM id", error);
}

static gboolean
gate_copy (BangerCall *call, const char *text, GError **error)
{
  return banger_id_check (text, "id of the copy", error);
}

static gboolean
gate_image (BangerCall *call, const char *text, GError **error)
{
  return banger_id_check (text, "image id", error);
}

static gboolean
gate_kernel (BangerCall *call, const char *text, GError **error)
{
  return banger_id_check (text, "kernel id", error);
}

static gboolean
gate_bridge (BangerCall *call, const char *text, GError **error)
{
  return banger_bridge_name_check (text, error);
}

static gboolean
gate_address (BangerCall *call, const char *text, GError **error)
{
  return banger_gate_bridge_net (call->root->install, text, error);
}

static gboolean
gate_guest (BangerCall *call, const char *text, GError **error)
{
  return banger_ipv4_parse (text, NULL, error);
}

static gboolean
gate_word (const char *text, const char *what, const char *const *words, GError **error)
{
  if (g_strv_contains (words, text))
    return TRUE;
  g_autofree char *shown = banger_log_escape (text, 32), *choices = g_strjoinv (", ", (char **)words);
  return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "%s '%s': choose one of %s", what, shown, choices);
}

static gboolean
gate_root_disk (BangerCall *call, const char *text, GError **error)
{
  static const char *const words[] = { "snapshot", "file", NULL };
  return gate_word (text, "root disk", words, error);
}

static gboolean
gate_disk (BangerCall *call, const char *text, GError **error)
{
  static const char *const words[] = { "snapshot", "rootfs", "work", NULL };
  return gate_word (text, "disk", words, error);
}

static gboolean
gate_socket (BangerCall *call, const char *text, GError **error)
{
  static const char *const words[] = { "api", "vsock", NULL };
  return gate_word (text, "socket", words, error);
}

static gboolean
gate_path (BangerCall *call, const char *text, GError **error)
{
  return banger_gate_disk_path (text, error);
}

static gboolean
gate_resolver (BangerCall *call, const char *text, GError **error)
{
  return banger_gate_resolver (text, NULL, NULL, error);
}

static gboolean
gate_signal (BangerCall *call, const char *text, GError **error)
{
  return banger_gate_signal (text, &call->signal, error);
}

static gboolean
unreadable (BangerArg arg, GError **error)
{
  return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "argument '%s' cannot be read", banger_arg_name (arg));
}

static gboolean read_text (BangerCall *call, BangerArg arg, GError **error);

static gboolean
gate_cow_bytes (guint64 bytes, const char *name, GError **error)
{
  return (bytes >= MIN_COW && bytes <= MAX_COW && bytes % 512 == 0)
         || banger_set_error (error, BANGER_ERROR_INVALID_SIZE, "%s must be a multiple of 512 from 16 MiB to 4 TiB",
                              name);
}

static gboolean
read_cow_bytes (BangerCall *call, BangerArg arg, GError **error)
{
  if (sd_bus_message_read_basic (call->message, 't', &call->cow_bytes) <= 0)
    return unreadable (arg, error);
  return gate_cow_bytes (call->cow_bytes, banger_arg_name (arg), error);
}

static gboolean
read_ids (BangerCall *call, BangerArg arg, guint most, GError **error)
{
  const char *vm = NULL;
  int r = sd_bus_message_enter_container (call->message, 'a', "s");
  g_clear_pointer (&call->keep, g_ptr_array_unref);
  call->keep = g_ptr_array_new ();
  while (r >= 0 && (r = sd_bus_message_read_basic (call->message, 's', &vm)) > 0) {
    if (call->keep->len == most)
      return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "argument '%s': more than %u ids",
                               banger_arg_name (arg), most);
    if (!banger_id_check (vm, "VM id", error))
      return FALSE;
    g_ptr_array_add (call->keep, (gpointer)vm);
  }
  return (r >= 0 && sd_bus_message_exit_container (call->message) >= 0) || unreadable (arg, error);
}

static gboolean
read_keep (BangerCall *call, BangerArg arg, GError **error)
{
  return read_ids (call, arg, MAX_KEEP, error);
}

static gboolean
read_links (BangerCall *call, BangerArg arg, GError **error)
{
  return read_ids (call, arg, BANGER_REACH_MAX_LINKS, error);
}

static gboolean
read_ports (BangerCall *call, BangerArg arg, GError **error)
{
  guint16 port;
  int r = sd_bus_message_enter_container (call->message, 'a', "q");
  g_clear_pointer (&call->ports, g_array_unref);
  call->ports = g_array_new (FALSE, FALSE, sizeof port);
  while (r >= 0 && (r = sd_bus_message_read_basic (call->message, 'q', &port)) > 0) {
    if (call->ports->len == BANGER_REACH_MAX_PORTS || port == 0)
      return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "ports are 1 to 65535, and at most %d of them",
                               BANGER_REACH_MAX_PORTS);
    g_array_append_val (call->ports, port);
  }
  return (r >= 0 && sd_bus_message_exit_container (call->message) >= 0) || unreadable (arg, error);
}

/* One (suay): path, mode, content. */
static int
read_file (sd_bus_message *m, BangerDiskFile *file)
{
  int r = sd_bus_message_enter_container (m, 'r', "suay");
  if (r > 0)
    r = sd_bus_message_read (m, "su", &file->path, &file->mode);
  if (r > 0)
    r = sd_bus_message_read_array (m, 'y', &file->data, &file->length);
  return r < 0 ? r : sd_bus_message_exit_container (m);
}

static gboolean
read_files (BangerCall *call, BangerArg arg, GError **error)
{
  int r = sd_bus_message_enter_container (call->message, 'a', "(suay)");
  g_clear_pointer (&call->files, g_ptr_array_unref);
  call->files = g_ptr_array_new_with_free_func (g_free);
  while (r >= 0 && (r = sd_bus_message_at_end (call->message, FALSE)) == 0) {
    BangerDiskFile *file = g_new0 (BangerDiskFile, 1);
    g_ptr_array_add (call->files, file);
    r = read_file (call->message, file);
    if (r >= 0 && call->files->len > BANGER_DISK_MAX_FILES)
      break;
  }
  if (call->files->len <= BANGER_DISK_MAX_FILES && (r < 0 || sd_bus_message_exit_container (call->message) < 0))
    return unreadable (arg, error);
  return banger_gate_disk_files (call->files, error);
}

static const struct {
  const char *name, *type;
  Reader read;
  Gate gate; /* of texts */
} args[BANGER_N_ARGS] = {
  [BANGER_ARG_VM] = { "vm", "s", read_text, gate_vm },
  [BANGER_ARG_IMAGE] = { "image", "s", read_text, gate_image },
  [BANGER_ARG_KERNEL] = { "kernel", "s", read_text, gate_kernel },
  [BANGER_ARG_BRIDGE] = { "bridge", "s", read_text, gate_bridge },
  [BANGER_ARG_ADDRESS] = { "address", "s", read_text, gate_address },
  [BANGER_ARG_GUEST_ADDRESS] = { "guest_address", "s", read_text, gate_guest },
  [BANGER_ARG_COW_BYTES] = { "cow_bytes", "t", read_cow_bytes, NULL },
  [BANGER_ARG_ROOT_DISK] = { "root", "s", read_text, gate_root_disk },
  [BANGER_ARG_SIGNAL] = { "signal", "s", read_text, gate_signal },
  [BANGER_ARG_RESOLVER] = { "resolver", "s", read_text, gate_resolver },
  [BANGER_ARG_DISK] = { "disk", "s", read_text, gate_disk },
  [BANGER_ARG_PATH] = { "path", "s", read_text, gate_path },
  [BANGER_ARG_FILES] = { "files", "a(suay)", read_files, NULL },
  [BANGER_ARG_SOCKET] = { "socket", "s", read_text, gate_socket },
  [BANGER_ARG_COPY] = { "copy", "s", read_text, gate_copy },
  [BANGER_ARG_KEEP] = { "keep", "as", read_keep, NULL },
  [BANGER_ARG_LINKS] = { "links", "as", read_links, NULL },
  [BANGER_ARG_PORTS] = { "ports", "aq", read_ports, NULL },
};

static gboolean
read_text (BangerCall *call, BangerArg arg, GError **error)
{
  const char *text = NULL;
  if (sd_bus_message_read_basic (call->message, 's', &text) <= 0)
    return unreadable (arg, error);
  call->strings[arg] = text; /* the message lives as long as the call */
  return args[arg].gate (call, text, error);
}

static const struct {
  const char *type, *names;
} results[BANGER_N_RESULTS] = {
  [BANGER_RESULT_NONE] = { "", "" },
  [BANGER_RESULT_TAP] = { "s", "tap\0" },
  [BANGER_RESULT_DEVICE] = { "s", "device\0" },
  [BANGER_RESULT_PIDFD] = { "uh", "pid\0pidfd\0" },
  [BANGER_RESULT_STATUS] = { "a{sv}", "status\0" },
  [BANGER_RESULT_LEASES] = { "a(ssu)", "leases\0" },
  [BANGER_RESULT_CHECK] = { "s", "result\0" },
  [BANGER_RESULT_DATA] = { "ay", "data\0" },
  [BANGER_RESULT_VMS] = { "as", "vms\0" },
  [BANGER_RESULT_ENGINE] = { "sss", "engine\0problem\0kvm\0" },
  [BANGER_RESULT_PLACE] = { "ss", "tap\0device\0" },
  [BANGER_RESULT_DISK] = { "h", "disk\0" },
};

const char *
banger_arg_name (BangerArg arg)
{
  return args[arg].name;
}

const char *
banger_arg_type (BangerArg arg)
{
  return args[arg].type;
}

const char *
banger_result_type (BangerResult result)
{
  return results[result].type;
}

const char *
banger_result_names (BangerResult result)
{
  return results[result].names;
}

typedef struct {
  char *op_id, *from, *template_id;
  guint32 memory_mib;
  gboolean fresh, mapped, nat, replace;
  char *image;
  guint64 cow_bytes;
} Options;

#define OP_ID                                                                                                          \
  {                                                                                                                    \
    BANGER_OPTION_OP_ID, BANGER_OPTION_STRING, offsetof (Options, op_id), NULL                                         \
  }

static const BangerOption option_table[] = {
  OP_ID,
  { NULL },
};

const BangerOption banger_options_snapshot[] = {
  OP_ID,
  { BANGER_OPTION_NEW, BANGER_OPTION_BOOL, offsetof (Options, fresh), NULL },
  { BANGER_OPTION_FROM, BANGER_OPTION_STRING, offsetof (Options, from), NULL },
  { NULL },
};

const BangerOption banger_options_copy[] = {
  OP_ID,
  { BANGER_OPTION_REPLACE, BANGER_OPTION_BOOL, offsetof (Options, replace), NULL },
  { NULL },
};

const BangerOption banger_options_prepare[] = {
  OP_ID,
  { BANGER_OPTION_NAT, BANGER_OPTION_BOOL, offsetof (Options, nat), NULL },
  { BANGER_OPTION_IMAGE, BANGER_OPTION_STRING, offsetof (Options, image), NULL },
  { BANGER_OPTION_COW_BYTES, BANGER_OPTION_UINT64, offsetof (Options, cow_bytes), NULL },
  { BANGER_OPTION_NEW, BANGER_OPTION_BOOL, offsetof (Options, fresh), NULL },
  { BANGER_OPTION_FROM, BANGER_OPTION_STRING, offsetof (Options, from), NULL },
  { NULL },
};

const BangerOption banger_options_launch[] = {
  OP_ID,
  { BANGER_OPTION_MEMORY_MIB, BANGER_OPTION_UINT32, offsetof (Options, memory_mib), NULL },
  { BANGER_OPTION_TEMPLATE, BANGER_OPTION_STRING, offsetof (Options, template_id), NULL },
  { BANGER_OPTION_MAPPED, BANGER_OPTION_BOOL, offsetof (Options, mapped), NULL },
  { NULL },
};

static gboolean
take_ids (BangerCall *call, const Options *options, GError **error)
{
  g_free (call->from);
  g_free (call->template_id);
  call->from = g_strdup (options->from);
  call->template_id = g_strdup (options->template_id);
  if (options->template_id && !banger_id_check (options->template_id, "template id", error))
    return FALSE;
  if (!options->from)
    return TRUE;
  if (!banger_id_check (options->from, "id of the disk to copy", error))
    return FALSE;
  return (!options->fresh && !g_str_equal (options->from, banger_call_vm (call)))
         || banger_set_error (error, BANGER_ERROR_INVALID_ARGS,
                              BANGER_OPTION_FROM " names another disk, and not with " BANGER_OPTION_NEW);
}

/* PrepareVm's root disk: what CreateSnapshot has as arguments. All of it or nothing. */
static gboolean
take_disk (BangerCall *call, const Options *options, GError **error)
{
  g_clear_pointer (&call->image, g_free); /* read before polkit was asked, and again */
  if (!options->image)
    return (options->cow_bytes == 0 && !options->fresh && !options->from)
           || banger_set_error (error, BANGER_ERROR_INVALID_ARGS,
                                "options '" BANGER_OPTION_COW_BYTES "', '" BANGER_OPTION_NEW
                                "' and '" BANGER_OPTION_FROM "' need '" BANGER_OPTION_IMAGE "'");
  if (!banger_id_check (options->image, "image id", error)
      || !gate_cow_bytes (options->cow_bytes, BANGER_OPTION_COW_BYTES, error))
    return FALSE;
  call->image = g_strdup (options->image);
  call->cow_bytes = options->cow_bytes;
  return TRUE;
}

/* Guests of less than MIN_MEMORY do not boot; the most is the admin's to say. */
static gboolean
take_options (BangerCall *call, const Options *options, GError **error)
{
  guint64 most = call->root->install->max_memory_mib;
  call->memory_mib = options->memory_mib;
  call->fresh = options->fresh;
  call->mapped = options->mapped;
  call->replace = options->replace;
  if (!take_ids (call, options, error))
    return FALSE;
  call->nat = options->nat;
  if (call->method->options == banger_options_prepare && !take_disk (call, options, error))
    return FALSE;
  if (options->memory_mib > most)
    return banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED,
                             BANGER_OPTION_MEMORY_MIB " is %u, not more than %" G_GUINT64_FORMAT
                                                      " is allowed (limits.memory-mib)",
                             options->memory_mib, most);
  return options->memory_mib == 0 || options->memory_mib >= MIN_MEMORY
         || banger_set_error (error, BANGER_ERROR_INVALID_SIZE, BANGER_OPTION_MEMORY_MIB " must be at least %d",
                              MIN_MEMORY);
}

gboolean
banger_call_read_args (BangerCall *call, GError **error)
{
  Options options = { 0 };
  if (sd_bus_message_rewind (call->message, TRUE) < 0)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "the message cannot be read");
  for (int i = 0; i < BANGER_MAX_ARGS && call->method->args[i] != BANGER_ARG_NONE; i++)
    if (!args[call->method->args[i]].read (call, call->method->args[i], error))
      return FALSE;
  const BangerOption *table = call->method->options ? call->method->options : option_table;
  gboolean ok = banger_options_read (call->message, table, &options, error) && take_options (call, &options, error);
  banger_options_clear (table, &options);
  return ok;
}

/* The value of "op-id" at the cursor, an a{sv}; whatever else is there is skipped. */
static char *
find_op_id (sd_bus_message *m)
{
  char *found = NULL;
  if (sd_bus_message_enter_container (m, 'a', "{sv}") <= 0)
    return NULL;
  while (!found && sd_bus_message_enter_container (m, 'e', "sv") > 0) {
    const char *key = NULL, *contents = NULL, *value = NULL;
    if (sd_bus_message_read_basic (m, 's', &key) <= 0 || sd_bus_message_peek_type (m, NULL, &contents) <= 0)
      return NULL;
    if (g_str_equal (key, BANGER_OPTION_OP_ID) && g_strcmp0 (contents, "s") == 0) {
      if (sd_bus_message_read (m, "v", "s", &value) > 0 && banger_op_id_valid (value))
        found = g_strdup (value);
      return found;
    }
    if (sd_bus_message_skip (m, "v") < 0 || sd_bus_message_exit_container (m) < 0)
      return NULL;
  }
  return found;
}

char *
banger_call_read_op_id (sd_bus_message *m)
{
  const char *signature = sd_bus_message_get_signature (m, TRUE);
  char *found = NULL;
  if (signature && g_str_has_suffix (signature, "a{sv}") && sd_bus_message_rewind (m, TRUE) >= 0) {
    g_autofree char *before = g_strndup (signature, strlen (signature) - strlen ("a{sv}"));
    if (*before == '\0' || sd_bus_message_skip (m, before) >= 0)
      found = find_op_id (m);
  }
  (void)sd_bus_message_rewind (m, TRUE);
  return found ? found : banger_op_id_new ();
}

static int
append_status (sd_bus_message *reply, const BangerCall *call)
{
  int r = sd_bus_message_open_container (reply, 'a', "{sv}");
  if (r >= 0)
    r = sd_bus_message_append (reply, "{sv}", "running", "b", call->running);
  if (r >= 0)
    r = sd_bus_message_append (reply, "{sv}", "pid", "u", call->pid);
  if (r >= 0 && call->exit_code >= 0)
    r = sd_bus_message_append (reply, "{sv}", "exit-code", "i", call->exit_code);
  if (r >= 0 && call->exit_signal > 0)
    r = sd_bus_message_append (reply, "{sv}", "exit-signal", "i", call->exit_signal);
  return r < 0 ? r : sd_bus_message_close_container (reply);
}

static int
append_leases (sd_bus_message *reply, const BangerCall *call)
{
  int r = sd_bus_message_open_container (reply, 'a', "(ssu)");
  for (guint i = 0; r >= 0 && call->leases && i < call->leases->len; i++) {
    const BangerLease *lease = call->leases->pdata[i];
    g_autofree char *held = banger_lease_resources (lease);
    r = sd_bus_message_append (reply, "(ssu)", lease->vm, held, lease->pid);
  }
  return r < 0 ? r : sd_bus_message_close_container (reply);
}

static int
append_vms (sd_bus_message *reply, const BangerCall *call)
{
  int r = sd_bus_message_open_container (reply, 'a', "s");
  for (guint i = 0; r >= 0 && call->vms && i < call->vms->len; i++)
    r = sd_bus_message_append_basic (reply, 's', call->vms->pdata[i]);
  return r < 0 ? r : sd_bus_message_close_container (reply);
}

static int
append_data (sd_bus_message *reply, const BangerCall *call)
{
  size_t length = 0;
  const void *data = call->data ? g_bytes_get_data (call->data, &length) : NULL;
  return sd_bus_message_append_array (reply, 'y', data, length);
}

int
banger_call_reply (BangerCall *call)
{
  g_autoptr (sd_bus_message) reply = NULL;
  int r = sd_bus_message_new_method_return (call->message, &reply);
  if (r < 0)
    return r;
  switch (call->method->result) {
    case BANGER_RESULT_TAP:
    case BANGER_RESULT_DEVICE:
    case BANGER_RESULT_CHECK:
      r = sd_bus_message_append (reply, "s", call->text);
      break;
    case BANGER_RESULT_PIDFD:
      r = sd_bus_message_append (reply, "uh", call->pid, call->pidfd);
      break;
    case BANGER_RESULT_STATUS:
      r = append_status (reply, call);
      break;
    case BANGER_RESULT_LEASES:
      r = append_leases (reply, call);
      break;
    case BANGER_RESULT_DATA:
      r = append_data (reply, call);
      break;
    case BANGER_RESULT_VMS:
      r = append_vms (reply, call);
      break;
    case BANGER_RESULT_ENGINE:
      r = sd_bus_message_append (reply, "sss", call->engine.name, call->engine.problem, call->engine.kvm);
      break;
    case BANGER_RESULT_PLACE:
      r = sd_bus_message_append (reply, "ss", call->text, call->device);
      break;
    case BANGER_RESULT_DISK:
      r = sd_bus_message_append (reply, "h", call->disk);
      break;
    case BANGER_RESULT_NONE:
    case BANGER_N_RESULTS:
      break;
  }
  return r < 0 ? r : sd_bus_send (NULL, reply, NULL);
}

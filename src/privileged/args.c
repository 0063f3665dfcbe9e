/* Arguments and results of the methods: names, types, and the gate of each kind.
 * Called by dispatch.c, in the main loop.
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
  return banger_gate_bridge_address (text, NULL, NULL, error);
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
read_cow_bytes (BangerCall *call, BangerArg arg, GError **error)
{
  if (sd_bus_message_read_basic (call->message, 't', &call->cow_bytes) <= 0)
    return unreadable (arg, error);
  return (call->cow_bytes >= MIN_COW && call->cow_bytes <= MAX_COW && call->cow_bytes % 512 == 0)
         || banger_set_error (error, BANGER_ERROR_INVALID_SIZE,
                              "cow_bytes must be a multiple of 512 from 16 MiB to 4 TiB");
}

static gboolean
read_keep (BangerCall *call, BangerArg arg, GError **error)
{
  const char *vm = NULL;
  int r = sd_bus_message_enter_container (call->message, 'a', "s");
  g_clear_pointer (&call->keep, g_ptr_array_unref);
  call->keep = g_ptr_array_new ();
  while (r >= 0 && (r = sd_bus_message_read_basic (call->message, 's', &vm)) > 0) {
    if (call->keep->len == MAX_KEEP)
      return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "more than %d ids to keep", MAX_KEEP);
    if (!banger_id_check (vm, "VM id", error))
      return FALSE;
    g_ptr_array_add (call->keep, (gpointer)vm);
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
  [BANGER_ARG_KEEP] = { "keep", "as", read_keep, NULL },
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
  char *op_id;
  guint32 memory_mib;
} Options;

#define OP_ID                                                                                                          \
  {                                                                                                                    \
    BANGER_OPTION_OP_ID, BANGER_OPTION_STRING, offsetof (Options, op_id), NULL                                         \
  }

static const BangerOption option_table[] = {
  OP_ID,
  { NULL },
};

const BangerOption banger_options_launch[] = {
  OP_ID,
  { BANGER_OPTION_MEMORY_MIB, BANGER_OPTION_UINT32, offsetof (Options, memory_mib), NULL },
  { NULL },
};

/* Guests of less than MIN_MEMORY do not boot; the most is the admin's to say. */
static gboolean
take_options (BangerCall *call, const Options *options, GError **error)
{
  guint64 most = call->root->install->max_memory_mib;
  call->memory_mib = options->memory_mib;
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
    case BANGER_RESULT_NONE:
    case BANGER_N_RESULTS:
      break;
  }
  return r < 0 ? r : sd_bus_send (NULL, reply, NULL);
}

/* The closed table of errors: code, D-Bus name, exit status.
 * Never holds message texts. */
#include "common/error.h"

#include <errno.h>
#include <gio/gio.h>
#include <string.h>

#include "common/names.h"
#include "common/op-id.h"

typedef struct {
  const char *name;
  int exit_status;
} ErrorRow;

#define OWN(word) BANGER_ERROR_PREFIX word

/* Exit statuses keep clear of 124..127 and 128+n, which belong to guest commands and shells. */
static const ErrorRow rows[] = {
  [BANGER_ERROR_FAILED] = { OWN ("Failed"), 1 },
  [BANGER_ERROR_INVALID_ARGS] = { SD_BUS_ERROR_INVALID_ARGS, 2 },
  [BANGER_ERROR_ACCESS_DENIED] = { SD_BUS_ERROR_ACCESS_DENIED, 77 },
  [BANGER_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED] = { SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, 77 },
  [BANGER_ERROR_NOT_SUPPORTED] = { SD_BUS_ERROR_NOT_SUPPORTED, 69 },
  [BANGER_ERROR_UNKNOWN_METHOD] = { SD_BUS_ERROR_UNKNOWN_METHOD, 70 },
  [BANGER_ERROR_NO_SUCH_VM] = { OWN ("NoSuchVM"), 66 },
  [BANGER_ERROR_NO_SUCH_IMAGE] = { OWN ("NoSuchImage"), 66 },
  [BANGER_ERROR_NO_SUCH_KERNEL] = { OWN ("NoSuchKernel"), 66 },
  [BANGER_ERROR_NO_SUCH_SNAPSHOT] = { OWN ("NoSuchSnapshot"), 66 },
  [BANGER_ERROR_NO_SUCH_JOB] = { OWN ("NoSuchJob"), 66 },
  [BANGER_ERROR_NO_SUCH_LEASE] = { OWN ("NoSuchLease"), 66 },
  [BANGER_ERROR_VM_EXISTS] = { OWN ("VMExists"), 73 },
  [BANGER_ERROR_IMAGE_EXISTS] = { OWN ("ImageExists"), 73 },
  [BANGER_ERROR_KERNEL_EXISTS] = { OWN ("KernelExists"), 73 },
  [BANGER_ERROR_SNAPSHOT_EXISTS] = { OWN ("SnapshotExists"), 73 },
  [BANGER_ERROR_IN_USE] = { OWN ("InUse"), 75 },
  [BANGER_ERROR_WRONG_STATE] = { OWN ("WrongState"), 75 },
  [BANGER_ERROR_INVALID_NAME] = { OWN ("InvalidName"), 2 },
  [BANGER_ERROR_INVALID_ID] = { OWN ("InvalidId"), 2 },
  [BANGER_ERROR_INVALID_SIZE] = { OWN ("InvalidSize"), 2 },
  [BANGER_ERROR_INVALID_PATH] = { OWN ("InvalidPath"), 2 },
  [BANGER_ERROR_INVALID_IMAGE] = { OWN ("InvalidImage"), 65 },
  [BANGER_ERROR_INVALID_KERNEL] = { OWN ("InvalidKernel"), 65 },
  [BANGER_ERROR_INVALID_CATALOG] = { OWN ("InvalidCatalog"), 65 },
  [BANGER_ERROR_INVALID_NETWORK] = { OWN ("InvalidNetwork"), 2 },
  [BANGER_ERROR_INVALID_SIGNAL] = { OWN ("InvalidSignal"), 2 },
  [BANGER_ERROR_NOT_AUTHORIZED] = { OWN ("NotAuthorized"), 77 },
  [BANGER_ERROR_UNSAFE_FILE] = { OWN ("UnsafeFile"), 77 },
  [BANGER_ERROR_UNSAFE_HOST] = { OWN ("UnsafeHost"), 77 },
  [BANGER_ERROR_HELPER_UNAVAILABLE] = { OWN ("HelperUnavailable"), 69 },
  [BANGER_ERROR_ENGINE_FAILED] = { OWN ("EngineFailed"), 70 },
  [BANGER_ERROR_GUEST_TIMEOUT] = { OWN ("GuestTimeout"), 75 },
  [BANGER_ERROR_GUEST_FAILED] = { OWN ("GuestFailed"), 70 },
  [BANGER_ERROR_TIMEOUT] = { OWN ("Timeout"), 75 },
  [BANGER_ERROR_CANCELLED] = { OWN ("Cancelled"), 75 },
  [BANGER_ERROR_LIMITS_EXCEEDED] = { SD_BUS_ERROR_LIMITS_EXCEEDED, 75 },
  [BANGER_ERROR_NO_SPACE] = { OWN ("NoSpace"), 74 },
  [BANGER_ERROR_STATE_CORRUPT] = { OWN ("StateCorrupt"), 70 },
  [BANGER_ERROR_REGISTRY_DENIED] = { OWN ("RegistryDenied"), 77 },
  [BANGER_ERROR_REGISTRY_BUSY] = { OWN ("RegistryBusy"), 75 },
  [BANGER_ERROR_REGISTRY_UNREACHABLE] = { OWN ("RegistryUnreachable"), 69 },
};
G_STATIC_ASSERT (G_N_ELEMENTS (rows) == BANGER_N_ERRORS);

G_DEFINE_QUARK (banger - error - quark, banger_error)

static const ErrorRow *
row (BangerError code)
{
  return &rows[(unsigned)code < BANGER_N_ERRORS ? code : BANGER_ERROR_FAILED];
}

const char *
banger_error_dbus_name (BangerError code)
{
  return row (code)->name;
}

BangerError
banger_error_from_dbus_name (const char *name)
{
  for (unsigned i = 0; name && i < BANGER_N_ERRORS; i++)
    if (g_str_equal (rows[i].name, name))
      return (BangerError)i;
  return BANGER_ERROR_FAILED;
}

int
banger_error_exit_status (BangerError code)
{
  return row (code)->exit_status;
}

gboolean
banger_set_error (GError **error, BangerError code, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  if (error)
    *error = g_error_new_valist (BANGER_ERROR, (int)code, format, args);
  va_end (args);
  return FALSE;
}

gboolean
banger_set_error_errno (GError **error, BangerError code, int errnum, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *what = g_strdup_vprintf (format, args);
  va_end (args);
  if (errnum == ENOSPC || errnum == EDQUOT)
    code = BANGER_ERROR_NO_SPACE;
  g_set_error (error, BANGER_ERROR, (int)code, "%s: %s", what, g_strerror (errnum));
  return FALSE;
}

GError *
banger_error_cancelled (void)
{
  return g_error_new_literal (BANGER_ERROR, BANGER_ERROR_CANCELLED, "cancelled");
}

gboolean
banger_set_cancelled (GError **error)
{
  g_propagate_error (error, banger_error_cancelled ());
  return FALSE;
}

/* Where a final " (op-...)" begins, or NULL. */
static const char *
find_op_id (const char *message)
{
  const char *open = strrchr (message, '(');
  size_t length = strlen (message);
  if (!open || open == message || open[-1] != ' ' || message[length - 1] != ')')
    return NULL;
  g_autofree char *inner = g_strndup (open + 1, (size_t)(message + length - 1 - (open + 1)));
  return banger_op_id_valid (inner) ? open - 1 : NULL;
}

char *
banger_error_strip_op_id (const char *message)
{
  const char *end = find_op_id (message);
  return end ? g_strndup (message, (size_t)(end - message)) : g_strdup (message);
}

int
banger_error_to_bus (const GError *error, const char *op_id, sd_bus_error *ret_error)
{
  BangerError code = BANGER_ERROR_FAILED;
  if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    code = BANGER_ERROR_CANCELLED;
  else if (error->domain == BANGER_ERROR)
    code = (BangerError)error->code;
  const char *name = banger_error_dbus_name (code);
  g_autofree char *text = g_utf8_make_valid (error->message, -1); /* file names may be any bytes, a bus's strings not */
  if (op_id && *op_id && !find_op_id (text))
    return sd_bus_error_setf (ret_error, name, "%s (%s)", text, op_id);
  return sd_bus_error_set (ret_error, name, text);
}

gboolean
banger_error_from_bus (GError **error, const sd_bus_error *bus_error, int r, const char *what)
{
  if (!bus_error || !sd_bus_error_is_set (bus_error))
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, r < 0 ? -r : EIO, "%s", what);
  g_set_error (error, BANGER_ERROR, (int)banger_error_from_dbus_name (bus_error->name), "%s: %s", what,
               bus_error->message ? bus_error->message : bus_error->name);
  return FALSE;
}

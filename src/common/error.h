/* The closed table of errors: code, D-Bus name, exit status.
 * Never holds message texts: whoever fails says what and which value. */
#pragma once

#include <glib.h>
#include <systemd/sd-bus.h>

typedef enum {
  BANGER_ERROR_FAILED, /* no better row fits */
  BANGER_ERROR_INVALID_ARGS,
  BANGER_ERROR_ACCESS_DENIED,
  BANGER_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
  BANGER_ERROR_NOT_SUPPORTED,
  BANGER_ERROR_UNKNOWN_METHOD,
  BANGER_ERROR_NO_SUCH_VM,
  BANGER_ERROR_NO_SUCH_IMAGE,
  BANGER_ERROR_NO_SUCH_KERNEL,
  BANGER_ERROR_NO_SUCH_SNAPSHOT,
  BANGER_ERROR_NO_SUCH_JOB,
  BANGER_ERROR_NO_SUCH_LEASE,
  BANGER_ERROR_VM_EXISTS,
  BANGER_ERROR_IMAGE_EXISTS,
  BANGER_ERROR_KERNEL_EXISTS,
  BANGER_ERROR_SNAPSHOT_EXISTS,
  BANGER_ERROR_IN_USE,
  BANGER_ERROR_WRONG_STATE,
  BANGER_ERROR_INVALID_NAME,
  BANGER_ERROR_INVALID_ID,
  BANGER_ERROR_INVALID_SIZE,
  BANGER_ERROR_INVALID_PATH,
  BANGER_ERROR_INVALID_IMAGE,
  BANGER_ERROR_INVALID_KERNEL,
  BANGER_ERROR_INVALID_CATALOG, /* damaged, or not signed as it is to be */
  BANGER_ERROR_INVALID_NETWORK,
  BANGER_ERROR_INVALID_SIGNAL,
  BANGER_ERROR_NOT_AUTHORIZED,
  BANGER_ERROR_UNSAFE_FILE,
  BANGER_ERROR_UNSAFE_HOST, /* something else on it would make an own step dangerous */
  BANGER_ERROR_HELPER_UNAVAILABLE,
  BANGER_ERROR_ENGINE_FAILED,
  BANGER_ERROR_GUEST_TIMEOUT,
  BANGER_ERROR_GUEST_FAILED,
  BANGER_ERROR_TIMEOUT,
  BANGER_ERROR_CANCELLED,
  BANGER_ERROR_LIMITS_EXCEEDED,
  BANGER_ERROR_NO_SPACE,
  BANGER_ERROR_STATE_CORRUPT,
  BANGER_ERROR_REGISTRY_DENIED,      /* it wants somebody else, or nobody may */
  BANGER_ERROR_REGISTRY_BUSY,        /* it asks to be left alone for a while */
  BANGER_ERROR_REGISTRY_UNREACHABLE, /* no way to it, none that is trusted, or it was cut */
  BANGER_N_ERRORS,
} BangerError;

#define BANGER_ERROR (banger_error_quark ())
GQuark banger_error_quark (void);

/**
 * banger_error_dbus_name:
 * Returns: (transfer none): the D-Bus name of @code, never %NULL.
 */
const char *banger_error_dbus_name (BangerError code);

/**
 * banger_error_from_dbus_name:
 * Returns: the code of @name; %BANGER_ERROR_FAILED for a name not in the table.
 */
BangerError banger_error_from_dbus_name (const char *name);

/** banger_error_exit_status: Returns: what `banger` exits with (1..125, never a guest command's range by accident). */
int banger_error_exit_status (BangerError code);

/**
 * banger_set_error_errno:
 * Sets @error to "<formatted>: <strerror (errnum)>"; ENOSPC, EDQUOT become %BANGER_ERROR_NO_SPACE.
 * @errnum: positive errno.
 * Returns: always %FALSE, so that a caller can return it.
 */
gboolean banger_set_error_errno (GError **error, BangerError code, int errnum, const char *format, ...)
    G_GNUC_PRINTF (4, 5);

/** banger_error_cancelled: Returns: (transfer full): somebody asked for the end. */
GError *banger_error_cancelled (void);

/** banger_set_error: g_set_error() in our domain; returns %FALSE. */
gboolean banger_set_error (GError **error, BangerError code, const char *format, ...) G_GNUC_PRINTF (3, 4);
/** banger_set_cancelled: likewise, see banger_error_cancelled(). */
gboolean banger_set_cancelled (GError **error);

/**
 * banger_error_to_bus:
 * Fills @ret_error for a reply. A non-empty @op_id ends the message as " (op-...)" unless it is there already,
 * and what is not UTF-8 in it is replaced.
 * @error: any GError; foreign domains become %BANGER_ERROR_FAILED.
 * Returns: a negative errno, as sd-bus handlers return.
 */
int banger_error_to_bus (const GError *error, const char *op_id, sd_bus_error *ret_error);

/** banger_error_from_bus: the reverse; remote errors outside the table keep their text. Returns: %FALSE. */
gboolean banger_error_from_bus (GError **error, const sd_bus_error *bus_error, int r, const char *what);

/** banger_error_strip_op_id: Returns: (transfer full): @message without a final " (op-...)". */
char *banger_error_strip_op_id (const char *message);

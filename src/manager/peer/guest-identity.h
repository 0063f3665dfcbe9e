/* Who a guest is to be, told to its agent (docs/guest.md, "identity").
 * Never trusts what the guest says: one line, bounded, of known words; nothing in it names an address. */
#pragma once

#include <gio/gio.h>

/**
 * banger_guest_identity_async:
 * @socket_path: of the VMM's vsock. @pid: the VMM, which must be who listens there. @parts: the request's, without those
 * of the time and of the entropy. @boot_id: (nullable): what must be the guest's then.
 * At most 20 s. %BANGER_ERROR_GUEST_FAILED (a row that the guest could not set is named), %BANGER_ERROR_GUEST_TIMEOUT.
 */
void banger_guest_identity_async (const char *socket_path, pid_t pid, GBytes *parts, const char *boot_id,
                                  GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data);
/** banger_guest_identity_finish: @ret_off: microseconds by which the guest's clock is off for sure. */
gboolean banger_guest_identity_finish (GAsyncResult *result, gint64 *ret_off, GError **error);

/** banger_guest_identity_add: appends one part of a request. */
void banger_guest_identity_add (GByteArray *parts, const char *name, gconstpointer data, gsize length);

/** banger_guest_identity_parse: an answer. @boot_id: (nullable): the only one that is right. @ret_usec: the guest's time.
 * %BANGER_ERROR_GUEST_FAILED. */
gboolean banger_guest_identity_parse (const char *line, const char *token, const char *boot_id, gint64 *ret_usec,
                                      GError **error);

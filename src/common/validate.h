/* Rules on names, ids and addresses: pure functions over strings.
 * Never touches the system. */
#pragma once

#include <glib.h>
#include <netinet/in.h>

/** banger_name_check: a DNS label (RFC 1123): 1..63 of [a-z0-9-], no '-' at either end. %BANGER_ERROR_INVALID_NAME.
 * @what: "VM name". */
gboolean banger_name_check (const char *name, const char *what, GError **error);

/** banger_new_name_check: what a new VM, image or kernel may be called: besides, nothing that could be an id, as
 * whoever names one by its id must not reach another. Records of before keep their names. */
gboolean banger_new_name_check (const char *name, const char *what, GError **error);

/** banger_id_check: 8 to 32 lower-case hex digits. %BANGER_ERROR_INVALID_ID. */
gboolean banger_id_check (const char *id, const char *what, GError **error);

/** banger_ipv4_parse: exactly four decimal octets without leading zeros, as inet_pton(3). @ret may be %NULL. */
gboolean banger_ipv4_parse (const char *text, struct in_addr *ret, GError **error);

/** banger_ipv4_cidr_parse: "a.b.c.d/p", p a plain number in 8..32 (requirement B2). @ret_address is the address as
 * written. */
gboolean banger_ipv4_cidr_parse (const char *text, struct in_addr *ret_address, guint *ret_prefix, GError **error);

/** banger_bridge_name_check: br-fc or br-fc-*, at most 15 bytes of [a-z0-9-] (requirement B1). */
gboolean banger_bridge_name_check (const char *name, GError **error);

/** banger_uint_parse: plain decimal, no sign, no space, no leading zero but "0" itself, within @min..@max. */
gboolean banger_uint_parse (const char *text, guint64 min, guint64 max, guint64 *ret, GError **error);

/* Signatures as minisign(1) makes them: Ed25519, over a file or over its BLAKE2b.
 * Never opens a file: what is checked are the very bytes that are used afterwards. */
#pragma once

#include <glib.h>

#define BANGER_MINISIGN_KEY_LENGTH 56u       /* of a public key, in base64 */
#define BANGER_MINISIGN_MAX_BYTES (8u << 10) /* of a signature; minisign's own have 1 KiB of comment at most */

/**
 * banger_minisign_verify:
 * Holds @data against the signature @signature, a file's content, by the public key @key; the trusted comment is signed,
 * too, and looked at. @name is for messages. %BANGER_ERROR_INVALID_CATALOG: no key, no signature, another key's, or not of these
 * bytes.
 */
gboolean banger_minisign_verify (const char *key, GBytes *data, GBytes *signature, const char *name, GError **error);

/* Signatures as minisign(1) makes them; the sums are libcrypto's. Rests on https://jedisct1.github.io/minisign/, "Signature
 * format".
 * Never takes a signature whose trusted comment is not signed. */
#include "manager/fetch/minisign.h"

#include <openssl/evp.h>
#include <string.h>

#include "common/error.h"

#define KEY_ID_BYTES 8u
#define PUBLIC_BYTES 32u
#define SIGNATURE_BYTES 64u
#define HEAD_BYTES (2u + KEY_ID_BYTES) /* algorithm and key id */
#define HASH_BYTES 64u                 /* BLAKE2b-512 */
#define BASE64_LETTERS G_CSET_a_2_z G_CSET_A_2_Z G_CSET_DIGITS "+/="

/* The whole of @text, as base64 of exactly @length bytes. g_base64_decode() alone takes anything. */
static gboolean
decode (const char *text, guint8 *bytes, gsize length)
{
  gsize n = 0;
  if (strlen (text) != (length + 2) / 3 * 4 || strspn (text, BASE64_LETTERS) != strlen (text))
    return FALSE;
  g_autofree guchar *decoded = g_base64_decode (text, &n);
  g_autofree char *again = g_base64_encode (decoded, n);
  if (n != length || !g_str_equal (again, text))
    return FALSE;
  memcpy (bytes, decoded, length);
  return TRUE;
}

static gboolean
is_signed (const guint8 *public, const guint8 *signature, const void *data, gsize length)
{
  EVP_PKEY *key = EVP_PKEY_new_raw_public_key (EVP_PKEY_ED25519, NULL, public, PUBLIC_BYTES);
  EVP_MD_CTX *context = EVP_MD_CTX_new ();
  gboolean good = key && context && EVP_DigestVerifyInit (context, NULL, NULL, NULL, key) == 1
                  && EVP_DigestVerify (context, signature, SIGNATURE_BYTES, data, length) == 1;
  EVP_MD_CTX_free (context);
  EVP_PKEY_free (key);
  return good;
}

static gboolean
is_data_signed (const guint8 *public, const guint8 *head, GBytes *data)
{
  gsize length = 0;
  const void *bytes = g_bytes_get_data (data, &length);
  guint8 hash[EVP_MAX_MD_SIZE];
  unsigned hashed = 0;
  if (head[1] == 'd') /* "Ed": the file itself */
    return is_signed (public, head + HEAD_BYTES, bytes, length);
  return EVP_Digest (bytes, length, hash, &hashed, EVP_blake2b512 (), NULL) == 1 && hashed == HASH_BYTES
         && is_signed (public, head + HEAD_BYTES, hash, hashed);
}

static gboolean
is_comment_signed (const guint8 *public, const guint8 *head, const char *comment, const guint8 *signature)
{
  g_autoptr (GByteArray) both = g_byte_array_new ();
  g_byte_array_append (both, head + HEAD_BYTES, SIGNATURE_BYTES);
  g_byte_array_append (both, (const guint8 *)comment, (guint)strlen (comment));
  return is_signed (public, signature, both->data, both->len);
}

/* "untrusted comment: ...", what is signed, "trusted comment: ...", what signs both. */
static char **
split (GBytes *signature)
{
  static const char trusted[] = "trusted comment: ";
  gsize length = 0;
  const char *text = g_bytes_get_data (signature, &length);
  if (length == 0 || length > BANGER_MINISIGN_MAX_BYTES || memchr (text, '\0', length))
    return NULL;
  g_autofree char *copy = g_strndup (text, length);
  g_auto (GStrv) lines = g_strsplit (copy, "\n", -1);
  guint n = g_strv_length (lines);
  for (guint i = 0; i < n; i++)
    if (g_str_has_suffix (lines[i], "\r"))
      lines[i][strlen (lines[i]) - 1] = '\0';
  gboolean good = (n == 4 || (n == 5 && *lines[4] == '\0')) && g_str_has_prefix (lines[0], "untrusted comment: ")
                  && g_str_has_prefix (lines[2], trusted);
  if (!good)
    return NULL;
  memmove (lines[2], lines[2] + strlen (trusted), strlen (lines[2] + strlen (trusted)) + 1);
  return g_steal_pointer (&lines);
}

gboolean
banger_minisign_verify (const char *key, GBytes *data, GBytes *signature, const char *name, GError **error)
{
  guint8 public[HEAD_BYTES + PUBLIC_BYTES], head[HEAD_BYTES + SIGNATURE_BYTES], global[SIGNATURE_BYTES];
  if (!decode (key, public, sizeof public) || memcmp (public, "Ed", 2) != 0)
    return banger_set_error (error, BANGER_ERROR_INVALID_CATALOG, "%s: \"%s\" is no public key of minisign's", name,
                             key);
  g_auto (GStrv) lines = split (signature);
  if (!lines || !decode (lines[1], head, sizeof head) || !decode (lines[3], global, sizeof global)
      || (memcmp (head, "Ed", 2) != 0 && memcmp (head, "ED", 2) != 0))
    return banger_set_error (error, BANGER_ERROR_INVALID_CATALOG, "%s: its signature is none of minisign's", name);
  if (memcmp (head + 2, public + 2, KEY_ID_BYTES) != 0)
    return banger_set_error (error, BANGER_ERROR_INVALID_CATALOG, "%s: it is signed by another key than %s", name, key);
  return (is_data_signed (public + HEAD_BYTES, head, data)
          && is_comment_signed (public + HEAD_BYTES, head, lines[2], global))
         || banger_set_error (error, BANGER_ERROR_INVALID_CATALOG,
                              "%s: the signature is not of this file, or damaged: it or the signature was changed",
                              name);
}

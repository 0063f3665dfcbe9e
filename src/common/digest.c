/* "sha256:..." of a stream.
 * Used by whatever digests images.
 * Never opens a file. */
#include "common/digest.h"

#include <nettle/base16.h>
#include <nettle/sha2.h>

struct BangerDigest {
  struct sha256_ctx sha256;
};

BangerDigest *
banger_digest_new (void)
{
  BangerDigest *digest = g_new (BangerDigest, 1);
  sha256_init (&digest->sha256);
  return digest;
}

void
banger_digest_free (BangerDigest *digest)
{
  g_free (digest);
}

void
banger_digest_update (BangerDigest *digest, const void *data, gsize length)
{
  sha256_update (&digest->sha256, length, data);
}

char *
banger_digest_finish (BangerDigest *digest)
{
  guint8 bytes[SHA256_DIGEST_SIZE];
  char hex[BASE16_ENCODE_LENGTH (SHA256_DIGEST_SIZE) + 1] = "";
  sha256_digest (&digest->sha256, sizeof bytes, bytes);
  base16_encode_update (hex, sizeof bytes, bytes);
  return g_strconcat ("sha256:", hex, NULL);
}

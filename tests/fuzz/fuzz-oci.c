/* Indexes, manifests and configurations of images: documents one behind another, "--" on a line between them.
 * Run as replay.c says. "sha256:@" in one is the digest of the next, so that the chain of digests holds.
 * Never reads a layer. */
#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/digest.h"
#include "common/error.h"
#include "common/fd.h"
#include "fuzz.h"
#include "intake/oci.h"

#define MAX_DOCUMENTS 6

typedef struct {
  char *texts[MAX_DOCUMENTS + 1], *digests[MAX_DOCUMENTS + 1];
  guint n;
} Documents;

static gboolean
open_document (gpointer data, const char *name, BangerBlob *ret_blob, GError **error)
{
  const Documents *documents = data;
  guint which = documents->n - 1;
  if (g_str_equal (name, "index.json") || g_str_equal (name, "manifest.json"))
    which = 0;
  else if (g_str_has_prefix (name, "blobs/sha256/"))
    for (which = 0; which < documents->n && !g_str_has_suffix (documents->digests[which], name + 13); which++)
      ;
  if (which >= documents->n)
    return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "no such document");
  gsize length = strlen (documents->texts[which]);
  int fd = memfd_create ("document", MFD_CLOEXEC);
  g_assert_cmpint (pwrite (fd, documents->texts[which], length, 0), ==, (ssize_t)length);
  *ret_blob = (BangerBlob){ fd, 0, length, TRUE };
  return TRUE;
}

static void
split (Documents *documents, const uint8_t *data, size_t size)
{
  g_autofree char *all = g_strndup ((const char *)data, size);
  g_auto (GStrv) parts = g_strsplit (all, "\n--\n", MAX_DOCUMENTS);
  documents->n = MAX (g_strv_length (parts), 1);
  for (guint i = documents->n; i-- > 0;) {
    g_autoptr (GString) text = g_string_new (parts[i]);
    if (i + 1 < documents->n)
      g_string_replace (text, "sha256:@", documents->digests[i + 1], 0);
    g_autoptr (BangerDigest) digest = banger_digest_new ();
    banger_digest_update (digest, text->str, text->len);
    documents->digests[i] = banger_digest_finish (digest);
    documents->texts[i] = g_strdup (text->str);
  }
}

/* What is said of the layers before there is an image: the last document. */
static void
check_expected (const BangerBlobs *blobs)
{
  g_autoptr (GPtrArray) layers = banger_oci_read_expected (blobs);
  g_assert_true (!layers || (layers->len > 0 && layers->len <= BANGER_OCI_MAX_LAYERS));
  for (guint i = 0; layers && i < layers->len; i++) {
    const BangerOciLayer *layer = layers->pdata[i];
    g_assert_cmpuint (strlen (layer->digest), ==, BANGER_INTAKE_DIGEST_BYTES - 1);
    g_assert_cmpuint (strlen (layer->name), ==, 13 + 64);
  }
}

static void
check (const BangerOciImage *image)
{
  g_assert_cmpuint (image->layers->len, <=, BANGER_OCI_MAX_LAYERS);
  g_assert_cmpuint (strlen (image->digest), ==, BANGER_INTAKE_DIGEST_BYTES - 1);
  for (guint i = 0; i < image->layers->len; i++) {
    const BangerOciLayer *layer = image->layers->pdata[i];
    g_assert_cmpuint (strlen (layer->digest), ==, BANGER_INTAKE_DIGEST_BYTES - 1);
    g_assert_true (layer->of_content || g_str_has_prefix (layer->name, "blobs/sha256/"));
    g_assert_true (layer->of_content || strlen (layer->name) == 13 + 64);
  }
  gsize bytes = 0, count = 0;
  for (guint kind = 0; kind < BANGER_N_INTAKE_SETTINGS; kind++)
    for (guint i = 0; i < image->settings[kind]->len; i++, count++) {
      g_assert_true (g_utf8_validate (image->settings[kind]->pdata[i], -1, NULL));
      bytes += strlen (image->settings[kind]->pdata[i]);
    }
  g_assert_true (count <= BANGER_INTAKE_MAX_SETTINGS && bytes <= BANGER_INTAKE_MAX_SETTINGS_BYTES);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static gboolean (*const readers[]) (const BangerBlobs *, const char *, BangerOciImage *, GError **) = {
    banger_oci_read_layout, banger_oci_read_saved
  };
  static const char *const references[] = { NULL, "latest" };
  Documents documents = { 0 };
  split (&documents, data, size);
  const BangerBlobs blobs = { open_document, &documents };
  for (guint i = 0; i < 4; i++) {
    g_auto (BangerOciImage) image = { 0 };
    g_autoptr (GError) error = NULL;
    gboolean good = readers[i / 2](&blobs, references[i % 2], &image, &error);
    g_assert_true (good == (error == NULL));
    if (good)
      check (&image);
  }
  check_expected (&blobs);
  for (guint i = 0; i < documents.n; i++) {
    g_free (documents.texts[i]);
    g_free (documents.digests[i]);
  }
  return 0;
}

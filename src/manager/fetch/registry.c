/* skopeo as a child process, and what its words mean.
 * Runs in worker threads.
 * Never hands it a word that it could take for an option. */
#include "manager/fetch/registry.h"

#include <string.h>
#include <sys/statvfs.h>

#include "common/error.h"
#include "common/log.h"
#include "manager/core/program.h"

#define MAX_REFERENCE 512u
#define REFERENCE_LETTERS G_CSET_a_2_z G_CSET_A_2_Z G_CSET_DIGITS "._/:@-"
#define MAX_OUTPUT (1u << 20)
#define MAX_SECONDS (6 * 3600)
#define MAX_WORDS 600u
#define MAX_LAYERS_OUTPUT (64u << 10)
#define MAX_LAYERS_SECONDS 60u
#define RATE_LOOKS 10u                     /* of half a second */
#define RESERVE_BYTES ((guint64)256 << 20) /* of the disk, for everybody else */

/* The first row of which a word is in what it said; matched without case. */
static const struct {
  const char *words[8];
  BangerError code;
  const char *advice;
} meanings[] = {
  { { "no space left on device", "disk quota exceeded" },
    BANGER_ERROR_NO_SPACE,
    "make room on the disk, `banger image cache prune` does" },
  { { "x509:", "certificate", "http response to https client" },
    BANGER_ERROR_REGISTRY_UNREACHABLE,
    "its certificate is not trusted here: put it into /etc/containers/certs.d, or say in registries.conf that the "
    "registry is insecure" },
  { { "toomanyrequests", "too many requests" },
    BANGER_ERROR_REGISTRY_BUSY,
    "wait as long as it says, or sign in with skopeo login: registries let those have more" },
  { { "unauthorized", "authentication required", "invalid username/password", "status code 401", "http status: 401" },
    BANGER_ERROR_REGISTRY_DENIED,
    "sign in with skopeo login; some registries say this of what they do not have" },
  { { "denied", "forbidden", "status code 403", "http status: 403" },
    BANGER_ERROR_REGISTRY_DENIED,
    "whoever is signed in there may not have it" },
  { { "manifest unknown", "name unknown", "not found", "status code 404", "http status: 404" },
    BANGER_ERROR_NO_SUCH_IMAGE,
    "the registry has nothing of that name" },
  { { "does not resolve to an image id", "identifier is not an image" },
    BANGER_ERROR_NO_SUCH_IMAGE,
    "podman images lists what there is; give the name in full: localhost/box:latest" },
  { { "no image found in manifest list", "no image found in image index" },
    BANGER_ERROR_NO_SUCH_IMAGE,
    "it has no image for this machine" },
  { { "redirects" },
    BANGER_ERROR_REGISTRY_UNREACHABLE,
    "it sends round in a circle: look at its address, and at the mirrors in registries.conf" },
  { { "connection refused", "connection reset", "no such host", "timeout", "eof", "network is unreachable",
      "broken pipe", "temporary failure in name resolution" },
    BANGER_ERROR_REGISTRY_UNREACHABLE,
    "what came is kept: the same again goes on from there" },
};

static gboolean
check_program (GError **error)
{
  g_autofree char *program = g_find_program_in_path ("skopeo");
  return program || banger_set_error (error, BANGER_ERROR_NOT_SUPPORTED, "skopeo is not installed: apt install skopeo");
}

gboolean
banger_registry_is_reference (const char *reference)
{
  gsize length = strlen (reference);
  return g_str_has_prefix (reference, "//") && length <= MAX_REFERENCE && g_ascii_isalnum (reference[2])
         && strspn (reference, REFERENCE_LETTERS) == length;
}

gboolean
banger_registry_check (const char *reference, GError **error)
{
  if (!banger_registry_is_reference (reference)) {
    g_autofree char *shown = banger_log_escape (reference, 80);
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS,
                             "docker:%s is no reference of a registry's image: docker://debian:bookworm, "
                             "docker://ghcr.io/owner/name@sha256:... are",
                             shown);
  }
  return check_program (error);
}

gboolean
banger_storage_check (const char *name, GError **error)
{
  gsize length = strlen (name);
  if (length == 0 || length > MAX_REFERENCE || !g_ascii_isalnum (name[0]) || strspn (name, REFERENCE_LETTERS) != length)
  {
    g_autofree char *shown = banger_log_escape (name, 80);
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS,
                             "containers-storage:%s names no image: containers-storage:localhost/box:latest does",
                             shown);
  }
  return check_program (error);
}

/* Its last line is `time="..." level=fatal msg="..."`. Returns: (transfer full): what is in msg. */
static char *
last_words (const char *text)
{
  const char *found = g_strrstr (text, "msg=");
  if (!found)
    found = text;
  else
    found += strlen ("msg=");
  g_autofree char *words = g_strndup (found, strcspn (found, "\n"));
  gsize length = strlen (words);
  if (length >= 2 && words[0] == '"' && words[length - 1] == '"') {
    words[length - 1] = '\0';
    g_autofree char *inner = g_strcompress (words + 1);
    g_autofree char *valid = g_utf8_make_valid (inner, -1);
    return banger_log_escape (valid, MAX_WORDS);
  }
  return banger_log_escape (*words != '\0' ? words : "it gave no reason", MAX_WORDS);
}

static gboolean
refuse (const char *source, const char *errors, GError **error)
{
  g_autofree char *words = last_words (errors);
  g_autofree char *lower = g_ascii_strdown (words, -1);
  for (gsize i = 0; i < G_N_ELEMENTS (meanings); i++)
    for (gsize j = 0; j < G_N_ELEMENTS (meanings[i].words) && meanings[i].words[j]; j++)
      if (strstr (lower, meanings[i].words[j]))
        return banger_set_error (error, meanings[i].code, "%s: %s (%s)", source, words, meanings[i].advice);
  return banger_set_error (error, BANGER_ERROR_FAILED, "%s: %s", source, words);
}

typedef struct {
  const BangerBlobStore *store;
  const BangerRegistryPull *pull;
  const char *source;
  gint64 since;
  struct {
    gint64 usec;
    guint64 bytes;
  } seen[RATE_LOOKS]; /* the last ones, in a ring */
  guint looks;
} Look;

/* Returns: bytes a second since the oldest look that is kept. */
static guint64
rate_of (Look *at, guint64 bytes)
{
  gint64 now = g_get_monotonic_time ();
  guint oldest = at->looks < RATE_LOOKS ? 0 : at->looks % RATE_LOOKS;
  gint64 usec = at->looks > 0 ? now - at->seen[oldest].usec : 0;
  guint64 before = at->looks > 0 ? at->seen[oldest].bytes : 0;
  at->seen[at->looks % RATE_LOOKS].usec = now;
  at->seen[at->looks % RATE_LOOKS].bytes = bytes;
  at->looks++;
  return usec > 0 && bytes > before ? (guint64)((double)(bytes - before) * G_USEC_PER_SEC / (double)usec) : 0;
}

/* Beside it: how much has come, and whether the disk has room for more. */
static gboolean
look (gpointer data, GError **error)
{
  Look *at = data;
  struct statvfs disk;
  guint64 bytes = banger_blob_store_pulled (at->store, at->since);
  if (at->pull->pulled)
    at->pull->pulled (bytes, rate_of (at, bytes), at->pull->data);
  if (fstatvfs (at->store->dir_fd, &disk) < 0 || (guint64)disk.f_bavail * disk.f_frsize >= RESERVE_BYTES)
    return TRUE;
  return banger_set_error (error, BANGER_ERROR_NO_SPACE,
                           "%s: less than %" G_GUINT64_FORMAT " MiB are free on the disk (make room, `banger image "
                           "cache prune` does)",
                           at->source, RESERVE_BYTES >> 20);
}

gboolean
banger_registry_pull (const BangerBlobStore *store, const BangerRegistryPull *pull, GError **error)
{
  g_autofree char *source = g_strconcat (pull->transport, ":", pull->reference, NULL);
  g_autofree char *target = g_strdup_printf ("oci:%s:image", store->pull);
  Look at = { .store = store, .pull = pull, .source = source, .since = g_get_real_time () / G_USEC_PER_SEC };
  const char *const shared[] = { "skopeo", "copy", "--quiet", "--dest-shared-blob-dir", ".", source, target, NULL };
  const char *const own[] = { "skopeo", "copy", "--quiet", source, target, NULL };
  const BangerProgram program = { .argv = pull->own_blobs ? own : shared,
                                  .folder = store->path,
                                  .max_output = MAX_OUTPUT,
                                  .seconds = MAX_SECONDS,
                                  .cancellable = pull->cancellable,
                                  .look = look,
                                  .look_data = &at };
  g_autofree char *errors = NULL;
  g_autoptr (GError) local = NULL;
  g_autofree char *out = banger_program_run (&program, &errors, &local);
  if (out)
    return TRUE;
  if (errors && g_error_matches (local, BANGER_ERROR, BANGER_ERROR_FAILED))
    return refuse (source, *errors != '\0' ? errors : local->message, error); /* killed, it says nothing */
  g_propagate_error (error, g_steal_pointer (&local));
  return FALSE;
}

char *
banger_registry_layers (const char *source, GCancellable *cancellable)
{
  const char *const argv[] = { "skopeo", "inspect", "--no-tags", "--format", "{{range .Layers}}{{println .}}{{end}}",
                               source,   NULL };
  const BangerProgram program = {
    .argv = argv, .max_output = MAX_LAYERS_OUTPUT, .seconds = MAX_LAYERS_SECONDS, .cancellable = cancellable
  };
  return banger_program_run (&program, NULL, NULL);
}

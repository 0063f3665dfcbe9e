/* Files in the disks of a VM, and the check of a snapshot.
 * Runs in worker threads.
 * Never looks into a disk itself. */
#include "privileged/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/bytes.h"
#include "common/ids.h"
#include "common/log.h"
#include "privileged/cages.h"
#include "privileged/jail.h"
#include "privileged/worker.h"

#define DISK_SECONDS 30
#define DISK_MEMORY (G_GUINT64_CONSTANT (1) << 30)
#define CHECK_SECONDS 120
#define CHECK_MEMORY (G_GUINT64_CONSTANT (1) << 30)
#define CHECK_OUTPUT (G_GUINT64_CONSTANT (1) << 20)

/* What banger-disk may answer; %s is the path. */
static const struct {
  BangerError code;
  const char *text;
} answers[BANGER_DISK_N_STATUS] = {
  [BANGER_DISK_NO_FILE] = { BANGER_ERROR_INVALID_PATH, "there is no such file or folder" },
  [BANGER_DISK_NOT_PLAIN] = { BANGER_ERROR_UNSAFE_FILE,
                              "it is not a plain file in plain folders; links are not followed" },
  [BANGER_DISK_TOO_LARGE] = { BANGER_ERROR_INVALID_SIZE, "it is larger than 4 MiB" },
  [BANGER_DISK_BAD_IMAGE] = { BANGER_ERROR_INVALID_IMAGE, "the disk holds no sound ext4 file system" },
  [BANGER_DISK_UNCLEAN] = { BANGER_ERROR_WRONG_STATE, "the file system was not unmounted cleanly; check it first" },
  [BANGER_DISK_NO_SPACE] = { BANGER_ERROR_NO_SPACE, "there is no room left on the disk" },
  [BANGER_DISK_FAILED] = { BANGER_ERROR_FAILED, "the disk cannot be read or written" },
};

static GByteArray *
make_request (BangerDiskVerb verb, const GPtrArray *files, guint64 image_bytes)
{
  const BangerDiskRequest request = { verb, files->len, image_bytes };
  GByteArray *bytes = g_byte_array_new ();
  g_byte_array_append (bytes, (const guint8 *)&request, sizeof request);
  for (guint i = 0; i < files->len; i++) {
    const BangerDiskFile *file = files->pdata[i];
    const BangerDiskEntry entry = { (guint32)strlen (file->path), file->mode, file->length };
    g_byte_array_append (bytes, (const guint8 *)&entry, sizeof entry);
    g_byte_array_append (bytes, (const guint8 *)file->path, entry.path_length);
    if (file->length > 0)
      g_byte_array_append (bytes, file->data, (guint)file->length);
  }
  return bytes;
}

typedef struct {
  BangerDiskVerb verb;
  const GPtrArray *files;
  guint64 image_bytes;
} Request;

/* Not before it is asked for: an owner may have many calls under way, of megabytes each. */
static int
seal_request (gpointer data, GError **error)
{
  const Request *request = data;
  g_autoptr (GByteArray) bytes = make_request (request->verb, request->files, request->image_bytes);
  banger_autofd int fd = memfd_create ("banger-disk", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0 || banger_write_all (fd, bytes->data, bytes->len) < 0
      || fcntl (fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
  {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot pass the request on");
    return -1;
  }
  return banger_steal_fd (&fd);
}

static gboolean
size_of (int fd, guint64 *ret_bytes, GError **error)
{
  struct stat st;
  if (fstat (fd, &st) < 0 || (S_ISBLK (st.st_mode) && ioctl (fd, BLKGETSIZE64, ret_bytes) < 0))
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot learn the disk's size");
  if (!S_ISBLK (st.st_mode))
    *ret_bytes = (guint64)st.st_size;
  return TRUE;
}

/* The answer is believed as far as its length goes. */
static GBytes *
read_answer (GByteArray *output, const GPtrArray *files, GError **error)
{
  BangerDiskAnswer answer;
  if (output->len < sizeof answer) {
    banger_set_error (error, BANGER_ERROR_FAILED, "banger-disk did not answer");
    return NULL;
  }
  memcpy (&answer, output->data, sizeof answer);
  if (answer.status >= BANGER_DISK_N_STATUS || answer.which >= files->len
      || answer.length != output->len - sizeof answer) {
    banger_set_error (error, BANGER_ERROR_FAILED, "banger-disk's answer cannot be read");
    return NULL;
  }
  if (answer.status == BANGER_DISK_OK)
    return g_bytes_new (output->data + sizeof answer, answer.length);
  const BangerDiskFile *file = files->pdata[answer.which];
  g_autofree char *shown = banger_log_escape (file->path, 80);
  banger_set_error (error, answers[answer.status].code, "'%s' in the disk: %s", shown, answers[answer.status].text);
  return NULL;
}

/* The libraries and, if it is not 0, a node of @device. */
static BangerJailPlan *
plan_root (const BangerRoot *root, dev_t device, GError **error)
{
  g_autoptr (BangerJailPlan) plan = banger_jail_plan_new ();
  plan->top = g_strconcat (root->install->state_dir, "/" BANGER_JAIL_DIR, NULL);
  if (device) {
    banger_jail_node (plan, "dev/null", S_IFCHR | 0666, makedev (1, 3), 0, 0);
    banger_jail_node (plan, BANGER_WORKER_NODE, S_IFBLK | 0600, device, root->install->owner_uid, BANGER_WORKER_GID);
  }
  return banger_jail_bind_libraries (plan, FALSE, error) ? g_steal_pointer (&plan) : NULL;
}

static GBytes *
ask (const BangerRoot *root, int fd, BangerDiskVerb verb, const GPtrArray *files, GError **error)
{
  static const char *const argv[] = { "banger-disk", NULL };
  guint64 bytes = 0;
  int status = 0;
  banger_autofd int program = banger_gate_exec (root->install->tool_disk, error);
  if (program < 0 || !size_of (fd, &bytes, error))
    return NULL;
  Request request = { verb, files, bytes };
#ifdef __SANITIZE_ADDRESS__ /* needs /proc, and more system calls */
  g_autoptr (BangerJailPlan) own = NULL;
  const BangerCage *cage = NULL;
#else
  g_autoptr (BangerJailPlan) own = plan_root (root, 0, error);
  const BangerCage *cage = own ? banger_cage_of_disk (error) : NULL;
  if (!cage)
    return NULL;
#endif
  const BangerWorker worker = { .program_fd = program,
                                .argv = argv,
                                .at_once = root->install->max_workers,
                                .uid = root->install->owner_uid,
                                .gid = BANGER_WORKER_GID,
                                .request = seal_request,
                                .request_data = &request,
                                .image_fd = fd,
                                .root = own,
                                .cage = cage,
                                .file_bytes = bytes,
                                .memory_bytes = DISK_MEMORY,
                                .seconds = DISK_SECONDS,
                                .max_output = sizeof (BangerDiskAnswer) + BANGER_DISK_MAX_BYTES };
  g_autoptr (GByteArray) output = banger_worker_run (&worker, "banger-disk", &status, error);
  return output ? read_answer (output, files, error) : NULL;
}

GBytes *
banger_disk_read (const BangerRoot *root, int fd, const char *path, GError **error)
{
  BangerDiskFile file = { .path = path };
  g_autoptr (GPtrArray) files = g_ptr_array_new ();
  g_ptr_array_add (files, &file);
  return ask (root, fd, BANGER_DISK_READ, files, error);
}

gboolean
banger_disk_write (const BangerRoot *root, int fd, const GPtrArray *files, GError **error)
{
  g_autoptr (GBytes) nothing = ask (root, fd, BANGER_DISK_WRITE, files, error);
  return nothing != NULL;
}

/* e2fsck(8), EXIT CODE. */
const char *
banger_disk_check (const BangerRoot *root, dev_t device, GError **error)
{
  static const char *const argv[] = { "e2fsck", "-f", "-y", "/" BANGER_WORKER_NODE, NULL };
  int status = 0;
  banger_autofd int program = banger_gate_exec (root->install->tool_e2fsck, error);
  g_autoptr (BangerJailPlan) own = program < 0 ? NULL : plan_root (root, device, error);
  const BangerCage *cage = own ? banger_cage_of_check (error) : NULL;
  if (!cage)
    return NULL;
  const BangerWorker worker = { .program_fd = program,
                                .argv = argv,
                                .at_once = root->install->max_workers,
                                .uid = root->install->owner_uid,
                                .gid = BANGER_WORKER_GID,
                                .image_fd = -1,
                                .root = own,
                                .cage = cage, /* with threads: it reads the bitmaps with one for each processor */
                                .file_bytes = G_MAXINT64,
                                .memory_bytes = CHECK_MEMORY,
                                .seconds = CHECK_SECONDS,
                                .interruptible = TRUE, /* as a loss of power: the next check mends it */
                                .max_output = CHECK_OUTPUT };
  g_autoptr (GByteArray) output = banger_worker_run (&worker, "e2fsck", &status, error);
  if (!output)
    return NULL;
  if ((status & ~3) == 0)
    return status == 0 ? "clean" : "repaired";
  banger_set_error (error, (status & 4) ? BANGER_ERROR_INVALID_IMAGE : BANGER_ERROR_FAILED,
                    "e2fsck leaves errors in the snapshot (exit status %d)", status);
  return NULL;
}

/* The gate on files that an id names below the owner's root (requirement B5).
 * Never takes a path: the id passed banger_id_check(), the rest is this table. */
#include <errno.h>
#include <fcntl.h>

#include "common/names.h"
#include "common/safe-path.h"
#include "common/validate.h"
#include "privileged/gate.h"

#define MIB (G_GUINT64_CONSTANT (1) << 20)
#define TIB (G_GUINT64_CONSTANT (1) << 40)
#define STATE_BYTES (256 * MIB) /* of devices; Firecracker's and QEMU's take less than one */

static const struct {
  const char *folder, *file;
  int flags;
  guint64 max_bytes;
  BangerError missing;
} kinds[] = {
  [BANGER_MANAGED_KERNEL] = { BANGER_FOLDER_KERNELS, BANGER_FILE_KERNEL_VMLINUX, O_RDONLY, 512 * MIB,
                              BANGER_ERROR_NO_SUCH_KERNEL },
  [BANGER_MANAGED_INITRD] = { BANGER_FOLDER_VMS, BANGER_FILE_VM_INITRD, O_RDONLY, 2048 * MIB, BANGER_ERROR_NO_SUCH_VM },
  [BANGER_MANAGED_ROOTFS] = { BANGER_FOLDER_VMS, BANGER_FILE_VM_ROOTFS, O_RDWR, 4 * TIB, BANGER_ERROR_NO_SUCH_VM },
  [BANGER_MANAGED_WORK] = { BANGER_FOLDER_VMS, BANGER_FILE_VM_WORK, O_RDWR, 4 * TIB, BANGER_ERROR_NO_SUCH_VM },
  [BANGER_MANAGED_CONSOLE] = { BANGER_FOLDER_VMS, BANGER_FILE_VM_CONSOLE, O_WRONLY | O_APPEND, 0,
                               BANGER_ERROR_NO_SUCH_VM },
  [BANGER_MANAGED_IMAGE] = { BANGER_FOLDER_IMAGES, BANGER_FILE_IMAGE_ROOTFS, O_RDONLY, 4 * TIB,
                             BANGER_ERROR_NO_SUCH_IMAGE },
  [BANGER_MANAGED_SAVE_STATE] = { BANGER_FOLDER_VMS, BANGER_FILE_VM_SAVE_STATE, O_RDWR, STATE_BYTES,
                                  BANGER_ERROR_NO_SUCH_VM },
  [BANGER_MANAGED_SAVE_MEMORY] = { BANGER_FOLDER_VMS, BANGER_FILE_VM_SAVE_MEMORY, O_RDWR, 2 * TIB,
                                   BANGER_ERROR_NO_SUCH_VM },
  [BANGER_MANAGED_SAVED_STATE] = { BANGER_FOLDER_VMS, BANGER_FILE_VM_SAVED_STATE, O_RDONLY, STATE_BYTES,
                                   BANGER_ERROR_NO_SUCH_VM },
  [BANGER_MANAGED_SAVED_MEMORY] = { BANGER_FOLDER_VMS, BANGER_FILE_VM_SAVED_MEMORY, O_RDONLY, 2 * TIB,
                                    BANGER_ERROR_NO_SUCH_VM },
  [BANGER_MANAGED_TEMPLATE_STATE] = { BANGER_FOLDER_TEMPLATES, BANGER_FILE_TEMPLATE_STATE, O_RDONLY, STATE_BYTES,
                                      BANGER_ERROR_STATE_CORRUPT },
  [BANGER_MANAGED_TEMPLATE_MEMORY] = { BANGER_FOLDER_TEMPLATES, BANGER_FILE_TEMPLATE_MEMORY, O_RDONLY, 2 * TIB,
                                       BANGER_ERROR_STATE_CORRUPT },
};

/* One component at a time, so that "missing" is said of the thing itself and never of what a link points to. */
static int
open_step (int parent, const char *name, int flags, gboolean *ret_missing, GError **error)
{
  struct stat st;
  *ret_missing = fstatat (parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
  return banger_safe_openat (parent, name, flags, 0, BANGER_SAFE_NONE, error);
}

/* O_NONBLOCK: a FIFO under the name must not hold the helper. */
static int
open_managed (int owner_fd, BangerManagedFile kind, const char *id, gboolean *ret_missing, GError **error)
{
  const char *const folders[] = { kinds[kind].folder, id };
  banger_autofd int fd = -1;
  for (size_t i = 0; i < G_N_ELEMENTS (folders); i++) {
    int next = open_step (fd < 0 ? owner_fd : fd, folders[i], O_RDONLY | O_DIRECTORY, ret_missing, error);
    if (next < 0)
      return -1;
    banger_clear_fd (&fd);
    fd = next;
  }
  return open_step (fd, kinds[kind].file, kinds[kind].flags | O_NONBLOCK | O_NOCTTY, ret_missing, error);
}

int
banger_gate_file (int owner_fd, uid_t uid, BangerManagedFile kind, const char *id, gboolean *ret_missing,
                  GError **error)
{
  gboolean missing = FALSE;
  g_autoptr (GError) why = NULL;
  if (ret_missing)
    *ret_missing = FALSE;
  if (!banger_id_check (id, "id", error))
    return -1;
  banger_autofd int fd = open_managed (owner_fd, kind, id, &missing, &why);
  g_autofree char *what = g_strdup_printf ("%s of '%s'", kinds[kind].file, id);
  if (ret_missing)
    *ret_missing = fd < 0 && missing;
  if (fd < 0 && missing)
    banger_set_error (error, kinds[kind].missing, "there is no %s", what);
  else if (fd < 0)
    banger_set_error (error, BANGER_ERROR_UNSAFE_FILE, "%s: %s", what, why->message);
  if (fd < 0)
    return -1;
  return banger_safe_check_regular (fd, uid, kinds[kind].max_bytes, what, NULL, error) ? banger_steal_fd (&fd) : -1;
}

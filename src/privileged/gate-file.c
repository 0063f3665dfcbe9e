/* The gate on files that an id names below the owner's root (requirement B5).
 * Called by snapshot.c and launch.c.
 * Never takes a path: the id passed banger_id_check(), the rest is this table. */
#include <errno.h>
#include <fcntl.h>

#include "common/names.h"
#include "common/safe-path.h"
#include "common/validate.h"
#include "privileged/gate.h"

#define MIB (G_GUINT64_CONSTANT (1) << 20)
#define TIB (G_GUINT64_CONSTANT (1) << 40)

static const struct {
  const char *folder, *file;
  int flags;
  guint64 max_bytes;
  BangerError missing;
} kinds[] = {
  [BANGER_MANAGED_KERNEL] = { "kernels", BANGER_FILE_KERNEL_VMLINUX, O_RDONLY, 512 * MIB, BANGER_ERROR_NO_SUCH_KERNEL },
  [BANGER_MANAGED_INITRD] = { "vms", BANGER_FILE_VM_INITRD, O_RDONLY, 2048 * MIB, BANGER_ERROR_NO_SUCH_VM },
  [BANGER_MANAGED_ROOTFS] = { "vms", BANGER_FILE_VM_ROOTFS, O_RDWR, 4 * TIB, BANGER_ERROR_NO_SUCH_VM },
  [BANGER_MANAGED_WORK] = { "vms", BANGER_FILE_VM_WORK, O_RDWR, 4 * TIB, BANGER_ERROR_NO_SUCH_VM },
  [BANGER_MANAGED_CONSOLE] = { "vms", BANGER_FILE_VM_CONSOLE, O_WRONLY | O_APPEND, 0, BANGER_ERROR_NO_SUCH_VM },
  [BANGER_MANAGED_COW] = { "vms", BANGER_FILE_VM_COW, O_RDWR, 4 * TIB, BANGER_ERROR_NO_SUCH_VM },
  [BANGER_MANAGED_IMAGE] = { "images", BANGER_FILE_IMAGE_ROOTFS, O_RDONLY, 4 * TIB, BANGER_ERROR_NO_SUCH_IMAGE },
};

int
banger_gate_file (int owner_fd, uid_t uid, BangerManagedFile kind, const char *id, gboolean *ret_missing,
                  GError **error)
{
  if (ret_missing)
    *ret_missing = FALSE;
  if (!banger_id_check (id, "id", error))
    return -1;
  g_autofree char *path = g_strdup_printf ("%s/%s/%s", kinds[kind].folder, id, kinds[kind].file);
  g_autoptr (GError) why = NULL;
  errno = 0;
  /* O_NONBLOCK: a FIFO under the name must not hold the helper. */
  banger_autofd int fd = banger_safe_openat (owner_fd, path, kinds[kind].flags | O_NONBLOCK | O_NOCTTY, 0,
                                             BANGER_SAFE_NONE, &why);
  if (fd < 0) {
    struct stat st;
    gboolean missing = fstatat (owner_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
    if (ret_missing)
      *ret_missing = missing;
    if (missing)
      banger_set_error (error, kinds[kind].missing, "there is no %s of '%s'", kinds[kind].file, id);
    else
      g_propagate_error (error, g_steal_pointer (&why));
    return -1;
  }
  return banger_safe_check_regular (fd, uid, kinds[kind].max_bytes, path, NULL, error) ? banger_steal_fd (&fd) : -1;
}

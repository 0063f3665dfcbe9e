/* The capability bound of the helper (requirement A7), dropped by the program itself.
 * Never adds one: the unit file, this table and docs/privileges.md are compared by a test. */
#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "privileged/root.h"

static const struct {
  int number;
  const char *name;
} kept[] = {
  { CAP_CHOWN, "CAP_CHOWN" },           { CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE" },
  { CAP_FOWNER, "CAP_FOWNER" },         { CAP_KILL, "CAP_KILL" },
  { CAP_MKNOD, "CAP_MKNOD" },           { CAP_NET_ADMIN, "CAP_NET_ADMIN" },
  { CAP_NET_RAW, "CAP_NET_RAW" },       { CAP_SETGID, "CAP_SETGID" },
  { CAP_SETUID, "CAP_SETUID" },         { CAP_SYS_ADMIN, "CAP_SYS_ADMIN" },
  { CAP_SYS_CHROOT, "CAP_SYS_CHROOT" },
};

const char *const *
banger_root_capabilities (void)
{
  static const char *names[G_N_ELEMENTS (kept) + 1];
  for (size_t i = 0; i < G_N_ELEMENTS (kept); i++)
    names[i] = kept[i].name;
  return names;
}

static guint64
kept_mask (void)
{
  guint64 mask = 0;
  for (size_t i = 0; i < G_N_ELEMENTS (kept); i++)
    mask |= G_GUINT64_CONSTANT (1) << kept[i].number;
  return mask;
}

/* capabilities(7): dropping from the bounding set needs CAP_SETPCAP, which is dropped last. A process that systemd
 * has bounded already has none to drop. */
static gboolean
drop_bounding (guint64 mask, GError **error)
{
  for (int cap = 0; cap < 64; cap++) {
    int held = prctl (PR_CAPBSET_READ, cap);
    if (held < 0)
      break; /* beyond the last one of this kernel */
    if (held == 1 && !(mask & (G_GUINT64_CONSTANT (1) << cap)) && prctl (PR_CAPBSET_DROP, cap) < 0)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot drop capability %d", cap);
  }
  return TRUE;
}

gboolean
banger_root_drop_privileges (GError **error)
{
  guint64 mask = kept_mask ();
  struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
  struct __user_cap_data_struct data[2] = { 0 };
  if (!drop_bounding (mask, error))
    return FALSE;
  if (syscall (SYS_capget, &header, data) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read the capabilities");
  for (int i = 0; i < 2; i++) {
    data[i].permitted &= (guint32)(mask >> (32 * i));
    data[i].effective = data[i].permitted;
    data[i].inheritable = 0;
  }
  if (syscall (SYS_capset, &header, data) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot bound the capabilities");
  return TRUE;
}

/* What a VM may be: its name, its virtual CPUs, its memory, its work disk.
 * Never counts what a host has left: the helper does, when it starts. */
#include "manager/vm/private.h"

#include <string.h>

#include "common/config.h"
#include "common/size.h"
#include "common/validate.h"
#include "common/vm-bounds.h"

#define MIB (G_GUINT64_CONSTANT (1) << 20)
#define DISK_ALIGN 4096

gboolean
vm_check_vcpus (guint32 vcpus, GError **error)
{
  return (vcpus >= 1 && vcpus <= BANGER_VM_MAX_VCPUS)
         || banger_set_error (error, BANGER_ERROR_INVALID_SIZE, "%u virtual CPUs: a VM has 1 to %d", vcpus,
                              BANGER_VM_MAX_VCPUS);
}

/* @what is "of memory"; @key (nullable): of install.toml, whose word @max is. */
static gboolean
check_bytes (const char *what, guint64 value, guint64 min, guint64 max, const char *key, GError **error)
{
  if (value >= min && value <= max)
    return TRUE;
  g_autofree char *shown = banger_size_format (value), *least = banger_size_format (min),
                  *most = banger_size_format (max);
  return banger_set_error (error, BANGER_ERROR_INVALID_SIZE, "%s %s: a VM has %s to %s%s%s%s", shown, what, least, most,
                           key ? " here (" : "", key ? key : "", key ? ")" : "");
}

/* The helper would say so at the start. 0 in @install: no bound. */
gboolean
vm_check_memory (const BangerInstall *install, guint64 mib, GError **error)
{
  const struct {
    guint64 most;
    const char *key;
  } bounds[] = { { install->max_memory_mib, "limits.memory-mib" },
                 { install->max_total_memory_mib, "limits.total-memory-mib" } };
  guint64 most = BANGER_VM_MAX_MEMORY_MIB;
  const char *key = NULL;
  for (guint i = 0; i < G_N_ELEMENTS (bounds); i++)
    if (bounds[i].most > 0 && bounds[i].most < most) {
      most = bounds[i].most;
      key = bounds[i].key;
    }
  return check_bytes ("of memory", mib * MIB, BANGER_VM_MIN_MEMORY_MIB * MIB, most * MIB, key, error);
}

guint64
vm_check_disk (guint64 bytes, guint64 seed_bytes, GError **error)
{
  if (!check_bytes ("of work disk", bytes, MAX (BANGER_VM_MIN_DISK_BYTES, seed_bytes), BANGER_VM_MAX_DISK_BYTES, NULL,
                    error))
    return 0;
  return (bytes + DISK_ALIGN - 1) / DISK_ALIGN * DISK_ALIGN;
}

gboolean
vm_check_name (BangerVms *vms, const char *name, GError **error)
{
  if (!banger_new_name_check (name, "VM name", error))
    return FALSE;
  return !vm_find_name (vms, name)
         || banger_set_error (error, BANGER_ERROR_VM_EXISTS, "a VM called '%s' exists: choose another name", name);
}

gboolean
vm_check_setup (const char *text, GError **error)
{
  return (*text && strlen (text) <= BANGER_SETUP_MAX_BYTES)
         || banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "a script for the setup has from 1 to %d bytes",
                              BANGER_SETUP_MAX_BYTES);
}

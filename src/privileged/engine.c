/* Which pair of programs runs the VM.
 * Called by launch.c, in worker threads.
 * Never takes a program that did not pass the gate. */
#include "privileged/engine.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "privileged/gate.h"

#define MAX_HEADERS 128
/* QEMU without KVM keeps up to 1 GiB of translated code (-accel tcg,tb-size). */
#define OVERHEAD_QEMU_MIB (1024 + 512)
#define OVERHEAD_FIRECRACKER_MIB 256

void
banger_engine_clear (BangerEngine *engine)
{
  banger_clear_fd (&engine->vmm_fd);
  banger_clear_fd (&engine->jailer_fd);
}

gboolean
banger_engine_cpu_flags (const char *text)
{
  const char *flags = strstr (text, "\nflags");
  if (!flags)
    return FALSE;
  g_autofree char *line = g_strndup (flags + 1, strcspn (flags + 1, "\n"));
  g_auto (GStrv) words = g_strsplit_set (line, " \t", -1);
  return g_strv_contains ((const char *const *)words, "vmx") || g_strv_contains ((const char *const *)words, "svm");
}

/* A /dev/kvm without vmx or svm exists on some hosts and hangs ordinary guests. */
static gboolean
kvm_usable (void)
{
  g_autofree char *cpus = NULL;
  banger_autofd int fd = open ("/dev/kvm", O_RDWR | O_CLOEXEC);
  return fd >= 0 && g_file_get_contents ("/proc/cpuinfo", &cpus, NULL, NULL) && banger_engine_cpu_flags (cpus);
}

gboolean
banger_engine_is_dynamic (int fd, gboolean *ret_dynamic, GError **error)
{
  g_autofree char *path = g_strdup_printf ("/proc/self/fd/%d", fd);
  banger_autofd int file = open (path, O_RDONLY | O_CLOEXEC);
  Elf64_Ehdr header;
  if (file < 0 || pread (file, &header, sizeof header, 0) != (ssize_t)sizeof header
      || memcmp (header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64
      || header.e_phentsize != sizeof (Elf64_Phdr) || header.e_phnum > MAX_HEADERS)
    return banger_set_error (error, BANGER_ERROR_ENGINE_FAILED, "the VMM is not a 64-bit ELF program");
  *ret_dynamic = FALSE;
  for (int i = 0; i < header.e_phnum; i++) {
    Elf64_Phdr entry;
    off_t where = (off_t)(header.e_phoff + (guint64)i * sizeof entry);
    if (pread (file, &entry, sizeof entry, where) != (ssize_t)sizeof entry)
      return banger_set_error (error, BANGER_ERROR_ENGINE_FAILED, "the VMM's program headers cannot be read");
    if (entry.p_type == PT_INTERP)
      *ret_dynamic = TRUE;
  }
  return TRUE;
}

static gboolean
open_pair (const char *name, guint overhead_mib, const char *vmm, const char *jailer, BangerEngine *ret_engine,
           GError **error)
{
  g_auto (BangerEngine) pair = { -1, -1, name, FALSE, overhead_mib };
  if (!vmm || !jailer)
    return banger_set_error (error, BANGER_ERROR_ENGINE_FAILED, "engine '%s' has no programs configured", name);
  pair.vmm_fd = banger_gate_exec (vmm, error);
  pair.jailer_fd = pair.vmm_fd < 0 ? -1 : banger_gate_exec (jailer, error);
  if (pair.jailer_fd < 0 || !banger_engine_is_dynamic (pair.vmm_fd, &pair.dynamic, error))
    return FALSE;
  *ret_engine = pair;
  pair.vmm_fd = pair.jailer_fd = -1;
  return TRUE;
}

gboolean
banger_engine_choose (const BangerInstall *install, BangerEngine *ret_engine, GError **error)
{
  gboolean automatic = g_str_equal (install->engine, "auto");
  gboolean firecracker = g_str_equal (install->engine, "firecracker")
                         || (automatic && install->firecracker_vmm && kvm_usable ());
  if (firecracker
      && open_pair ("firecracker", OVERHEAD_FIRECRACKER_MIB, install->firecracker_vmm, install->firecracker_jailer,
                    ret_engine, automatic ? NULL : error))
    return TRUE;
  if (firecracker && !automatic)
    return FALSE;
  return open_pair ("qemu", OVERHEAD_QEMU_MIB, install->qemu_vmm, install->qemu_jailer, ret_engine, error);
}

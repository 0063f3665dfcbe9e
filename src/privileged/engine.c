/* Which pair of programs runs the VM.
 * Runs in worker threads.
 * Never takes a program that did not pass the gate. */
#include "privileged/engine.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "common/bytes.h"
#include "common/log.h"
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

/* A /dev/kvm without vmx or svm exists on some hosts and hangs ordinary guests. Returns: why not; "" if it is usable. */
static const char *
kvm_problem (void)
{
  g_autofree char *cpus = NULL;
  banger_autofd int fd = open ("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (fd < 0)
    return errno == ENOENT ? "/dev/kvm does not exist" : "/dev/kvm cannot be opened";
  if (!g_file_get_contents ("/proc/cpuinfo", &cpus, NULL, NULL) || !banger_engine_cpu_flags (cpus))
    return "/dev/kvm is there, but the CPU shows neither vmx nor svm";
  return "";
}

gboolean
banger_engine_is_dynamic (int fd, gboolean *ret_dynamic, GError **error)
{
  g_autofree char *path = g_strdup_printf ("/proc/self/fd/%d", fd);
  banger_autofd int file = open (path, O_RDONLY | O_CLOEXEC);
  Elf64_Ehdr header;
  if (file < 0 || banger_read_exactly (file, &header, sizeof header, 0) < 0
      || memcmp (header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64
      || header.e_phentsize != sizeof (Elf64_Phdr) || header.e_phnum > MAX_HEADERS)
    return banger_set_error (error, BANGER_ERROR_ENGINE_FAILED, "the VMM is not a 64-bit ELF program");
  *ret_dynamic = FALSE;
  for (int i = 0; i < header.e_phnum; i++) {
    Elf64_Phdr entry;
    off_t where = (off_t)(header.e_phoff + (guint64)i * sizeof entry);
    if (banger_read_exactly (file, &entry, sizeof entry, where) < 0)
      return banger_set_error (error, BANGER_ERROR_ENGINE_FAILED, "the VMM's program headers cannot be read");
    if (entry.p_type == PT_INTERP)
      *ret_dynamic = TRUE;
  }
  return TRUE;
}

static gboolean
open_pair (const BangerEngine *engine, const char *vmm, const char *jailer, BangerEngine *ret_engine, GError **error)
{
  g_auto (BangerEngine) pair = *engine;
  if (!vmm || !jailer)
    return banger_set_error (error, BANGER_ERROR_ENGINE_FAILED, "engine '%s' has no programs configured", engine->name);
  pair.vmm_fd = banger_gate_exec (vmm, error);
  pair.jailer_fd = pair.vmm_fd < 0 ? -1 : banger_gate_exec (jailer, error);
  if (pair.jailer_fd < 0 || !banger_engine_is_dynamic (pair.vmm_fd, &pair.dynamic, error))
    return FALSE;
  *ret_engine = pair;
  pair.vmm_fd = pair.jailer_fd = -1;
  return TRUE;
}

/* @ret_unfit: why not Firecracker, if the choice was free and its programs were not fit. */
static gboolean
choose (const BangerInstall *install, BangerEngine *ret_engine, GError **ret_unfit, GError **error)
{
  static const BangerEngine firecracker = { -1, -1, "firecracker", FALSE, OVERHEAD_FIRECRACKER_MIB, FALSE };
  static const BangerEngine qemu = { -1, -1, "qemu", FALSE, OVERHEAD_QEMU_MIB, TRUE };
  gboolean automatic = g_str_equal (install->engine, "auto");
  if (g_str_equal (install->engine, "firecracker"))
    return open_pair (&firecracker, install->firecracker_vmm, install->firecracker_jailer, ret_engine, error);
  if (automatic && install->firecracker_vmm) {
    gboolean fit = open_pair (&firecracker, install->firecracker_vmm, install->firecracker_jailer, ret_engine,
                              ret_unfit);
    if (fit && *kvm_problem () == '\0')
      return TRUE;
    banger_engine_clear (ret_engine);
  }
  return open_pair (&qemu, install->qemu_vmm, install->qemu_jailer, ret_engine, error);
}

gboolean
banger_engine_choose (const BangerInstall *install, BangerEngine *ret_engine, GError **error)
{
  g_autoptr (GError) unfit = NULL;
  gboolean ok = choose (install, ret_engine, &unfit, error);
  if (unfit)
    banger_log (LOG_WARNING, NULL, "engine 'auto' takes QEMU, as Firecracker's programs are not fit: %s",
                unfit->message);
  return ok;
}

void
banger_engine_report (const BangerInstall *install, BangerEngineReport *ret_report)
{
  g_auto (BangerEngine) engine = BANGER_ENGINE_NONE;
  g_autoptr (GError) unfit = NULL;
  g_autoptr (GError) none = NULL;
  gboolean ok = choose (install, &engine, &unfit, &none);
  ret_report->name = ok ? engine.name : "";
  ret_report->kvm = kvm_problem ();
  if (unfit)
    ret_report->problem = g_strdup_printf ("Firecracker's programs are not fit: %s%s%s", unfit->message, ok ? "" : "; ",
                                           ok ? "" : none->message);
  else
    ret_report->problem = g_strdup (ok ? "" : none->message);
}

void
banger_engine_report_clear (BangerEngineReport *report)
{
  g_clear_pointer (&report->problem, g_free);
}

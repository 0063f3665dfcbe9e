/* Which pair of programs runs the VM: a VMM and its jailer.
 * Runs in worker threads.
 * Never takes a program that did not pass the gate. */
#pragma once

#include "privileged/root.h"

typedef struct {
  int vmm_fd, jailer_fd; /* O_PATH, gated */
  const char *name;      /* "firecracker" or "qemu" */
  gboolean dynamic;      /* the VMM needs the host's libraries */
  guint overhead_mib;    /* what it may use beside the guest's memory */
  gboolean takes_tap;    /* as a descriptor; else it opens /dev/net/tun itself */
} BangerEngine;

#define BANGER_ENGINE_NONE                                                                                             \
  {                                                                                                                    \
    -1, -1, NULL, FALSE, 0, FALSE                                                                                      \
  }

/** banger_engine_choose: as configured; "auto" is Firecracker where both programs pass and KVM is usable, else QEMU. */
gboolean banger_engine_choose (const BangerInstall *install, BangerEngine *ret_engine, GError **error);
void banger_engine_clear (BangerEngine *engine);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (BangerEngine, banger_engine_clear)

/* The same for people. */
typedef struct {
  const char *name; /* "firecracker", "qemu"; "": no VM can be started */
  char *problem;    /* why; or why not Firecracker, where it is configured; "" */
  const char *kvm;  /* why guests are emulated, "": they are not */
} BangerEngineReport;

/** banger_engine_report: what banger_engine_choose() would say now, and of KVM. */
void banger_engine_report (const BangerInstall *install, BangerEngineReport *ret_report);
void banger_engine_report_clear (BangerEngineReport *report);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (BangerEngineReport, banger_engine_report_clear)

/** banger_engine_cpu_flags: whether the "flags" of /proc/cpuinfo @text have vmx or svm. */
gboolean banger_engine_cpu_flags (const char *text);
/** banger_engine_is_dynamic: whether the ELF file (elf(5)) has an interpreter. */
gboolean banger_engine_is_dynamic (int fd, gboolean *ret_dynamic, GError **error);

/* Which engine is taken, and what is said of it.
 * Run by meson test. */
#include "privileged/engine.h"

#include <string.h>

#include <glib/gstdio.h>

#define FIT "/usr/bin/env" /* root's, of any host */

static void
test_report (void)
{
  g_autofree char *dir = g_dir_make_tmp ("engine-XXXXXX", NULL);
  g_autofree char *loose = g_build_filename (dir, "firecracker", NULL);
  g_assert_true (g_file_set_contents (loose, "", 0, NULL));
  g_assert_cmpint (g_chmod (loose, 0775), ==, 0);
  /* @name: %NULL: as there is KVM or not; @problem: %NULL: none. */
  const struct {
    const char *use, *vmm, *jailer, *qemu, *name, *problem;
  } rows[] = {
    { "auto", FIT, FIT, FIT, NULL, NULL },
    { "auto", NULL, NULL, FIT, "qemu", NULL },
    { "auto", loose, FIT, FIT, "qemu", "Firecracker's programs are not fit: program '" },
    { "auto", FIT, loose, FIT, "qemu", "is refused" },
    { "auto", "/usr/bin/no-firecracker", FIT, FIT, "qemu", "No such file" },
    { "auto", "firecracker", FIT, FIT, "qemu", "Firecracker's programs are not fit" },
    { "auto", FIT, NULL, FIT, "qemu", "no programs configured" },
    { "auto", loose, FIT, loose, "", "; program '" },
    { "auto", NULL, NULL, NULL, "", "engine 'qemu' has no programs configured" },
    { "qemu", loose, FIT, FIT, "qemu", NULL },
    { "qemu", FIT, FIT, loose, "", "is refused" },
    { "firecracker", FIT, FIT, FIT, "firecracker", NULL }, /* the admin's word, also without KVM */
    { "firecracker", loose, FIT, FIT, "", "is refused" },
  };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    const BangerInstall install = { .engine = (char *)rows[i].use,
                                    .firecracker_vmm = (char *)rows[i].vmm,
                                    .firecracker_jailer = (char *)rows[i].jailer,
                                    .qemu_vmm = (char *)rows[i].qemu,
                                    .qemu_jailer = (char *)rows[i].qemu };
    g_auto (BangerEngineReport) report = { 0 };
    banger_engine_report (&install, &report);
    g_test_message ("row %u: '%s' '%s' '%s'", i, report.name, report.problem, report.kvm);
    g_assert_cmpstr (report.name, ==, rows[i].name ? rows[i].name : report.kvm[0] ? "qemu" : "firecracker");
    g_assert_cmpint (report.problem[0] != '\0', ==, rows[i].problem != NULL);
    g_assert_nonnull (strstr (report.problem, rows[i].problem ? rows[i].problem : ""));
    /* What runs is what was said. */
    g_auto (BangerEngine) engine = BANGER_ENGINE_NONE;
    g_assert_cmpint (banger_engine_choose (&install, &engine, NULL), ==, report.name[0] != '\0');
    if (report.name[0] != '\0')
      g_assert_cmpstr (engine.name, ==, report.name);
  }
  g_assert_cmpint (g_unlink (loose), ==, 0);
  g_assert_cmpint (g_rmdir (dir), ==, 0);
}

static void
test_kvm (void)
{
  const BangerInstall install = { .engine = (char *)"qemu" };
  g_auto (BangerEngineReport) report = { 0 };
  banger_engine_report (&install, &report);
  if (g_access ("/dev/kvm", F_OK) != 0)
    g_assert_cmpstr (report.kvm, ==, "/dev/kvm does not exist");
  g_assert_true (banger_engine_cpu_flags ("processor\t: 0\nflags\t\t: fpu vmx sse\nbugs\t: x\n"));
  g_assert_true (banger_engine_cpu_flags ("processor\t: 0\nflags\t\t: svm\n"));
  g_assert_false (banger_engine_cpu_flags ("processor\t: 0\nflags\t\t: fpu vmxx svm_lock\nvmx flags\t: vmx\n"));
  g_assert_false (banger_engine_cpu_flags (""));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/engine/report", test_report);
  g_test_add_func ("/engine/kvm", test_kvm);
  return g_test_run ();
}

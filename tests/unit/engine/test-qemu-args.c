/* The kernel's and QEMU's command lines that follow from a configuration.
 * Run by meson.
 * Never starts QEMU. */
#include <glib.h>
#include <string.h>

#include "engine/qemu-args.h"

static const BangerQemuPlan tcg = { .id = "vm", .qemu_path = "/q", .tsc_khz = 2400000, .qmp_fd = 7, .agent_fd = -1 };
static const BangerQemuPlan kvm = { .id = "vm", .qemu_path = "/q", .kvm = TRUE, .qmp_fd = 7, .agent_fd = 9 };

static BangerVmConfig *
config_with (const char *boot_args, guint drives)
{
  BangerVmConfig *config = banger_vm_config_new ();
  config->boot_source.kernel_image_path = g_strdup ("/vmlinux");
  config->boot_source.boot_args = g_strdup (boot_args);
  for (guint i = 0; i < drives; i++) {
    BangerDrive *drive = g_new0 (BangerDrive, 1);
    drive->drive_id = g_strdup_printf ("d%u", i);
    drive->path_on_host = g_strdup ("/a,b\"c");
    drive->cache_type = g_strdup (i == 0 ? "Unsafe" : "Writeback");
    g_ptr_array_add (config->drives, drive);
  }
  return config;
}

static void
test_kernel_command_line (void)
{
  static const struct {
    const char *given;
    gboolean kvm;
    const char *want;
  } rows[] = {
    { "console=ttyS0 reboot=k quiet", FALSE, "console=ttyS0 reboot=t quiet tsc_early_khz=2400000 tsc=reliable" },
    { "reboot=k", TRUE, "reboot=t" },
    { "xreboot=k reboot=kx reboot=a", TRUE, "xreboot=k reboot=kx reboot=a" },
    { "", TRUE, "" },
    { NULL, TRUE, "reboot=t panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd swiotlb=noforce" },
  };
  for (size_t i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (BangerVmConfig) config = config_with (rows[i].given, 0);
    g_autofree char *line = banger_qemu_kernel_command_line (config, rows[i].kvm ? &kvm : &tcg);
    g_assert_cmpstr (line, ==, rows[i].want);
  }
}

static void
test_root (void)
{
  g_autoptr (BangerVmConfig) config = config_with ("a", 1);
  BangerDrive *drive = config->drives->pdata[0];
  drive->is_root_device = 1;
  drive->is_read_only = 1;
  g_autofree char *plain = banger_qemu_kernel_command_line (config, &kvm);
  g_assert_cmpstr (plain, ==, "a root=/dev/vda ro");
  drive->partuuid = g_strdup ("0eaa91a0-01");
  drive->is_read_only = 0;
  g_autofree char *uuid = banger_qemu_kernel_command_line (config, &kvm);
  g_assert_cmpstr (uuid, ==, "a root=PARTUUID=0eaa91a0-01 rw");
}

static gboolean
has_pair (char **argv, const char *option, const char *value)
{
  for (; argv[0] != NULL && argv[1] != NULL; argv++)
    if (g_str_equal (argv[0], option) && g_str_equal (argv[1], value))
      return TRUE;
  return FALSE;
}

static void
test_machine (void)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (BangerVmConfig) config = config_with ("a", 0);
  config->machine.vcpu_count = 4;
  config->machine.smt = 1;
  config->machine.mem_size_mib = 640;
  g_auto (GStrv) argv = banger_qemu_args (config, &kvm, &error);
  g_assert_no_error (error);
  g_assert_cmpstr (argv[0], ==, "/q");
  g_assert_true (has_pair (argv, "-machine", "microvm,accel=kvm,rtc=on,memory-backend=ram"));
  g_assert_true (has_pair (argv, "-m", "640M"));
  g_assert_true (has_pair (argv, "-smp", "cpus=4,sockets=1,cores=2,threads=2"));
  g_assert_true (has_pair (argv, "-device", "virtio-serial-device,id=ports,max_ports=2,bus=virtio-mmio-bus.7"));
  g_assert_true (g_strv_contains ((const char *const *)argv, "-no-reboot"));
  g_assert_true (g_strv_contains ((const char *const *)argv, "-nodefaults"));
  g_auto (GStrv) emulated = banger_qemu_args (config, &tcg, &error);
  g_assert_true (has_pair (emulated, "-machine", "microvm,accel=tcg,rtc=on,memory-backend=ram"));
  g_assert_true (has_pair (emulated, "-cpu", "max,-erms,-fsrm"));
}

/* The guest numbers disks from the highest transport down. */
static void
test_order_and_quoting (void)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (BangerVmConfig) config = config_with ("a", 2);
  g_auto (GStrv) argv = banger_qemu_args (config, &tcg, &error);
  g_assert_no_error (error);
  g_autofree char *all = g_strjoinv ("\n", argv);
  const char *first = strstr (all, "\"bus\":\"virtio-mmio-bus.7\"");
  const char *second = strstr (all, "\"bus\":\"virtio-mmio-bus.6\"");
  g_assert_true (first != NULL && second != NULL && first < second);
  g_assert_nonnull (strstr (all, "\"filename\":\"/a,b\\\"c\""));
  g_assert_nonnull (strstr (all, "\"node-name\":\"drive0\",\"file\":\"file0\",\"read-only\":false,\"discard\":"
                                 "\"unmap\",\"cache\":{\"no-flush\":true}"));
  g_assert_nonnull (strstr (all, "\"auto-read-only\":false,\"discard\":\"unmap\",\"drop-cache\":false,"
                                 "\"cache\":{\"no-flush\":true}"));
  g_assert_null (strstr (strstr (all, "drive1"), "no-flush"));
}

/* A guest that is loaded has its kernel in its memory. */
static void
test_incoming (void)
{
  BangerQemuPlan plan = tcg;
  g_autoptr (GError) error = NULL;
  g_autoptr (BangerVmConfig) config = config_with ("a", 1);
  plan.incoming = TRUE;
  g_auto (GStrv) argv = banger_qemu_args (config, &plan, &error);
  g_assert_no_error (error);
  g_assert_true (has_pair (argv, "-incoming", "defer"));
  for (char **word = argv; *word; word++)
    g_assert_false (g_str_equal (*word, "-kernel") || g_str_equal (*word, "-initrd") || g_str_equal (*word, "-append"));
}

static void
test_room (void)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (BangerVmConfig) seven = config_with ("a", 7);
  g_auto (GStrv) argv = banger_qemu_args (seven, &tcg, &error);
  g_assert_no_error (error);
  g_assert_nonnull (argv);
  g_autoptr (BangerVmConfig) eight = config_with ("a", 8);
  g_assert_null (banger_qemu_args (eight, &tcg, &error));
  g_assert_error (error, BANGER_VMM_ERROR, BANGER_VMM_ERROR_REQUEST);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/qemu-args/kernel-command-line", test_kernel_command_line);
  g_test_add_func ("/qemu-args/root", test_root);
  g_test_add_func ("/qemu-args/machine", test_machine);
  g_test_add_func ("/qemu-args/order-and-quoting", test_order_and_quoting);
  g_test_add_func ("/qemu-args/incoming", test_incoming);
  g_test_add_func ("/qemu-args/room", test_room);
  return g_test_run ();
}

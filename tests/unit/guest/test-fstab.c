/* Which lines of an image's /etc/fstab are optional on a machine with other disks.
 * Run by meson test.
 * Never mounts anything. */
#include <glib.h>
#include <string.h>

#include "guest/fstab.h"

/* A machine with one disk, a file and nothing else. */
static int
look (const char *name, void *data)
{
  static const char *const there[] = { "/dev/vda", "LABEL=root", "UUID=1234-abcd", "/swapfile", "/srv", NULL };
  for (gsize i = 0; there[i]; i++)
    if (strcmp (name, there[i]) == 0)
      return 1;
  return 0;
}

static void
check (const char *text, int init, const char *expected, const char *expected_told)
{
  char told[400];
  g_autofree char *result = guest_fstab_optional (text, "/dev/vda", init, look, NULL, told, sizeof told);
  g_assert_cmpstr (result, ==, expected);
  g_assert_cmpstr (told, ==, expected_told);
}

static void
test_kept (void)
{
  static const char *const kept[] = {
    "",
    "# LABEL=gone /x ext4 defaults 0 2\n",
    "\n  \n#\n",
    "/dev/vda / ext4 defaults 0 1\n",
    "LABEL=root\t/\text4\terrors=remount-ro\t0\t1\n",
    "LABEL=\"root\" / ext4\n",
    "UUID=1234-abcd / ext4 defaults 0 1\n/dev/disk/by-label/root /a auto\n",
    "proc /proc proc defaults 0 0\ntmpfs /tmp tmpfs size=1G 0 0\n",
    "server:/export /mnt nfs defaults 0 0\n//server/share /mnt cifs defaults 0 0\n",
    "/swapfile none swap sw 0 0\n/srv /var/www none bind 0 0\n",
    "overlay /merged overlay lowerdir=/a,upperdir=/b,workdir=/c 0 0\n",
    "LABEL=gone /x ext4 noauto 0 0\n",
    "/dev/md0 /x ext4 defaults,nofail 0 0\n",
    "/etc/auto.x /x fuse defaults 0 0\n",
    "word\n",
  };
  for (gsize i = 0; i < G_N_ELEMENTS (kept); i++)
    check (kept[i], 1, NULL, "");
}

static void
test_changed (void)
{
  check (
      "LABEL=cloudimg-rootfs\t/\t ext4\tdiscard,errors=remount-ro\t0 1\nLABEL=UEFI\t/boot/efi\tvfat\tumask=0077\t0 1\n",
      1,
      "/dev/vda\t/\text4\tdiscard,errors=remount-ro\t0\t0\n"
      "# not there: LABEL=UEFI\t/boot/efi\tvfat\tumask=0077\t0 1\n",
      "LABEL=cloudimg-rootfs (/), LABEL=UEFI (/boot/efi)");
  check ("UUID=9999 / btrfs subvol=@,compress=zstd 0 0", 1, "/dev/vda\t/\text4\tdefaults\t0\t0\n", "UUID=9999 (/)");
  static const struct {
    const char *spec, *type, *options;
    GuestDiskState state;
  } rows[] = {
    { "UUID=9999", "ext4", "defaults", GUEST_DISK_ABSENT },
    { "LABEL='UEFI'", "vfat", "defaults", GUEST_DISK_ABSENT },
    { "PARTUUID=1", "ext4", "defaults", GUEST_DISK_ABSENT },
    { "PARTLABEL=boot", "ext4", "defaults", GUEST_DISK_ABSENT },
    { "/dev/sda1", "ext4", "defaults", GUEST_DISK_ABSENT },
    { "/dev/vda1", "ext4", "defaults", GUEST_DISK_ABSENT },
    { "/dev/root", "auto", "defaults", GUEST_DISK_ABSENT },
    { "/dev/disk/by-uuid/9999", "ext4", "defaults", GUEST_DISK_ABSENT },
    { "/dev/disk/by-id/wwn-1", "ext4", "defaults", GUEST_DISK_ABSENT },
    { "/dev/disk/by-label/LABEL=root", "ext4", "defaults", GUEST_DISK_ABSENT },
    { "/dev/sda2", "swap", "sw", GUEST_DISK_ABSENT },
    { "LABEL=", "ext4", "defaults", GUEST_DISK_ABSENT },
    { "LABEL=\"", "ext4", "defaults", GUEST_DISK_ABSENT },
    { "share", "virtiofs", "defaults", GUEST_DISK_ABSENT },
    { "share", "9p", "trans=virtio", GUEST_DISK_ABSENT },
    { "/dev/mapper/vg-home", "ext4", "defaults", GUEST_DISK_LATER },
    { "/dev/md0", "ext4", "defaults", GUEST_DISK_LATER },
    { "/dev/zram0", "swap", "defaults", GUEST_DISK_LATER },
    { "/swap.img", "swap", "sw", GUEST_DISK_LATER },
    { "/data/x", "none", "ro,bind", GUEST_DISK_LATER },
    { "/data/x", "none", "rbind,x-a=b", GUEST_DISK_LATER },
    { "/images/x.img", "ext4", "loop=/dev/loop3", GUEST_DISK_LATER },
    { "/data/x", "none", "nobind,binding", GUEST_DISK_PRESENT },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    g_assert_cmpint (guest_disk_state (rows[i].spec, rows[i].type, rows[i].options, look, NULL), ==, rows[i].state);
  g_autofree char *label = g_strnfill (300, 'x'), *spec = g_strconcat ("LABEL=", label, NULL);
  g_assert_cmpint (guest_disk_state (spec, "ext4", "", look, NULL), ==, GUEST_DISK_ABSENT);

  check ("/dev/md0 /data xfs ro 1 2\n", 1, "/dev/md0\t/data\txfs\tro,nofail,x-systemd.device-timeout=10s\t1\t2\n",
         "/dev/md0 (/data)");
  check ("/dev/md0 /data xfs ro,x-systemd.device-timeout=3 1 2\n", 1,
         "/dev/md0\t/data\txfs\tro,x-systemd.device-timeout=3,nofail\t1\t2\n", "/dev/md0 (/data)");
  check ("/dev/md0 /data xfs ro 1 2\n", 0, "/dev/md0\t/data\txfs\tro,nofail\t1\t0\n", "/dev/md0 (/data)");
  check ("LABEL=root / ext4\nUUID=1234-abcd /b ext4\n/dev/vda /c ext4 nofail\ntmpfs /d tmpfs\n", 3,
         "LABEL=root / ext4\nUUID=1234-abcd\t/b\text4\tdefaults,nofail,x-systemd.device-timeout=10s\t0\t0\n"
         "/dev/vda /c ext4 nofail\ntmpfs /d tmpfs\n",
         "UUID=1234-abcd (/b)");
  check ("# a\n/dev/sdb swap swap nofail\nproc /proc proc", 1,
         "# a\n# not there: /dev/sdb swap swap nofail\nproc /proc proc\n", "/dev/sdb (swap)");
}

static void
test_long (void)
{
  g_autoptr (GString) text = g_string_new (NULL);
  for (guint i = 0; i < 100; i++)
    g_string_append_printf (text, "UUID=%u /mnt/%u ext4\n", i, i);
  char told[400];
  g_autofree char *result = guest_fstab_optional (text->str, "/dev/vda", 1, look, NULL, told, sizeof told);
  g_auto (GStrv) lines = g_strsplit (result, "\n", -1);
  g_assert_cmpuint (g_strv_length (lines), ==, 101);
  g_assert_cmpuint (strlen (told), ==, sizeof told - 1);
}

static void
test_crypttab (void)
{
  static const struct {
    const char *text;
    int idle;
  } rows[] = {
    { "", 1 },
    { "# x\nhome UUID=9999 none luks\nswap /dev/sda3 /dev/urandom swap\n", 1 },
    { "home UUID=9999 none luks\nother LABEL=root none", 0 },
    { "x /dev/mapper/vg-x none luks\n", 0 },
    { "x /srv/container.img none luks\n", 0 },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    g_assert_cmpint (guest_crypttab_idle (rows[i].text, look, NULL), ==, rows[i].idle);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/guest/fstab/kept", test_kept);
  g_test_add_func ("/guest/fstab/changed", test_changed);
  g_test_add_func ("/guest/fstab/long", test_long);
  g_test_add_func ("/guest/fstab/crypttab", test_crypttab);
  return g_test_run ();
}

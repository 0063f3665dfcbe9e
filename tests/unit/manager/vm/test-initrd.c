/* The initramfs as the kernel would read it, and what the manager refuses to put in.
 * Run by meson test.
 * Never needs a guest. */
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/names.h"
#include "guest/identity-request.h"
#include "guest/settings.h"
#include "common/cpio.h"
#include "manager/peer/guest-identity.h"
#include "manager/vm/initrd.h"

static const char *const dns[] = { "10.213.0.1", "fd00::1", NULL };

static BangerGuestConfig
good_config (void)
{
  return (BangerGuestConfig){
    .vm_id = "0123456789ab",
    .hostname = "web",
    .address = "10.213.0.5/24",
    .gateway = "10.213.0.1",
    .dns = dns,
    .mac = "06:00:00:00:00:05",
    .mtu = 1400,
    .root = "/dev/vda",
    .work = "/dev/vdb",
    .init = "/opt/my init",
    .boot_token = "start-1",
    .authorized_keys = "ssh-ed25519 AAAA me\n",
    .host_key = "-----BEGIN OPENSSH PRIVATE KEY-----\n",
    .host_key_public = "ssh-ed25519 BBBB host\n",
  };
}

/* A file of the archives: its mode and bytes by its path. */
typedef struct {
  mode_t mode;
  guint links;
  GBytes *bytes;
} Entry;

static void
entry_free (gpointer data)
{
  Entry *entry = data;
  g_bytes_unref (entry->bytes);
  g_free (entry);
}

static GBytes *
entry_bytes (struct archive *archive, gsize size)
{
  char *data = g_malloc (size + 1);
  g_assert_cmpint (archive_read_data (archive, data, size), ==, size);
  return g_bytes_new_take (data, size);
}

/* Reads one archive after the other, as the kernel's unpack_to_rootfs() does: each begins at a multiple of four. */
static GHashTable *
read_archives (const char *data, gsize length, guint *ret_n_archives)
{
  GHashTable *entries = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, entry_free);
  *ret_n_archives = 0;
  for (gsize at = 0; at < length;) {
    struct archive *archive = archive_read_new ();
    struct archive_entry *head;
    archive_read_support_format_cpio (archive);
    g_assert_cmpint (memcmp (data + at, "070701", 6), ==, 0);
    g_assert_cmpint (archive_read_open_memory (archive, data + at, length - at), ==, ARCHIVE_OK);
    while (archive_read_next_header (archive, &head) == ARCHIVE_OK) {
      Entry *entry = g_new0 (Entry, 1);
      entry->mode = archive_entry_mode (head);
      entry->links = archive_entry_nlink (head);
      entry->bytes = entry_bytes (archive, (gsize)archive_entry_size (head));
      g_assert_cmpint (archive_entry_uid (head), ==, 0);
      g_hash_table_insert (entries, g_strdup (archive_entry_pathname (head)), entry);
    }
    archive_read_free (archive);
    ++*ret_n_archives;
    const char *trailer = memmem (data + at, length - at, "TRAILER!!!", 10);
    g_assert_nonnull (trailer);
    at = (gsize)(trailer - data) + 11;
    while (at < length && data[at] == '\0')
      at++;
    g_assert_cmpuint (at % 4, ==, 0);
  }
  return entries;
}

static const Entry *
need (GHashTable *entries, const char *path)
{
  const Entry *entry = g_hash_table_lookup (entries, path);
  if (entry == NULL)
    g_error ("no %s in the initramfs", path);
  return entry;
}

static void
assert_text (const Entry *entry, const char *text)
{
  g_autofree char *found = g_strndup (g_bytes_get_data (entry->bytes, NULL), g_bytes_get_size (entry->bytes));
  g_assert_cmpstr (found, ==, text);
}

typedef struct {
  char *dir, *guest;
  int kernel_fd, vm_fd;
} Fixture;

static void
set_up (Fixture *fixture, gconstpointer data)
{
  g_autoptr (GError) error = NULL;
  fixture->dir = g_dir_make_tmp ("banger-test-XXXXXX", &error);
  g_assert_no_error (error);
  fixture->kernel_fd = open (fixture->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  g_assert_cmpint (mkdirat (fixture->kernel_fd, "vm", 0700), ==, 0);
  fixture->vm_fd = openat (fixture->kernel_fd, "vm", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  fixture->guest = g_build_filename (fixture->dir, "guest", NULL);
  g_assert_true (g_file_set_contents (fixture->guest, "\177ELF guest", -1, NULL));

  banger_autofd int fd = openat (fixture->kernel_fd, BANGER_FILE_KERNEL_INITRD, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  g_autoptr (BangerCpio) cpio = banger_cpio_new (fd, &error);
  g_assert_no_error (error);
  g_assert_true (banger_cpio_add_dir (cpio, "modules", 0755, &error));
  g_assert_true (banger_cpio_add_file (cpio, "modules/order", 0644, "a.ko\n", 5, &error));
  g_assert_true (banger_cpio_close (cpio, &error));
}

static void
tear_down (Fixture *fixture, gconstpointer data)
{
  unlinkat (fixture->vm_fd, BANGER_FILE_VM_INITRD, 0);
  unlinkat (fixture->kernel_fd, BANGER_FILE_KERNEL_INITRD, 0);
  unlinkat (fixture->kernel_fd, "guest", 0);
  unlinkat (fixture->kernel_fd, "vm", AT_REMOVEDIR);
  close (fixture->vm_fd);
  close (fixture->kernel_fd);
  g_assert_cmpint (rmdir (fixture->dir), ==, 0);
  g_free (fixture->guest);
  g_free (fixture->dir);
}

static void
test_whole (Fixture *fixture, gconstpointer data)
{
  g_autoptr (GError) error = NULL;
  BangerGuestConfig config = good_config ();
  struct stat st;
  guint n_archives;
  gsize length;
  g_autofree char *path = g_build_filename (fixture->dir, "vm", BANGER_FILE_VM_INITRD, NULL), *bytes = NULL;

  banger_initrd_write_vm (fixture->kernel_fd, fixture->vm_fd, fixture->guest, &config, &error);
  g_assert_no_error (error);
  /* It holds a private key. */
  g_assert_cmpint (stat (path, &st), ==, 0);
  g_assert_cmpint (st.st_mode & 07777, ==, 0600);

  g_assert_true (g_file_get_contents (path, &bytes, &length, NULL));
  g_autoptr (GHashTable) entries = read_archives (bytes, length, &n_archives);
  g_assert_cmpuint (n_archives, ==, 3);
  g_assert_cmpuint (g_hash_table_size (entries), ==, 8);
  g_assert_cmpint (need (entries, "init")->mode, ==, S_IFREG | 0755);
  g_assert_cmpuint (need (entries, "init")->links, ==, 1);
  assert_text (need (entries, "init"), "\177ELF guest");
  assert_text (need (entries, "modules/order"), "a.ko\n");
  g_assert_cmpint (need (entries, "banger")->mode, ==, S_IFDIR | 0700);
  g_assert_cmpint (need (entries, "banger/ssh_host_ed25519_key")->mode, ==, S_IFREG | 0600);
  assert_text (need (entries, "banger/ssh_host_ed25519_key"), config.host_key);
  assert_text (need (entries, "banger/ssh_host_ed25519_key.pub"), config.host_key_public);
  assert_text (need (entries, "banger/authorized_keys"), config.authorized_keys);
  g_autofree char *text = banger_guest_config_text (&config, &error);
  assert_text (need (entries, "banger/config"), text);
}

/* A second start replaces the file whole and gives equal bytes. */
static void
test_again (Fixture *fixture, gconstpointer data)
{
  g_autoptr (GError) error = NULL;
  BangerGuestConfig config = good_config ();
  g_autofree char *path = g_build_filename (fixture->dir, "vm", BANGER_FILE_VM_INITRD, NULL), *one = NULL, *two = NULL;
  gsize one_length, two_length;
  g_assert_true (banger_initrd_write_vm (fixture->kernel_fd, fixture->vm_fd, fixture->guest, &config, &error));
  g_assert_true (g_file_get_contents (path, &one, &one_length, NULL));
  g_assert_true (banger_initrd_write_vm (fixture->kernel_fd, fixture->vm_fd, fixture->guest, &config, &error));
  g_assert_true (g_file_get_contents (path, &two, &two_length, NULL));
  g_assert_cmpmem (one, one_length, two, two_length);
}

/* cpio(1), where it is installed, lists the kernel's part without a complaint. */
static void
test_cpio_reads_it (Fixture *fixture, gconstpointer data)
{
  g_autofree char *cpio = g_find_program_in_path ("cpio");
  if (cpio == NULL) {
    g_test_skip ("cpio is not installed");
    return;
  }
  g_autofree char *path = g_build_filename (fixture->dir, BANGER_FILE_KERNEL_INITRD, NULL), *out = NULL;
  g_autofree char *command = g_strdup_printf ("sh -c '%s -t --quiet < %s'", cpio, path);
  int status;
  g_assert_true (g_spawn_command_line_sync (command, &out, NULL, &status, NULL));
  g_assert_cmpint (status, ==, 0);
  g_assert_cmpstr (out, ==, "modules\nmodules/order\n");
}

static void
test_kernel_part_is_checked (Fixture *fixture, gconstpointer data)
{
  g_autoptr (GError) error = NULL;
  BangerGuestConfig config = good_config ();
  struct stat st;
  g_assert_cmpint (unlinkat (fixture->kernel_fd, BANGER_FILE_KERNEL_INITRD, 0), ==, 0);
  g_assert_cmpint (symlinkat ("guest", fixture->kernel_fd, BANGER_FILE_KERNEL_INITRD), ==, 0);
  g_assert_false (banger_initrd_write_vm (fixture->kernel_fd, fixture->vm_fd, fixture->guest, &config, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_KERNEL);
  g_clear_error (&error);
  g_assert_false (banger_initrd_write_vm (fixture->vm_fd, fixture->vm_fd, fixture->guest, &config, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_KERNEL);
  /* Nothing is left of the attempt. */
  g_assert_cmpint (fstatat (fixture->vm_fd, BANGER_FILE_VM_INITRD, &st, 0), ==, -1);
  g_assert_cmpint (fstatat (fixture->vm_fd, BANGER_FILE_VM_INITRD ".new", &st, 0), ==, -1);
}

static void
test_archive_paths (void)
{
  static const char *const refused[] = { "", "/etc/x", "../x", "a/../x", "a//b", "./a", "a/" };
  g_autoptr (GError) error = NULL;
  g_autoptr (BangerCpio) cpio = banger_cpio_new (-1, &error);
  for (gsize i = 0; i < G_N_ELEMENTS (refused); i++) {
    g_assert_false (banger_cpio_add_file (cpio, refused[i], 0644, "x", 1, &error));
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_PATH);
    g_clear_error (&error);
  }
}

/* What one side writes the other one reads: both are tested here on purpose. */
static void
test_guest_reads_config (void)
{
  g_autoptr (GError) error = NULL;
  BangerGuestConfig config = good_config ();
  GuestSettings settings;
  char problem[128] = "";
  g_autofree char *text = banger_guest_config_text (&config, &error);
  g_assert_no_error (error);
  g_autofree char *same = banger_guest_config_text (&config, NULL);
  config.vm_id = "0123456789ac";
  g_autofree char *other = banger_guest_config_text (&config, NULL);
  g_assert_cmpstr (text, ==, same);
  g_assert_cmpstr (text, !=, other);

  if (guest_settings_parse (text, &settings, problem, sizeof problem) < 0)
    g_error ("%s", problem);
  g_assert_cmpstr (settings.hostname, ==, "web");
  g_assert_cmpuint (settings.prefix, ==, 24);
  g_assert_cmpuint (settings.n_dns, ==, 2);
  g_assert_cmpuint (settings.mtu, ==, 1400);
  g_assert_cmpstr (settings.work, ==, "/dev/vdb");
  g_assert_cmpuint (strlen (settings.machine_id), ==, 32);
  g_assert_cmpstr (settings.boot_token, ==, "start-1");
  g_assert_cmpstr (settings.init, ==, "/opt/my init");
}

/* A guest that becomes the VM is told by the same files what one that boots is. */
static void
test_guest_reads_identity (void)
{
  static const guint8 entropy[BANGER_GUEST_MIN_ENTROPY] = { 0 };
  g_autoptr (GByteArray) body = g_byte_array_new ();
  BangerGuestConfig config = good_config ();
  config.boot_token = NULL;
  g_autofree char *text = banger_guest_config_text (&config, NULL);
  char problem[160] = "";
  BangerGuestFile files[BANGER_GUEST_FILES];
  GuestIdentity identity;
  banger_guest_files (&config, text, files);
  banger_guest_identity_add (body, "time", "1764491234567890", 16);
  banger_guest_identity_add (body, "entropy", entropy, sizeof entropy);
  g_assert_cmpint (guest_identity_parse ((char *)body->data, body->len, &identity, problem, sizeof problem), ==, 0);
  g_assert_false (identity.is_new);
  banger_guest_identity_add (body, "boot_id", "0f8fad5b-d9cb-469f-a165-70867728950e", 36);
  for (gsize i = 0; i < BANGER_GUEST_FILES; i++)
    banger_guest_identity_add (body, BANGER_GUEST_PART (files[i].path), files[i].text, strlen (files[i].text));
  if (guest_identity_parse ((char *)body->data, body->len, &identity, problem, sizeof problem) < 0)
    g_error ("%s", problem);
  g_assert_true (identity.is_new);
  g_assert_cmpint (identity.usec, ==, 1764491234567890);
  g_assert_cmpmem (identity.entropy, identity.entropy_length, entropy, sizeof entropy);
  g_assert_cmpstr (identity.settings.hostname, ==, "web");
  g_assert_cmpstr (identity.keys.host_key, ==, config.host_key);
  g_assert_cmpstr (identity.keys.host_key_public, ==, config.host_key_public);
  g_assert_cmpstr (identity.keys.authorized_keys, ==, config.authorized_keys);
  guest_identity_clear (&identity);
}

static void
test_optional_fields (void)
{
  g_autoptr (GError) error = NULL;
  BangerGuestConfig config = good_config ();
  GuestSettings settings;
  char problem[128] = "";
  config.work = config.gateway = config.boot_token = NULL;
  config.dns = NULL;
  config.mtu = 0;
  g_autofree char *text = banger_guest_config_text (&config, &error);
  g_assert_no_error (error);
  g_assert_cmpint (guest_settings_parse (text, &settings, problem, sizeof problem), ==, 0);
  g_assert_cmpstr (settings.work, ==, "");
  g_assert_cmpuint (settings.n_dns, ==, 0);
}

static void
test_refused_fields (void)
{
  static const char *const many_dns[] = { "1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4", "1.1.1.5", NULL };
  static const char *const bad_dns[] = { "1.1.1.1\nroot=/dev/vdz", NULL };
  BangerGuestConfig rows[17];
  gsize n = 0;
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    rows[i] = good_config ();
  rows[n++].hostname = "a\nroot=/dev/vdz";
  rows[n++].hostname = NULL;
  rows[n++].vm_id = "../../etc";
  rows[n++].address = "10.213.0.5";
  rows[n++].gateway = "10.213.0.1 ";
  rows[n++].dns = many_dns;
  rows[n++].dns = bad_dns;
  rows[n++].mac = "06:00:00:00:00:05\n";
  rows[n++].mtu = 100;
  rows[n++].root = "/dev/vda\nwork=x";
  rows[n++].root = "";
  rows[n++].work = "/dev/v da";
  rows[n++].boot_token = "a=b";
  rows[n++].init = "sbin/init";
  rows[n++].authorized_keys = NULL;
  rows[n++].host_key = "";
  rows[n++].host_key_public = NULL;
  g_assert_cmpuint (n, ==, G_N_ELEMENTS (rows));
  for (gsize i = 0; i < n; i++) {
    g_autoptr (GError) error = NULL;
    g_autofree char *text = banger_guest_config_text (&rows[i], &error);
    g_assert_null (text);
    g_assert_nonnull (error);
    g_assert_true (error->domain == BANGER_ERROR);
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add ("/guest/initrd/whole", Fixture, NULL, set_up, test_whole, tear_down);
  g_test_add ("/guest/initrd/again", Fixture, NULL, set_up, test_again, tear_down);
  g_test_add ("/guest/initrd/cpio", Fixture, NULL, set_up, test_cpio_reads_it, tear_down);
  g_test_add ("/guest/initrd/kernel-part", Fixture, NULL, set_up, test_kernel_part_is_checked, tear_down);
  g_test_add_func ("/guest/initrd/paths", test_archive_paths);
  g_test_add_func ("/guest/initrd/guest-reads-config", test_guest_reads_config);
  g_test_add_func ("/guest/initrd/guest-reads-identity", test_guest_reads_identity);
  g_test_add_func ("/guest/initrd/optional", test_optional_fields);
  g_test_add_func ("/guest/initrd/refused", test_refused_fields);
  return g_test_run ();
}

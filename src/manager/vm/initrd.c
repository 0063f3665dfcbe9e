/* Puts a VM's initramfs together from three archives.
 * Runs in worker threads.
 * Never leaves half an initramfs under the final name. */
#include "manager/vm/initrd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/cpio.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/guest-protocol.h"
#include "common/names.h"
#include "common/validate.h"

#define TEMPORARY_NAME BANGER_FILE_VM_INITRD ".new"
#define COPY_BLOCK (1 << 20)
#define ALIGNMENT 4
/* Without the leading '/', as an archive has it. */
#define ARCHIVE_PATH(path) ((path) + 1)

static gboolean
check_word (const char *key, const char *value, const char *allowed, gsize max, GError **error)
{
  if (value[0] != '\0' && strlen (value) <= max && value[strspn (value, allowed)] == '\0')
    return TRUE;
  g_autofree char *shown = g_strescape (value, NULL);
  return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "guest configuration: %s '%s' is not valid", key, shown);
}

static gboolean
check_dns (const char *const *dns, GError **error)
{
  struct in6_addr any;
  for (guint i = 0; dns && dns[i]; i++)
    if (i == 4 || (inet_pton (AF_INET, dns[i], &any) != 1 && inet_pton (AF_INET6, dns[i], &any) != 1))
      return banger_set_error (error, BANGER_ERROR_INVALID_ARGS,
                               "guest configuration: dns '%s' is not one of at most four addresses", dns[i]);
  return TRUE;
}

static gboolean
check_required (const BangerGuestConfig *config, GError **error)
{
  const struct {
    const char *key, *value;
  } rows[] = {
    { "vm id", config->vm_id },       { "hostname", config->hostname },
    { "address", config->address },   { "mac", config->mac },
    { "root", config->root },         { "authorized keys", config->authorized_keys },
    { "host key", config->host_key }, { "public host key", config->host_key_public },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    if (!rows[i].value || rows[i].value[0] == '\0')
      return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "guest configuration: no %s", rows[i].key);
  return TRUE;
}

gboolean
banger_guest_init_check (const char *path, GError **error)
{
  gboolean ok = path[0] == '/' && strlen (path) <= BANGER_GUEST_MAX_INIT;
  for (const char *c = path; *c != '\0' && ok; c++)
    ok = !g_ascii_iscntrl (*c);
  if (ok)
    return TRUE;
  g_autofree char *shown = g_strescape (path, NULL);
  return banger_set_error (error, BANGER_ERROR_INVALID_ARGS,
                           "init '%s': give the absolute path of a program in the image, of at most %d bytes", shown,
                           BANGER_GUEST_MAX_INIT);
}

static gboolean
check_config (const BangerGuestConfig *config, GError **error)
{
  static const char device[] = "/abcdefghijklmnopqrstuvwxyz0123456789", mac[] = "0123456789abcdef:";
  static const char names[] = "abcdefghijklmnopqrstuvwxyz0123456789.=,-";
  static const char token[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
  if (!check_required (config, error) || !banger_id_check (config->vm_id, "VM id", error)
      || !banger_name_check (config->hostname, "host name", error)
      || !banger_ipv4_cidr_parse (config->address, NULL, NULL, error)
      || (config->gateway && !banger_ipv4_parse (config->gateway, NULL, error)) || !check_dns (config->dns, error)
      || !check_word ("mac", config->mac, mac, 17, error) || !check_word ("root", config->root, device, 63, error)
      || (config->work && !check_word ("work", config->work, device, 63, error))
      || (config->init && *config->init != '\0' && !banger_guest_init_check (config->init, error))
      || (config->names && !check_word ("names", config->names, names, BANGER_GUEST_MAX_NAMES_BYTES, error))
      || (config->boot_token && !check_word ("boot token", config->boot_token, token, 64, error)))
    return FALSE;
  if (config->mtu != 0 && (config->mtu < 576 || config->mtu > 65535))
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS,
                             "guest configuration: mtu %u is not within 576 and 65535", config->mtu);
  return TRUE;
}

/* The same for every start of a VM, different for every VM, and telling nothing about its id; see machine-id(5). */
static char *
machine_id (const char *vm_id)
{
  g_autofree char *text = g_strconcat ("banger machine id of ", vm_id, NULL);
  g_autofree char *digest = g_compute_checksum_for_string (G_CHECKSUM_SHA256, text, -1);
  return g_strndup (digest, 32);
}

char *
banger_guest_config_text (const BangerGuestConfig *config, GError **error)
{
  if (!check_config (config, error))
    return NULL;
  g_autofree char *id = machine_id (config->vm_id);
  g_autofree char *dns = config->dns ? g_strjoinv (" ", (char **)config->dns) : NULL;
  g_autofree char *mtu = config->mtu ? g_strdup_printf ("%u", config->mtu) : NULL;
  const struct {
    const char *key, *value;
  } rows[] = {
    { "hostname", config->hostname },
    { "address", config->address },
    { "gateway", config->gateway },
    { "dns", dns },
    { "mac", config->mac },
    { "mtu", mtu },
    { "root", config->root },
    { "work", config->work },
    { "machine-id", id },
    { "boot-token", config->boot_token },
    { "init", config->init },
    { "names", config->names },
  };
  GString *text = g_string_new (NULL);
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    if (rows[i].value && rows[i].value[0] != '\0')
      g_string_append_printf (text, "%s=%s\n", rows[i].key, rows[i].value);
  return g_string_free (text, FALSE);
}

static gboolean
append_kernel_part (int out_fd, int kernel_dir_fd, GError **error)
{
  struct stat st;
  banger_autofd int fd = openat (kernel_dir_fd, BANGER_FILE_KERNEL_INITRD, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0 || fstat (fd, &st) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_INVALID_KERNEL, errno,
                                   "cannot open the kernel's initramfs; import the kernel again");
  if (!S_ISREG (st.st_mode) || st.st_size % ALIGNMENT != 0)
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL,
                             "the kernel's initramfs is not one that banger made; import the kernel again");
  off_t n = banger_send_file (out_fd, fd, st.st_size);
  return n == st.st_size
         || banger_set_error_errno (error, BANGER_ERROR_FAILED, n < 0 ? errno : EIO,
                                    "cannot copy the kernel's initramfs");
}

static gboolean
append_guest_part (int out_fd, const char *path, GError **error)
{
  banger_autofd int fd = open (path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot open %s; install banger again", path);
  g_autoptr (BangerCpio) cpio = banger_cpio_new (out_fd, error);
  return cpio && banger_cpio_add_fd (cpio, "init", 0755, fd, error) && banger_cpio_close (cpio, error);
}

void
banger_guest_files (const BangerGuestConfig *config, const char *text, BangerGuestFile ret[BANGER_GUEST_FILES])
{
  const BangerGuestFile files[BANGER_GUEST_FILES] = {
    { BANGER_GUEST_CONFIG_FILE, text },
    { BANGER_GUEST_AUTHORIZED_KEYS, config->authorized_keys },
    { BANGER_GUEST_HOST_KEY, config->host_key },
    { BANGER_GUEST_HOST_KEY ".pub", config->host_key_public },
  };
  memcpy (ret, files, sizeof files);
}

static gboolean
append_vm_part (int out_fd, const BangerGuestConfig *config, const char *text, GError **error)
{
  BangerGuestFile files[BANGER_GUEST_FILES];
  banger_guest_files (config, text, files);
  g_autoptr (BangerCpio) cpio = banger_cpio_new (out_fd, error);
  if (!cpio || !banger_cpio_add_dir (cpio, ARCHIVE_PATH (BANGER_GUEST_CONFIG_DIR), 0700, error))
    return FALSE;
  for (gsize i = 0; i < BANGER_GUEST_FILES; i++)
    if (!banger_cpio_add_file (cpio, ARCHIVE_PATH (files[i].path), 0600, files[i].text, strlen (files[i].text), error))
      return FALSE;
  return banger_cpio_close (cpio, error);
}

/* No fsync: it is made anew for every start. */
gboolean
banger_initrd_write_vm (int kernel_dir_fd, int vm_dir_fd, const char *guest_binary_path,
                        const BangerGuestConfig *config, GError **error)
{
  g_autofree char *text = banger_guest_config_text (config, error);
  if (!text)
    return FALSE;
  if (unlinkat (vm_dir_fd, TEMPORARY_NAME, 0) < 0 && errno != ENOENT)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot remove %s", TEMPORARY_NAME);
  banger_autofd int fd = openat (vm_dir_fd, TEMPORARY_NAME, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make %s", TEMPORARY_NAME);

  if (!append_kernel_part (fd, kernel_dir_fd, error) || !append_guest_part (fd, guest_binary_path, error)
      || !append_vm_part (fd, config, text, error))
  {
    unlinkat (vm_dir_fd, TEMPORARY_NAME, 0);
    return FALSE;
  }
  if (renameat (vm_dir_fd, TEMPORARY_NAME, vm_dir_fd, BANGER_FILE_VM_INITRD) == 0)
    return TRUE;
  int errnum = errno;
  unlinkat (vm_dir_fd, TEMPORARY_NAME, 0);
  return banger_set_error_errno (error, BANGER_ERROR_FAILED, errnum, "cannot rename %s", TEMPORARY_NAME);
}

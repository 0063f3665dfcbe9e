/* The rows: what a guest starts with, as an option of kconfig, as a module, and as words of the built kernel.
 * Never follows an offset outside the given bytes. */
#include "intake/kernel-features.h"

#include <string.h>

#include "common/error.h"
#include "intake/unpack.h"

#define CONFIG_BEGIN "IKCFG_ST"
#define CONFIG_END "IKCFG_ED"
#define CONFIG_MAX ((gsize)4 << 20)
#define MAX_WORDS 3

typedef struct {
  const char *what; /* for people */
  const char *option;
  const char *module;           /* NULL: it is never one */
  const char *words[MAX_WORDS]; /* one of them is in every kernel that has it built in, log messages or not */
  const char *warning;          /* NULL: no guest starts without it */
} Feature;

static const Feature features[] = {
  { "initramfs support", "CONFIG_BLK_DEV_INITRD", NULL, { "retain_initrd", "noinitrd", "initramfs_async" }, NULL },
  { "virtio-mmio", "CONFIG_VIRTIO_MMIO", "virtio_mmio", { "virtio-mmio" }, NULL },
  { "virtio disks", "CONFIG_VIRTIO_BLK", "virtio_blk", { "virtio_blk" }, NULL },
  { "virtio network interfaces", "CONFIG_VIRTIO_NET", "virtio_net", { "virtio_net" }, NULL },
  { "ext4", "CONFIG_EXT4_FS", "ext4", { "ext4" }, NULL },
  { "devtmpfs", "CONFIG_DEVTMPFS", NULL, { "devtmpfs" }, NULL },
  { "tmpfs", "CONFIG_TMPFS", NULL, { NULL }, NULL },
  { "unix sockets", "CONFIG_UNIX", NULL, { NULL }, NULL },
  { "vsock",
    "CONFIG_VIRTIO_VSOCKETS",
    "vmw_vsock_virtio_transport",
    { "vmw_vsock_virtio_transport" },
    "the kernel has no vsock (CONFIG_VIRTIO_VSOCKETS): its VMs do not get ready with Firecracker" },
  { "virtio consoles",
    "CONFIG_VIRTIO_CONSOLE",
    "virtio_console",
    { "virtio_console" },
    "the kernel has no virtio consoles (CONFIG_VIRTIO_CONSOLE): its VMs do not get ready with QEMU" },
};

char *
banger_kernel_config (const guint8 *elf, gsize length)
{
  const guint8 *begin = memmem (elf, length, CONFIG_BEGIN, strlen (CONFIG_BEGIN));
  if (!begin)
    return NULL;
  begin += strlen (CONFIG_BEGIN);
  const guint8 *end = memmem (begin, length - (gsize)(begin - elf), CONFIG_END, strlen (CONFIG_END));
  g_autoptr (GBytes) plain = end ? banger_unpack (begin, (gsize)(end - begin), CONFIG_MAX, "the kernel's configuration",
                                                  NULL)
                                 : NULL;
  if (!plain)
    return NULL;
  gsize n;
  const char *data = g_bytes_get_data (plain, &n);
  g_autofree char *text = n > 0 ? g_strndup (data, n) : NULL;
  return text && strstr (text, "CONFIG_") ? g_steal_pointer (&text)
                                          : NULL; /* else it is something else between the marks */
}

char
banger_kernel_config_value (const char *config, const char *option)
{
  gsize length = strlen (option);
  for (const char *at = config; (at = strstr (at, option)); at += length) {
    gboolean begins = at == config || at[-1] == '\n';
    if (begins && at[length] == '=')
      return at[length + 1] == 'y' || at[length + 1] == 'm' ? at[length + 1] : 0;
    if (at - config >= 2 && at[-1] == ' ' && at[-2] == '#' && g_str_has_prefix (at + length, " is not set"))
      return 'n';
  }
  return 'n'; /* what depends on something that is not set is not in the file */
}

static gboolean
has_word (const guint8 *elf, gsize length, const char *word)
{
  return memmem (elf, length, word, strlen (word) + 1) != NULL; /* with its NUL: linkers merge the ends of words only */
}

/* Whether it is proven that the kernel has it neither built in nor as a module that comes along. */
static gboolean
is_missing (const Feature *feature, const guint8 *elf, gsize length, const char *config, BangerHasModule has,
            gpointer data)
{
  if (feature->module && has (data, feature->module))
    return FALSE;
  if (config)
    return banger_kernel_config_value (config, feature->option) != 'y';
  gboolean known = feature->words[0] != NULL;
  for (guint i = 0; i < MAX_WORDS && feature->words[i]; i++)
    known = known && !has_word (elf, length, feature->words[i]);
  return known;
}

gboolean
banger_kernel_features_check (const guint8 *elf, gsize length, const char *config, BangerHasModule has, gpointer data,
                              GPtrArray *warnings, GError **error)
{
  g_autoptr (GString) missing = g_string_new (NULL);
  guint ways = 0; /* to the agent */
  for (gsize i = 0; i < G_N_ELEMENTS (features); i++) {
    const Feature *feature = &features[i];
    gboolean lacks = is_missing (feature, elf, length, config, has, data);
    ways += feature->warning && !lacks;
    if (lacks && feature->warning)
      g_ptr_array_add (warnings, g_strdup (feature->warning));
    else if (lacks)
      g_string_append_printf (missing, "%s%s (%s)", missing->len > 0 ? ", " : "", feature->what, feature->option);
  }
  if (missing->len == 0 && ways == 0)
    g_string_append (missing, "vsock or virtio consoles (CONFIG_VIRTIO_VSOCKETS, CONFIG_VIRTIO_CONSOLE)");
  if (missing->len == 0)
    return TRUE;
  return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL,
                           "no guest can start with this kernel: it has no %s, neither built in nor as a module that "
                           "comes along%s",
                           missing->str, config ? ", as its configuration says" : "");
}

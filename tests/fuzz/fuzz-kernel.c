/* Kernels of strangers: a bzImage, lzop's blocks, an ELF with a configuration in it.
 * Run as replay.c says.
 * Never opens anything. */
#include <glib.h>
#include <string.h>

#include "fuzz.h"
#include "intake/bzimage.h"
#include "intake/kernel-elf.h"
#include "intake/kernel-features.h"
#include "intake/lzo.h"

#define MAX_CONTENT (1u << 20)

static gboolean
has_none (gpointer data, const char *name)
{
  return FALSE;
}

static void
look (const uint8_t *data, size_t size)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GPtrArray) warnings = g_ptr_array_new_with_free_func (g_free);
  g_autofree char *config = banger_kernel_config (data, size);
  g_autofree char *version = banger_elf_kernel_version (data, size);
  g_auto (BangerModuleInfo) info = { 0 };
  banger_elf_check_kernel (data, size, NULL);
  banger_elf_read_module (data, size, &info, NULL);
  if (!banger_kernel_features_check (data, size, config, has_none, NULL, warnings, &error))
    g_assert_nonnull (error);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  guint8 block[512];
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) image = banger_bzimage_extract (data, size, NULL);
  g_autoptr (GBytes) content = banger_lzo_unpack (data, size, MAX_CONTENT, &error);
  if (content)
    g_assert_cmpuint (g_bytes_get_size (content), <=, MAX_CONTENT);
  else
    g_assert_nonnull (error);
  for (size_t length = 0; length <= sizeof block; length += 64)
    banger_lzo_block (data, size, block, length);
  look (data, size);
  return 0;
}

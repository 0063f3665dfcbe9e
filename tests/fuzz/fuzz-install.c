/* install.toml, and the reader of TOML below it.
 * Run as replay.c says.
 * Never lets a root owner or a relative path through. */
#include <glib.h>

#include "common/install.h"
#include "common/validate.h"
#include "fuzz.h"

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (BangerInstall) install = banger_install_parse ((const char *)data, size, "fuzz", &error);
  g_assert_true ((install == NULL) == (error != NULL));
  if (!install)
    return 0;
  g_assert_true (install->owner_uid > 0 && install->owner_uid != (uid_t)-1 && install->owner_gid > 0);
  g_assert_true (install->state_dir[0] == '/' && install->runtime_dir[0] == '/' && install->owner_home[0] == '/');
  g_assert_true (banger_bridge_name_check (install->bridge, NULL));
  g_assert_true (install->max_vms > 0 && install->max_pending > 0);
  return 0;
}

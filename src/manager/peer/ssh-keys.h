/* Keys for ssh into guests: the owner's client key, each VM's host key, known_hosts (no trust on first use).
 * Never touches ~/.ssh: everything is in the owner's banger folder. */
#pragma once

#include <gio/gio.h>

typedef struct {
  char *dir;           /* <config>/banger/ssh */
  char *identity_file; /* <dir>/id_ed25519 */
  char *known_hosts_file;
} BangerSshPaths;

/** banger_ssh_paths_new: @config_dir: $XDG_CONFIG_HOME or ~/.config (g_get_user_config_dir()). */
BangerSshPaths *banger_ssh_paths_new (const char *config_dir);
void banger_ssh_paths_free (BangerSshPaths *paths);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerSshPaths, banger_ssh_paths_free)

#define BANGER_FILE_VM_HOST_KEY "ssh_host_ed25519_key" /* and .pub, in the VM's folder */

/**
 * banger_ssh_prepare:
 * Makes what is missing of: the folder (0700), the client key, the host key in @vm_dir. Runs ssh-keygen(1), in a worker.
 * Two at once are safe: a key appears by link(2), the first wins.
 */
gboolean banger_ssh_prepare (const BangerSshPaths *paths, const char *vm_dir, GCancellable *cancellable,
                             GError **error);

/** banger_ssh_host_key_alias: Returns: (transfer full): "banger-<id>". */
char *banger_ssh_host_key_alias (const char *vm_id);

/** banger_ssh_known_hosts_set: the one line of @alias becomes "@alias @public_key @folder"; %NULL @public_key removes it.
 * Lines of VMs whose folder beside @folder is gone go with it. Written whole, one at a time, in a worker. */
gboolean banger_ssh_known_hosts_set (const BangerSshPaths *paths, const char *alias, const char *folder,
                                     const char *public_key, GError **error);

/**
 * banger_ssh_argv:
 * Returns: (transfer full): an ssh(1) command line up to and with "@user@@address": no files of the user, no prompt,
 * no agent, strict host key. Append the words of the command.
 */
GPtrArray *banger_ssh_argv (const BangerSshPaths *paths, const char *alias, const char *user, const char *address);

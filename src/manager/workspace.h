/* Moves a git work tree into a guest: tracked files plus untracked ones that are not ignored, as a tar through ssh.
 * With it goes the repository itself as far as a guest can use it: objects, refs, HEAD, index, ignore rules; not its
 * configuration, hooks and logs, and nothing at all if its objects are borrowed from another one (alternates) or
 * `.git` leads to a repository that does not know of this tree. Called by vm.c for ImportWorkspace.
 * Never runs a program that the repository configures; never follows a link out of the tree. */
#pragma once

#include <gio/gio.h>

typedef struct BangerWorkspace BangerWorkspace;

/**
 * banger_workspace_open:
 * @path: absolute, a work tree or anything inside one. A bare repository, a repository of another user or no
 * repository: %BANGER_ERROR_INVALID_PATH. Cheap: nothing is listed yet.
 */
BangerWorkspace *banger_workspace_open (const char *path, GError **error);
void banger_workspace_free (BangerWorkspace *workspace);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerWorkspace, banger_workspace_free)

/** banger_workspace_name: Returns: (transfer none): the name of the top folder, which it has below /root in the guest.
 */
const char *banger_workspace_name (BangerWorkspace *workspace);
/** banger_workspace_root: Returns: (transfer none): the top folder, absolute, without links. */
const char *banger_workspace_root (BangerWorkspace *workspace);

/**
 * banger_workspace_list:
 * Returns: (transfer full): sorted paths relative to the top, as bytes; files of checked-out submodules and of nested
 * repositories included (each by its own ignore rules), directories only where a submodule is not checked out (they end
 * in '/'). Thread-safe for one thread at a time.
 */
GPtrArray *banger_workspace_list (BangerWorkspace *workspace, GCancellable *cancellable, GError **error);

/**
 * banger_workspace_write_tar:
 * Writes the listed files that still exist to @fd (a socket: SIGPIPE is avoided) as a GNU tar archive with the top
 * folder's name as first component; owner root, permission bits as they are, links as links, everything else left out.
 * @ret_bytes: atomically raised while it writes; @progress 0..1 by files. Blocks: call in a worker thread.
 */
gboolean banger_workspace_write_tar (BangerWorkspace *workspace, GPtrArray *files, int fd, guint64 *ret_bytes,
                                     void (*progress) (double, gpointer), gpointer progress_data,
                                     GCancellable *cancellable, GError **error);

/**
 * banger_workspace_send_async:
 * Lists, archives and feeds `tar -x` at the other end of @ssh_argv (the words before the command). Fails when the guest
 * takes no data for a minute. @progress: called in the worker thread.
 */
void banger_workspace_send_async (const char *path, const char *const *ssh_argv, void (*progress) (double, gpointer),
                                  gpointer progress_data, GCancellable *cancellable, GAsyncReadyCallback callback,
                                  gpointer user_data);
/** banger_workspace_send_finish: Returns: the number of files sent, -1 on error. */
gssize banger_workspace_send_finish (GAsyncResult *result, GError **error);

/* Moves a git work tree into a guest: tracked files plus untracked ones that are not ignored, as a tar that a receiver
 * in the guest unpacks (receiver.h).
 * With it goes the repository itself as far as a guest can use it: objects, refs, HEAD, index, ignore rules and those
 * settings that decide what is a change; not its hooks and logs, nor any setting that names a program or a place.
 * What a repository is, is what the host's git says, in a cage (git-cage.h). Never follows a link out of the tree;
 * never reads another repository than the one that the tree verifiably belongs to: what stays behind is said. */
#pragma once

#include <gio/gio.h>

#include "manager/workspace/receiver.h"

typedef struct BangerWorkspace BangerWorkspace;

/* Of a depth: BANGER_WORKSPACE_DEPTH generations where there are more and that can be, else all. */
#define BANGER_WORKSPACE_DEPTH_UNSAID G_MAXUINT
#define BANGER_WORKSPACE_DEPTH 50

/* What is asked for besides; %NULL: nothing. */
typedef struct {
  gboolean tracked_only;
  const char *branch; /* one that the guest's copy is on, new there; %NULL: none */
  const char *from;   /* with it: where it begins; %NULL: HEAD */
  guint depth;        /* generations of commits that go along of the top repository; 0: all */
  gboolean no_git;    /* a plain folder: all files of it and nothing of git, with none of the above */
} BangerWorkspaceWish;

/**
 * banger_workspace_open:
 * @path: absolute, a folder in a work tree, or any with no_git. Lists and checks everything: what is not in a work tree, a bare repository,
 * one that git does not trust, a file that cannot be read: %BANGER_ERROR_INVALID_PATH.
 * What is wished for and cannot be: %BANGER_ERROR_INVALID_ARGS.
 * Blocks, for ever on a mount that hangs: call it in a thread that nothing waits for.
 */
BangerWorkspace *banger_workspace_open (const char *path, const BangerWorkspaceWish *wish, GCancellable *cancellable,
                                        GError **error);
/** banger_workspace_prepare: what takes time before the first byte of an archive can go. Blocks likewise. */
gboolean banger_workspace_prepare (BangerWorkspace *workspace, GCancellable *cancellable, GError **error);
void banger_workspace_free (BangerWorkspace *workspace);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerWorkspace, banger_workspace_free)

/** banger_workspace_name: Returns: (transfer none): what the top folder is called below /root in the guest: its name,
 * without the dots that it begins with (`.ssh` must not become the guest's). */
const char *banger_workspace_name (BangerWorkspace *workspace);
/** banger_workspace_folder: Returns: (transfer none): where the opened folder is in the guest, absolute, as bytes. */
const char *banger_workspace_folder (BangerWorkspace *workspace);
/** banger_workspace_root: Returns: (transfer none): the top folder, absolute, without links. */
const char *banger_workspace_root (BangerWorkspace *workspace);
/** banger_workspace_commit: Returns: (transfer none): id of HEAD when it was opened, "" without one. */
const char *banger_workspace_commit (BangerWorkspace *workspace);

/**
 * banger_workspace_files:
 * Returns: (transfer none): sorted paths relative to the top, as bytes: what `git ls-files -co --exclude-standard`
 * lists; files of checked-out submodules and of nested repositories included (each by its own ignore rules),
 * directories only where a submodule is not checked out (they end in '/').
 */
GPtrArray *banger_workspace_files (BangerWorkspace *workspace);
/** banger_workspace_present: Returns: (transfer none): those of them that are files or links, each with a NUL. */
GByteArray *banger_workspace_present (BangerWorkspace *workspace);
/** banger_workspace_notes: Returns: (transfer none): one line of UTF-8 for each thing that stays behind, and why;
 * how many files go along that git does not track. */
GPtrArray *banger_workspace_notes (BangerWorkspace *workspace);

/**
 * banger_workspace_write_tar:
 * Writes the listed files that still exist to @fd (a socket: SIGPIPE is avoided) as a GNU tar archive with the top
 * folder's name as first component; owner root, permission bits as they are, links as links, everything else left out.
 * @ret_bytes: atomically raised while it writes; @progress 0..1 by files. Blocks: call in a worker thread.
 */
gboolean banger_workspace_write_tar (BangerWorkspace *workspace, int fd, guint64 *ret_bytes,
                                     void (*progress) (double, gpointer), gpointer progress_data,
                                     GCancellable *cancellable, GError **error);

typedef struct {
  char *folder;     /* see banger_workspace_folder() */
  GPtrArray *notes; /* char * */
} BangerWorkspaceReport;
void banger_workspace_report_free (BangerWorkspaceReport *report);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerWorkspaceReport, banger_workspace_report_free)

/**
 * banger_workspace_check_async:
 * Whether @path can be sent, before anything is made for it. Ends within a minute, also where a mount hangs.
 * @list: (transfer full): a file that gets the names of what would go, each with a NUL; -1: none.
 */
void banger_workspace_check_async (const char *path, const BangerWorkspaceWish *wish, int list,
                                   GAsyncReadyCallback callback, gpointer user_data);
BangerWorkspaceReport *banger_workspace_check_finish (GAsyncResult *result, GError **error);

/**
 * banger_workspace_send_async:
 * Lists, archives and feeds `tar -x` that @receiver (transfer full) starts in the guest. Fails when the guest takes no
 * data for a minute; ends at once with @cancellable, whatever the disk does. @progress: called in the worker
 * thread, never after the end.
 */
void banger_workspace_send_async (const char *path, const BangerWorkspaceWish *wish, BangerReceiver *receiver,
                                  void (*progress) (double, gpointer), gpointer progress_data,
                                  GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data);
/** banger_workspace_send_finish: @ret_notes: (transfer full) (optional): as of banger_workspace_notes().
 * Returns: the number of files sent, -1 on error. */
gssize banger_workspace_send_finish (GAsyncResult *result, GPtrArray **ret_notes, GError **error);
/** banger_workspace_send_get: Returns: (transfer none): what was sent, of one that succeeded. */
BangerWorkspace *banger_workspace_send_get (GAsyncResult *result);

/* What the files of the workspace share.
 * Never included from elsewhere. */
#pragma once

#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>

#include "common/git-cage.h"
#include "manager/workspace/workspace.h"

#define WORKSPACE_MAX_LIST ((gsize)512 << 20) /* bytes of names, from git */

/* One repository of the tree: that of the top, of a submodule, of a folder that is a repository of its own. */
typedef struct {
  char *prefix;               /* "" or "lib/zlib/" */
  char *git_dir, *common_dir; /* as git has them; NULL: nothing of it goes along */
  char *worktree;             /* core.worktree of its own configuration, NULL: none */
  gboolean partial;           /* objects are missing, by choice */
  char *config;               /* what the guest gets */
  char *attributes;           /* the owner's own for all repositories, as text; NULL: none */
  guint depth;                /* of its history, that goes along; 0: all */
  gboolean unsaid;            /* nobody asked for that */
  GPtrArray *files;           /* WorkspaceGitFile */
  char *unreadable;           /* one that the owner may not read, below its git folder; NULL: none */
} WorkspaceRepository;

typedef struct WorkspaceHistory WorkspaceHistory;

struct BangerWorkspace {
  char *root, *name, *prefix, *folder; /* prefix: of the opened folder, below the top */
  int root_fd;
  GPtrArray *files, *notes;
  GByteArray *present;
  GByteArray *base;  /* names, each with a NUL: what is not as HEAD has it */
  char *commit;      /* id of HEAD; NULL: there is none */
  char *head, *tree; /* ids of HEAD and its tree, if that is all; NULL: the guest's git is to make the base */
  GPtrArray *repositories;
  gboolean tracked_only, plain; /* plain: there is no repository */
  WorkspaceHistory *history;    /* what goes along of the top one instead of all; NULL: nothing yet */
  guint untracked;
  char *branch, *from; /* from: a commit; NULL: HEAD */
};

/* An archive on its way: begun, the files, each repository, the end; cleared whatever became of it. */
typedef struct {
  BangerWorkspace *workspace;
  int socket_fd;
  guint64 *bytes;
  GCancellable *cancellable;

  /* tar.c's own: */
  struct archive *archive, *sparse; /* the second for files with holes: a format of its own */
  GByteArray *pending;
  char *folder;       /* the last one that was named */
  gboolean abandoned; /* what is still written is thrown away */
} WorkspaceTar;

void workspace_note (BangerWorkspace *workspace, const char *format, ...) G_GNUC_PRINTF (2, 3);

gboolean workspace_tar_begin (WorkspaceTar *tar, GError **error);
gboolean workspace_tar_files (WorkspaceTar *tar, void (*progress) (double, gpointer), gpointer progress_data,
                              GError **error);
gboolean workspace_tar_end (WorkspaceTar *tar, GError **error);
void workspace_tar_clear (WorkspaceTar *tar);

/* @path: below the top folder, what it is called in the archive. */
gboolean workspace_tar_fd (WorkspaceTar *tar, int fd, const struct stat *st, const char *path, GError **error);
gboolean workspace_tar_bytes (WorkspaceTar *tar, const void *bytes, gsize length, const char *path, GError **error);
gboolean workspace_tar_text (WorkspaceTar *tar, const char *text, const char *path, GError **error);
gboolean workspace_tar_folder (WorkspaceTar *tar, const char *path, GError **error);

void workspace_base_add (BangerWorkspace *workspace, const char *names, gsize length);
/** workspace_base_find: what of the top repository is not as HEAD has it, beside what was added. */
gboolean workspace_base_find (BangerWorkspace *workspace, GCancellable *cancellable, GError **error);
gboolean workspace_base_send (WorkspaceTar *tar, GError **error);
/** workspace_base_command: Returns: (transfer full): what makes the branch that is wished for and the base in the guest, in
 * the folder above. It ends the shell with WORKSPACE_NO_BRANCH if there can be none, and succeeds else. */
char *workspace_base_command (BangerWorkspace *workspace, const char *quoted_name);
#define WORKSPACE_NO_BRANCH "97"
#define WORKSPACE_NO_COMMAND ":" /* there is nothing to do */

/** workspace_branch_find: whether what is wished for can be. */
gboolean workspace_branch_find (BangerWorkspace *workspace, const BangerWorkspaceWish *wish, GCancellable *cancellable,
                                GError **error);

/** workspace_plain_list: all files below the top, sorted. */
gboolean workspace_plain_list (BangerWorkspace *workspace, GCancellable *cancellable, GError **error);

/** workspace_history_make: what goes along instead of all objects and refs, if that is wished for. Once. */
gboolean workspace_history_make (BangerWorkspace *workspace, GCancellable *cancellable, GError **error);
/** workspace_history_replaces: whether @path, below .git, does not go along then. */
gboolean workspace_history_replaces (const char *path);
gboolean workspace_history_send (WorkspaceTar *tar, GError **error);
void workspace_history_free (WorkspaceHistory *history);

void workspace_repository_free (gpointer repository);
/** workspace_repository_config: @list: `git config --list -z --show-scope`. Sets config and worktree. */
void workspace_repository_config (WorkspaceRepository *repository, const char *list, gsize length);
/** workspace_repository_find: lists what of the repository itself goes along. If nothing does, a note says why. */
gboolean workspace_repository_find (BangerWorkspace *workspace, WorkspaceRepository *repository,
                                    GCancellable *cancellable, GError **error);
/** workspace_repository_send: what was found. */
gboolean workspace_repository_send (WorkspaceTar *tar, WorkspaceRepository *repository, GError **error);

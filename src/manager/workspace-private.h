/* What the files of the workspace share.
 * Included by workspace.c, workspace-tar.c and workspace-git.c.
 * Never included from elsewhere. */
#pragma once

#include <archive.h>
#include <archive_entry.h>
#include <git2.h>
#include <sys/stat.h>

#include "manager/workspace.h"

struct BangerWorkspace {
  char *root, *name;
  git_repository *repository;
};

/* An archive on its way. */
typedef struct {
  BangerWorkspace *workspace;
  struct archive *archive;
  int root_fd, socket_fd;
  guint64 *bytes;
  GCancellable *cancellable;
  gboolean abandoned; /* what is still written is thrown away */
} WorkspaceTar;

/* @path: below the top folder, what it is called in the archive. */
gboolean workspace_tar_fd (WorkspaceTar *tar, int fd, const struct stat *st, const char *path, GError **error);
gboolean workspace_tar_text (WorkspaceTar *tar, const char *text, const char *path, GError **error);

/** workspace_tar_git: the repository itself, as far as a guest can use it. See workspace.h. */
gboolean workspace_tar_git (WorkspaceTar *tar, GError **error);

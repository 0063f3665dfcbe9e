/* A patch on its way into a work tree: apply-copy.c copies what it names into a folder of ours, where git applies it, and
 * apply-commit.c puts what became of that in place, and apply-journal.c undoes what was cut off. Called by workspace-apply.c, and by workspace-status.c for
 * what it can tell of a work tree without that.
 * Never seen by others. */
#pragma once

#include <glib.h>
#include <sys/stat.h>

/* What the patch names, and perhaps changes. */
typedef struct {
  char *path;         /* below the top */
  gboolean there;     /* in the work tree, before */
  struct stat before; /* if so */
  gboolean goes;      /* what was there is taken away */
  gboolean comes;     /* something is put there */
  /* apply-commit.c's own: */
  char *kept; /* what is put there as long as it is elsewhere, below the top; likewise what was there */
  char *taken;
  gboolean placed;
} BangerTarget;

typedef struct {
  char *top;
  int top_fd;
  char *scratch; /* a folder of ours, with a repository in it */
  int scratch_fd;
  int git_fd;                 /* the repository's own folder */
  int journal_fd;             /* apply-journal.c's, locked */
  struct stat git_folders[2]; /* of the work tree: nothing is written there */
  GPtrArray *targets;         /* BangerTarget, sorted by path */
  GHashTable *in_the_way;     /* paths of links and files that names go through as if they were folders */
  guint64 copied;             /* bytes */
} BangerApply;

#define BANGER_APPLY_NONE                                                                                              \
  {                                                                                                                    \
    .top_fd = -1, .scratch_fd = -1, .git_fd = -1, .journal_fd = -1                                                     \
  }

void banger_target_free (gpointer target);

/** banger_apply_begin: opens the work tree @top, and makes the folder of ours. Signals have to be blocked. */
gboolean banger_apply_begin (BangerApply *apply, const char *top, GError **error);
void banger_apply_clear (BangerApply *apply);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (BangerApply, banger_apply_clear)
/** banger_apply_text: for @in of banger_apply_git(), in a file without a name: git, taken over, may have moved the folder's.
 * -1: @error. */
int banger_apply_text (const GString *text, GError **error);
/** banger_apply_git: runs git in the folder. @in: a file, read from its beginning; -1: none. @said: as of
 * banger_git_run_within(). */
GString *banger_apply_git (BangerApply *apply, const char *const *words, int in, GString *said, GError **error);

/** banger_apply_parent: Returns: the folder that @path is in, below @root_fd, through no link; -1 with errno.
 * @ret_name: (transfer none): the last component. */
int banger_apply_parent (int root_fd, const char *path, const char **ret_name);
/** banger_apply_copy: bytes of a file, from where it is to its end. Returns: %FALSE with errno. */
gboolean banger_apply_copy (int in, int out);
/** banger_apply_check_name: whether @path is one below a work tree, and nothing of git's own. */
gboolean banger_apply_check_name (const char *path, GError **error);
/** banger_apply_move: from @from to @to, both below the top, where nothing is yet. Returns: %FALSE with errno. */
gboolean banger_apply_move (const BangerApply *apply, const char *from, const char *to);
/** banger_apply_tell_lost: that @path is @taken now. */
void banger_apply_tell_lost (const BangerApply *apply, const char *path, const char *taken);

/** banger_apply_take: adds the NUL-ended names that are not known yet as targets, and copies those that are there. What no
 * patch of ours would name is an error. */
gboolean banger_apply_take (BangerApply *apply, GHashTable *names, GError **error);
/** banger_apply_compare: finds out what was changed in the folder of ours. Returns: how many, -1 on error. */
gssize banger_apply_compare (BangerApply *apply, GError **error);
/** banger_apply_commit: all of it, or nothing. */
gboolean banger_apply_commit (BangerApply *apply, GError **error);

/** banger_apply_fault: SIGKILL to this process at its N-th call, if $BANGER_FAULT is "apply-N"; only with -Dfault-hooks. */
void banger_apply_fault (void);

/** banger_apply_journal_open: keeps others from the tree, and takes back what one who was killed left in it. */
gboolean banger_apply_journal_open (BangerApply *apply, GError **error);
/** banger_apply_journal_begin: before the folder @stage is made. */
gboolean banger_apply_journal_begin (BangerApply *apply, const char *stage, GError **error);
/** banger_apply_journal_write: before the first file is moved. */
gboolean banger_apply_journal_write (BangerApply *apply, GError **error);
/** banger_apply_journal_end: all is done, or undone: removes the stage. @keep: leaves it to the user. */
void banger_apply_journal_end (BangerApply *apply, const char *stage, gboolean keep);
void banger_apply_journal_close (BangerApply *apply);

/* What of a git work tree goes into a guest, and what never does.
 * Run by meson test.
 * Never touches a repository but those it makes in a temporary folder. */
#include "manager/workspace/workspace.h"

#include <archive.h>
#include <archive_entry.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"

typedef struct {
  char *top, *repo;
} World;

static void
run (const char *folder, const char *command)
{
  const char *argv[] = { "sh", "-ec", command, NULL };
  g_auto (GStrv) env = g_get_environ ();
  env = g_environ_setenv (env, "GIT_CONFIG_GLOBAL", "/dev/null", TRUE);
  env = g_environ_setenv (env, "GIT_CONFIG_NOSYSTEM", "1", TRUE);
  for (const char *const *who = (const char *const[]){ "GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL",
                                                       "GIT_COMMITTER_EMAIL", NULL };
       *who; who++)
    env = g_environ_setenv (env, *who, "t", TRUE);
  int status = -1;
  g_autoptr (GError) error = NULL;
  g_spawn_sync (folder, (char **)argv, env, G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL, NULL,
                &status, &error);
  g_assert_no_error (error);
  g_assert_cmpint (status, ==, 0);
}

static void
world_up (World *world, gconstpointer data)
{
  g_autofree char *made = g_dir_make_tmp ("workspace-XXXXXX", NULL);
  world->top = realpath (made, NULL);
  world->repo = g_build_filename (world->top, "repo", NULL);
  run (world->top, "mkdir repo outside; echo secret > outside/key; cd repo; git init -q -b main .; mkdir sub;"
                   "echo one > a; echo two > sub/b; printf '#!/bin/sh\\n' > run; chmod 755 run; ln -s a link;"
                   "printf '*.o\\nbuild/\\n' > .gitignore; echo gone > deleted; git add .; git commit -qm x");
}

static void
world_down (World *world, gconstpointer data)
{
  run ("/", "true");
  const char *argv[] = { "rm", "-rf", "--", world->top, NULL };
  g_assert_true (g_spawn_sync (NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL));
  free (world->top);
  g_free (world->repo);
}

static char *
list (const char *path)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (BangerWorkspace) workspace = banger_workspace_open (path, NULL, NULL, &error);
  g_assert_no_error (error);
  GPtrArray *files = banger_workspace_files (workspace);
  g_ptr_array_add (files, NULL);
  return g_strjoinv (" ", (char **)files->pdata);
}

static void
test_list (World *world, gconstpointer data)
{
  run (world->repo, "rm deleted; echo n > new; mkdir -p build fresh; echo x > build/y; echo x > z.o; echo f > fresh/f");
  g_autofree char *files = list (world->repo);
  g_assert_cmpstr (files, ==, ".gitignore a deleted fresh/f link new run sub/b");
  g_autofree char *sub = g_build_filename (world->repo, "sub", NULL);
  g_autofree char *inside = list (sub);
  g_assert_cmpstr (inside, ==, files);
  g_autoptr (BangerWorkspace) workspace = banger_workspace_open (sub, NULL, NULL, NULL);
  g_assert_cmpstr (banger_workspace_name (workspace), ==, "repo");
  g_assert_cmpstr (banger_workspace_root (workspace), ==, world->repo);
}

static void
refused (const char *path)
{
  g_autoptr (GError) error = NULL;
  g_assert_null (banger_workspace_open (path, NULL, NULL, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_PATH);
}

static void
test_refused (World *world, gconstpointer data)
{
  g_autofree char *outside = g_build_filename (world->top, "outside", NULL);
  g_autofree char *bare = g_build_filename (world->top, "bare", NULL);
  refused (outside);
  refused ("relative");
  refused ("/does/not/exist");
  run (world->top, "git init -q --bare bare");
  refused (bare);
}

/* A repository that says its files are elsewhere would hand that place to the guest. */
static void
test_core_worktree (World *world, gconstpointer data)
{
  run (world->repo, "git config core.worktree ../../outside");
  refused (world->repo);
}

static void
test_nested (World *world, gconstpointer data)
{
  run (world->top, "mkdir lib; cd lib; git init -q -b main .; echo l > lib.c; echo '*.tmp' > .gitignore; git add .;"
                   "git commit -qm l");
  run (world->repo, "git -c protocol.file.allow=always submodule -q add ../lib mod; touch mod/x.tmp; echo u > mod/u;"
                    "mkdir -p inner; cd inner; git init -q -b main .; echo i > i; touch seen.o");
  g_autofree char *files = list (world->repo);
  g_assert_cmpstr (
      files, ==, ".gitignore .gitmodules a deleted inner/i inner/seen.o link mod/.gitignore mod/lib.c mod/u run sub/b");
  run (world->repo, "git submodule -q deinit -f mod");
  g_autofree char *bare = list (world->repo);
  g_assert_nonnull (strstr (bare, " mod/ "));
}

/* Neither filters nor fsmonitor nor any other program of the repository's configuration runs. */
static void
test_runs_nothing (World *world, gconstpointer data)
{
  run (world->repo,
       "printf '#!/bin/sh\\ntouch ../RAN\\ncat\\n' > ../evil; chmod 755 ../evil;"
       "git config filter.e.clean \"$PWD/../evil\"; git config filter.e.process \"$PWD/../evil\";"
       "git config core.fsmonitor \"$PWD/../evil\"; git config core.hooksPath \"$PWD/..\";"
       "git config diff.external \"$PWD/../evil\"; echo '* filter=e diff=e' > .gitattributes; echo more >> a");
  g_autofree char *files = list (world->repo);
  g_assert_nonnull (strstr (files, ".gitattributes"));
  g_autofree char *ran = g_build_filename (world->top, "RAN", NULL);
  g_assert_false (g_file_test (ran, G_FILE_TEST_EXISTS));
}

typedef struct {
  int fd;
  GString *story;
} Reader;

/* "path[mode]=content " or "path->target " of everything in the stream. */
static gpointer
read_tar (gpointer data)
{
  Reader *reader = data;
  struct archive *archive = archive_read_new ();
  archive_read_support_format_tar (archive);
  g_assert_cmpint (archive_read_open_fd (archive, reader->fd, 10240), ==, ARCHIVE_OK);
  struct archive_entry *entry;
  while (archive_read_next_header (archive, &entry) == ARCHIVE_OK) {
    if (strstr (archive_entry_pathname (entry), "/.git/"))
      continue; /* see unpack() */
    char content[256];
    la_ssize_t n = archive_read_data (archive, content, sizeof content - 1);
    content[MAX (n, 0)] = '\0';
    g_assert_cmpint (archive_entry_uid (entry), ==, 0);
    if (archive_entry_symlink (entry))
      g_string_append_printf (reader->story, "%s->%s ", archive_entry_pathname (entry), archive_entry_symlink (entry));
    else
      g_string_append_printf (reader->story, "%s[%o]=%s ", archive_entry_pathname (entry), archive_entry_perm (entry),
                              g_strstrip (content));
  }
  archive_read_free (archive);
  return NULL;
}

static char *
tar (const char *path)
{
  g_autoptr (BangerWorkspace) workspace = banger_workspace_open (path, NULL, NULL, NULL);
  int pair[2];
  g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
  Reader reader = { pair[0], g_string_new (NULL) };
  GThread *thread = g_thread_new ("reader", read_tar, &reader);
  guint64 bytes = 0;
  g_autoptr (GError) error = NULL;
  g_assert_true (banger_workspace_write_tar (workspace, pair[1], &bytes, NULL, NULL, NULL, &error));
  g_assert_no_error (error);
  close (pair[1]);
  g_thread_join (thread);
  close (pair[0]);
  g_assert_cmpuint (bytes, >, 0);
  return g_string_free (reader.story, FALSE);
}

static void
test_tar (World *world, gconstpointer data)
{
  run (world->repo,
       "umask 022; chmod 644 a .gitignore sub/b; chmod 600 sub/b; chmod 755 . run; rm deleted; mkfifo pipe;"
       "mkdir 'with space'; printf 'n\\303\\244h' > 'with space/n\xc3\xa4h'; chmod 644 with*/*");
  g_autofree char *story = tar (world->repo);
  g_assert_cmpstr (story, ==,
                   "repo/[755]= repo/.gitignore[644]=*.o\nbuild/ repo/a[644]=one repo/link->a repo/run[755]=#!/bin/sh "
                   "repo/sub/[755]= "
                   "repo/sub/b[600]=two repo/with space/[755]= repo/with space/n\xc3\xa4h[644]=n\xc3\xa4h ");
}

/* A tracked folder that was replaced by a link to a place outside: nothing of that place goes. */
static void
test_link_out (World *world, gconstpointer data)
{
  run (world->repo, "mkdir dir; echo t > dir/key; git add dir; git commit -qm d; rm -r dir; ln -s ../outside dir;"
                    "ln -s /etc/shadow abs");
  g_autofree char *story = tar (world->repo);
  g_assert_null (strstr (story, "secret"));
  g_assert_null (strstr (story, "dir/key"));
  g_assert_nonnull (strstr (story, "repo/dir->../outside "));
  g_assert_nonnull (strstr (story, "repo/abs->/etc/shadow "));
}

/* What a guest gets, as files below <top>/out. */
static void
unpack (World *world, const char *path)
{
  g_autoptr (BangerWorkspace) workspace = banger_workspace_open (path, NULL, NULL, NULL);
  int pair[2];
  g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
  run (world->top, "rm -rf out; mkdir out");
  g_autofree char *out = g_build_filename (world->top, "out", NULL);
  g_autoptr (GSubprocessLauncher) launcher = g_subprocess_launcher_new (G_SUBPROCESS_FLAGS_NONE);
  g_subprocess_launcher_take_stdin_fd (launcher, pair[0]);
  g_autoptr (GSubprocess) child = g_subprocess_launcher_spawn (launcher, NULL, "tar", "-x", "--no-same-owner", "-C",
                                                               out, NULL);
  guint64 bytes = 0;
  g_assert_true (banger_workspace_write_tar (workspace, pair[1], &bytes, NULL, NULL, NULL, NULL));
  close (pair[1]);
  g_assert_true (g_subprocess_wait_check (child, NULL, NULL));
}

static void
test_git (World *world, gconstpointer data)
{
  run (world->repo, "git config http.extraheader 'AUTHORIZATION: secret'; echo 'touch RAN' > .git/hooks/post-commit;"
                    "chmod 755 .git/hooks/post-commit; git tag v1; git gc -q; echo changed > a; echo u > untracked;"
                    "rm deleted; echo hidden >> .git/info/exclude; touch hidden");
  unpack (world, world->repo);
  run (world->top, "cd out/repo; test \"$(git log --format=%s v1)\" = x; git fsck --strict; git branch | grep -q main;"
                   "test \"$(git status --porcelain)\" = \"$(cd ../../repo; git status --porcelain)\";"
                   "test -n \"$(git status --porcelain)\"; ! grep -r secret .git; ! test -e .git/hooks;"
                   "! test -e .git/logs; git commit -qam y; ! test -e RAN");
}

static void
test_git_worktree (World *world, gconstpointer data)
{
  run (world->repo, "git worktree add -q ../linked -b side");
  g_autofree char *linked = g_build_filename (world->top, "linked", NULL);
  unpack (world, linked);
  run (world->top,
       "cd out/linked; test \"$(git branch --show-current)\" = side; test -z \"$(git status --porcelain)\"");
}

/* A folder that says a private repository is its own does not take it along. */
static void
test_git_of_others (World *world, gconstpointer data)
{
  run (world->top, "mkdir trap; echo \"gitdir: $PWD/repo/.git\" > trap/.git");
  g_autofree char *trap = g_build_filename (world->top, "trap", NULL);
  unpack (world, trap);
  run (world->top, "test -d out/trap; ! test -e out/trap/.git");
  run (world->top, "git clone -q --shared repo borrower");
  g_autofree char *borrower = g_build_filename (world->top, "borrower", NULL);
  unpack (world, borrower);
  run (world->top, "test -f out/borrower/a; ! test -e out/borrower/.git");
}

static void
test_empty (World *world, gconstpointer data)
{
  run (world->top, "mkdir bare; cd bare; git init -q -b main .; chmod 755 .");
  g_autofree char *empty = g_build_filename (world->top, "bare", NULL);
  g_autofree char *story = tar (empty);
  g_assert_cmpstr (story, ==, "bare/[755]= ");
}

typedef struct {
  gboolean done;
  GError *error;
} Sent;

static void
on_sent (GObject *source, GAsyncResult *result, gpointer user_data)
{
  Sent *sent = user_data;
  banger_workspace_send_finish (result, NULL, &sent->error);
  sent->done = TRUE;
}

static Sent
send_to (World *world, const char *guest)
{
  const char *argv[] = { "sh", "-c", guest, NULL };
  Sent sent = { 0 };
  banger_workspace_send_async (world->repo, NULL, banger_receiver_new_program (argv), NULL, NULL, NULL, on_sent, &sent);
  while (!sent.done)
    g_main_context_iteration (NULL, TRUE);
  return sent;
}

static guint64
resident_bytes (void)
{
  g_autofree char *text = NULL;
  g_assert_true (g_file_get_contents ("/proc/self/statm", &text, NULL, NULL));
  g_auto (GStrv) words = g_strsplit (text, " ", 3);
  return g_ascii_strtoull (words[1], NULL, 10) * (guint64)sysconf (_SC_PAGESIZE);
}

static void
test_send (World *world, gconstpointer data)
{
  Sent sent = send_to (world, "cat >/dev/null; echo a warning >&2");
  g_assert_no_error (sent.error);
  sent = send_to (world, "echo not here; echo no room >&2; exit 2");
  g_assert_error (sent.error, BANGER_ERROR, BANGER_ERROR_GUEST_FAILED);
  g_assert_cmpstr (sent.error->message, ==, "workspace import: tar in the guest failed: no room");
  g_clear_error (&sent.error);
}

/* A hostile guest that talks without end: its first words are kept, nothing else. */
static void
test_talkative_guest (World *world, gconstpointer data)
{
  guint64 before = resident_bytes ();
  Sent sent = send_to (world, "cat >/dev/null; echo first words >&2; yes | head -c 200000000 >&2; exit 2");
  g_assert_error (sent.error, BANGER_ERROR, BANGER_ERROR_GUEST_FAILED);
  g_assert_nonnull (strstr (sent.error->message, "failed: first words"));
  g_clear_error (&sent.error);
  g_assert_cmpuint (resident_bytes (), <, before + (64 << 20));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
#define ADD(name, func) g_test_add ("/workspace/" name, World, NULL, world_up, func, world_down)
  ADD ("list", test_list);
  ADD ("refused", test_refused);
  ADD ("core-worktree", test_core_worktree);
  ADD ("nested", test_nested);
  ADD ("runs-nothing", test_runs_nothing);
  ADD ("tar", test_tar);
  ADD ("link-out", test_link_out);
  ADD ("git", test_git);
  ADD ("git-worktree", test_git_worktree);
  ADD ("git-of-others", test_git_of_others);
  ADD ("empty", test_empty);
  ADD ("send", test_send);
  ADD ("talkative-guest", test_talkative_guest);
  return g_test_run ();
}

/* The workspace sender and git's cage as a program, for test_workspace.py.
 * Run by test_workspace.py.
 * Never decides what is right: it prints what the library says. */
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/git-cage.h"
#include "manager/workspace/workspace.h"

static int
fail (const GError *error)
{
  g_printerr ("error: %s: %s\n", banger_error_dbus_name ((BangerError)error->code), error->message);
  return 1;
}

static void
print_notes (GPtrArray *notes)
{
  for (guint i = 0; i < notes->len; i++)
    g_printerr ("note: %s\n", (const char *)notes->pdata[i]);
}

/* The archive on stdout, a socket. */
static int
write_tar (const char *path, const BangerWorkspaceWish *wish)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (BangerWorkspace) workspace = banger_workspace_open (path, wish, NULL, &error);
  guint64 bytes = 0;
  if (workspace == NULL)
    return fail (error);
  print_notes (banger_workspace_notes (workspace));
  g_printerr ("folder: %s\n", banger_workspace_folder (workspace));
  return banger_workspace_write_tar (workspace, 1, &bytes, NULL, NULL, NULL, &error) ? 0 : fail (error);
}

typedef struct {
  GMainLoop *loop;
  GError *error;
} Wait;

static void
on_sent (GObject *source, GAsyncResult *result, gpointer data)
{
  Wait *wait = data;
  g_autoptr (GPtrArray) notes = NULL;
  banger_workspace_send_finish (result, &notes, &wait->error);
  for (guint i = 0; notes && i < notes->len; i++)
    g_printerr ("%s\n", (const char *)notes->pdata[i]);
  g_main_loop_quit (wait->loop);
}

static gboolean
on_cancel (gpointer data)
{
  g_cancellable_cancel (data);
  return G_SOURCE_REMOVE;
}

/* Through the command for the guest's tar, with @guest as the guest's shell; cancelled after @milliseconds, if any. */
static int
send_to (const char *path, const char *guest, guint milliseconds, const BangerWorkspaceWish *wish)
{
  const char *const argv[] = { "sh", "-c", guest, NULL };
  Wait wait = { g_main_loop_new (NULL, FALSE), NULL };
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  if (milliseconds > 0)
    g_timeout_add (milliseconds, on_cancel, cancellable);
  banger_workspace_send_async (path, wish, banger_receiver_new_program (argv), NULL, NULL, cancellable, on_sent, &wait);
  g_main_loop_run (wait.loop);
  g_main_loop_unref (wait.loop);
  int status = wait.error != NULL ? fail (wait.error) : 0;
  g_clear_error (&wait.error);
  return status;
}

static int
run_git (const char *folder, const char *const *words)
{
  g_autoptr (GError) error = NULL;
  GString *answer = banger_git_run (folder, words, 1 << 20, NULL, &error);
  if (answer == NULL)
    return fail (error);
  int status = fwrite (answer->str, 1, answer->len, stdout) == answer->len ? 0 : 1;
  g_string_free (answer, TRUE);
  return status;
}

/* As run_git(), where it may write below @folder. */
static int
run_git_within (const char *folder, const char *const *words)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GString) said = g_string_new (NULL);
  const BangerGitEnds ends = { .in = -1, .max = 1 << 20, .wake = -1, .said = said };
  g_autoptr (GString) answer = banger_git_run_within (folder, words, &ends, &error);
  if (answer == NULL)
    return fail (error);
  return fwrite (answer->str, 1, answer->len, stdout) == answer->len ? 0 : 1;
}

int
main (int argc, char **argv)
{
  const char *depth = g_getenv ("DEPTH");
  const BangerWorkspaceWish wish = { g_getenv ("TRACKED_ONLY") != NULL, g_getenv ("BRANCH"), g_getenv ("FROM"),
                                     !depth                          ? 0
                                     : g_str_equal (depth, "unsaid") ? BANGER_WORKSPACE_DEPTH_UNSAID
                                                                     : (guint)g_ascii_strtoull (depth, NULL, 10),
                                     g_getenv ("NO_GIT") != NULL };
  if (argc == 3 && g_str_equal (argv[1], "tar"))
    return write_tar (argv[2], &wish);
  if (argc == 5 && g_str_equal (argv[1], "send"))
    return send_to (argv[2], argv[3], (guint)g_ascii_strtoull (argv[4], NULL, 10), &wish);
  if (argc > 3 && g_str_equal (argv[1], "git"))
    return run_git (argv[2], (const char *const *)argv + 3);
  if (argc > 3 && g_str_equal (argv[1], "git-within"))
    return run_git_within (argv[2], (const char *const *)argv + 3);
  g_printerr ("usage: workspace-tool tar PATH | send PATH SHELL-WORDS MILLISECONDS | git FOLDER WORD... | "
              "git-within FOLDER WORD...\n");
  return 2;
}

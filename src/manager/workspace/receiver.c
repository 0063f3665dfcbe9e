/* The way through a program of the host: ssh, for guests whose agent runs no commands.
 * Never hands the script to a shell of the host. */
#include "manager/workspace/receiver.h"

#include <glib-unix.h>
#include <sys/socket.h>

#include "common/error.h"
#include "common/fd.h"

typedef struct {
  BangerReceiver way;
  char **argv;
  GSubprocess *program;
  int in, said; /* until they are taken */
  GCancellable *waiting;
  BangerReceiverEnded ended;
  gpointer ended_data;
} Program;

static gboolean
spawn (Program *program, const char *script, GError **error)
{
  g_autoptr (GPtrArray) argv = g_ptr_array_new ();
  int in[2], said[2];
  for (char **word = program->argv; *word; word++)
    g_ptr_array_add (argv, *word);
  g_ptr_array_add (argv, (gpointer)script);
  g_ptr_array_add (argv, NULL);
  if (!g_unix_open_pipe (said, FD_CLOEXEC, error))
    return FALSE;
  g_autoptr (GSubprocessLauncher) launcher = g_subprocess_launcher_new (G_SUBPROCESS_FLAGS_STDOUT_SILENCE);
  g_subprocess_launcher_take_stderr_fd (launcher, said[1]);
  program->said = said[0];
  if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "socketpair");
  g_subprocess_launcher_take_stdin_fd (launcher, in[0]);
  program->in = in[1];
  program->program = g_subprocess_launcher_spawnv (launcher, (const char *const *)argv->pdata, error);
  return program->program != NULL;
}

static void
program_start (BangerReceiver *receiver, const char *const *words, GCancellable *cancellable,
               GAsyncReadyCallback callback, gpointer user_data)
{
  g_autoptr (GTask) task = g_task_new (NULL, cancellable, callback, user_data);
  GError *error = NULL;
  if (spawn ((Program *)receiver, words[2], &error))
    g_task_return_boolean (task, TRUE);
  else
    g_task_return_error (task, error);
}

static gboolean
program_start_finish (BangerReceiver *receiver, GAsyncResult *result, int *ret_stdin, int *ret_stderr, GError **error)
{
  Program *program = (Program *)receiver;
  if (!g_task_propagate_boolean (G_TASK (result), error))
    return FALSE;
  *ret_stdin = banger_steal_fd (&program->in);
  *ret_stderr = banger_steal_fd (&program->said);
  return TRUE;
}

static void
on_waited (GObject *source, GAsyncResult *result, gpointer data)
{
  Program *program = data;
  GError *error = NULL;
  gboolean exited = g_subprocess_wait_finish (program->program, result, &error)
                    && g_subprocess_get_if_exited (program->program);
  program->ended (exited ? g_subprocess_get_exit_status (program->program) : 1, error, program->ended_data);
}

static void
program_watch (BangerReceiver *receiver, BangerReceiverEnded ended, gpointer user_data)
{
  Program *program = (Program *)receiver;
  program->ended = ended;
  program->ended_data = user_data;
  g_subprocess_wait_async (program->program, program->waiting, on_waited, program);
}

static void
program_end (BangerReceiver *receiver)
{
  Program *program = (Program *)receiver;
  g_subprocess_force_exit (program->program);
  g_cancellable_cancel (program->waiting); /* the kernel may hold it */
}

static void
program_free (BangerReceiver *receiver)
{
  Program *program = (Program *)receiver;
  g_strfreev (program->argv);
  g_clear_object (&program->program);
  g_object_unref (program->waiting);
  banger_clear_fd (&program->in);
  banger_clear_fd (&program->said);
  g_free (program);
}

BangerReceiver *
banger_receiver_new_program (const char *const *argv)
{
  static const BangerReceiver way = { "head -c",     NULL,        program_start, program_start_finish,
                                      program_watch, program_end, program_free };
  Program *program = g_new0 (Program, 1);
  program->way = way;
  program->argv = g_strdupv ((char **)argv);
  program->waiting = g_cancellable_new ();
  program->in = program->said = -1;
  return &program->way;
}

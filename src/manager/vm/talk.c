/* A command in a guest that a thread feeds and hears, while the main loop watches over both.
 * Never waits without end for either: what does not move any more is ended, and a thread that hangs is left to itself. */
#include "manager/vm/talk.h"

#include <fcntl.h>
#include <glib-unix.h>
#include <sys/socket.h>

#include "common/fd.h"

#define LOOK_SECONDS 1
#define SILENT_SECONDS 2 /* that what the command has left running may keep its output open */

typedef struct Talk Talk;

/* The thread's own, but for the first. Not one of those that all workers share: a script may take its time. */
typedef struct {
  Talk *owner; /* the main loop's; NULL: nobody waits any more */
  const VmTalk *talk;
  int in, out;
  gint moves; /* atomic */
  gpointer data;
  GDestroyNotify unref;
} Thread;

struct Talk {
  GTask *task; /* until it is over */
  const VmTalk *talk;
  BangerExec *exec; /* while it runs */
  Thread *thread;   /* until it has ended or is left alone */
  int in, out;      /* the same sockets as the thread's, which may wait for them */
  GCancellable *outer;
  gulong outer_id;
  guint look_id, silent_id;
  gint seen;
  guint quiet, gone; /* seconds */
  gboolean ended;    /* the command */
  int status;
  GError *error;
  gpointer data;
  GDestroyNotify unref;
};

static void
thread_free (gpointer data)
{
  Thread *thread = data;
  banger_clear_fd (&thread->in);
  banger_clear_fd (&thread->out);
  if (thread->unref)
    thread->unref (thread->data);
  g_free (thread);
}

static void
talk_free (gpointer data)
{
  Talk *talk = data;
  g_clear_pointer (&talk->exec, banger_exec_free);
  banger_clear_fd (&talk->in);
  banger_clear_fd (&talk->out);
  g_clear_handle_id (&talk->look_id, g_source_remove);
  g_clear_handle_id (&talk->silent_id, g_source_remove);
  if (talk->outer_id)
    g_signal_handler_disconnect (talk->outer, talk->outer_id);
  g_clear_object (&talk->outer);
  g_clear_error (&talk->error);
  if (talk->unref)
    talk->unref (talk->data);
  g_free (talk);
}

static void
look (Talk *talk)
{
  if (!talk->ended || talk->thread || !talk->task)
    return;
  g_autoptr (GTask) task = g_steal_pointer (&talk->task);
  g_clear_handle_id (&talk->look_id, g_source_remove);
  g_clear_handle_id (&talk->silent_id, g_source_remove);
  if (talk->error)
    g_task_return_error (task, g_steal_pointer (&talk->error));
  else
    g_task_return_int (task, talk->status);
}

/* What waits for the sockets goes on. */
static void
hang_up (Talk *talk)
{
  if (talk->in >= 0)
    shutdown (talk->in, SHUT_RDWR);
  if (talk->out >= 0)
    shutdown (talk->out, SHUT_RDWR);
}

static gboolean
on_look_again (gpointer data)
{
  look (g_task_get_task_data (data));
  return G_SOURCE_REMOVE;
}

/* @error: (transfer full). The callback comes from the main loop. */
static void
give_up (Talk *talk, GError *error)
{
  if (talk->error)
    g_error_free (error);
  else
    talk->error = error;
  g_clear_pointer (&talk->exec, banger_exec_free);
  talk->ended = TRUE;
  hang_up (talk);
  if (talk->thread)
    talk->thread->owner = NULL;
  talk->thread = NULL;
  if (talk->task)
    g_idle_add_full (G_PRIORITY_DEFAULT, on_look_again, g_object_ref (talk->task), g_object_unref);
}

static void
on_outer_cancelled (GCancellable *outer, Talk *talk)
{
  give_up (talk, banger_error_cancelled ());
}

static gboolean
on_talked (gpointer data)
{
  Thread *thread = data;
  Talk *talk = thread->owner;
  thread_free (thread);
  if (talk) {
    talk->thread = NULL;
    look (talk);
  }
  return G_SOURCE_REMOVE;
}

static gpointer
run (gpointer data)
{
  Thread *thread = data;
  thread->talk->talk (thread->in, thread->out, &thread->moves, thread->data);
  g_idle_add_full (G_PRIORITY_DEFAULT, on_talked, thread, NULL);
  return NULL;
}

static gboolean
on_silent (gpointer data)
{
  Talk *talk = data;
  talk->silent_id = 0;
  hang_up (talk);
  return G_SOURCE_REMOVE;
}

static void
on_ended (BangerExec *exec, int status, int number, const GError *error, gpointer data)
{
  Talk *talk = data;
  g_clear_pointer (&talk->exec, banger_exec_free);
  talk->ended = TRUE;
  talk->status = number != 0 ? 128 + number : status;
  if (error && !talk->error)
    talk->error = g_error_copy (error);
  if (talk->thread)
    talk->silent_id = g_timeout_add_seconds (SILENT_SECONDS, on_silent, talk);
  look (talk);
}

static gboolean
on_look (gpointer data)
{
  Talk *talk = data;
  gint moves = talk->thread ? g_atomic_int_get (&talk->thread->moves) : talk->seen;
  talk->quiet = moves == talk->seen ? talk->quiet + LOOK_SECONDS : 0;
  talk->seen = moves;
  talk->gone += LOOK_SECONDS;
  if (talk->talk->quiet_seconds > 0 && talk->quiet >= talk->talk->quiet_seconds)
    give_up (talk, g_error_new (BANGER_ERROR, BANGER_ERROR_TIMEOUT, "nothing has moved for %u s", talk->quiet));
  else if (talk->talk->seconds > 0 && talk->gone >= talk->talk->seconds)
    give_up (talk, g_error_new (BANGER_ERROR, BANGER_ERROR_GUEST_TIMEOUT, "it has not ended after %u s", talk->gone));
  else
    return G_SOURCE_CONTINUE;
  talk->look_id = 0;
  return G_SOURCE_REMOVE;
}

static void
on_started (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  Talk *talk = g_task_get_task_data (task);
  GError *error = NULL;
  int fds[BANGER_EXEC_STREAMS];
  talk->exec = banger_vm_exec_finish (result, fds, &error);
  if (!talk->exec) {
    g_task_return_error (task, error);
    return;
  }
  int heard = talk->talk->hear_errors ? BANGER_EXEC_STDERR : BANGER_EXEC_STDOUT, other = heard ^ 3;
  banger_clear_fd (&fds[other]);
  for (int i = 0; i < 2; i++)
    g_unix_set_fd_nonblocking (fds[i == 0 ? BANGER_EXEC_STDIN : heard], FALSE, NULL);
  talk->in = fcntl (fds[BANGER_EXEC_STDIN], F_DUPFD_CLOEXEC, 3);
  talk->out = fcntl (fds[heard], F_DUPFD_CLOEXEC, 3);
  Thread *thread = talk->thread = g_new0 (Thread, 1);
  *thread = (Thread){ .owner = talk,
                      .talk = talk->talk,
                      .in = fds[BANGER_EXEC_STDIN],
                      .out = fds[heard],
                      .data = talk->data,
                      .unref = g_steal_pointer (&talk->unref) };
  talk->task = g_object_ref (task);
  banger_exec_watch (talk->exec, on_ended, talk);
  talk->look_id = g_timeout_add_seconds (LOOK_SECONDS, on_look, talk);
  g_thread_unref (g_thread_new ("talk", run, thread));
  if (talk->outer)
    talk->outer_id = g_signal_connect (talk->outer, "cancelled", G_CALLBACK (on_outer_cancelled), talk);
  if (talk->outer && g_cancellable_is_cancelled (talk->outer))
    give_up (talk, banger_error_cancelled ());
}

void
vm_talk_async (BangerVm *vm, const VmTalk *talk, const char *const *words, gpointer data, GDestroyNotify unref,
               GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  GTask *task = g_task_new (NULL, NULL, callback, user_data);
  Talk *own = g_new0 (Talk, 1);
  own->talk = talk;
  own->data = data;
  own->unref = unref;
  own->in = own->out = -1;
  own->outer = cancellable ? g_object_ref (cancellable) : NULL;
  g_task_set_task_data (task, own, talk_free);
  const BangerExecSpec spec = { .arguments = words, .no_stdout = talk->hear_errors };
  banger_vm_exec_async (vm, &spec, cancellable, on_started, task);
}

int
vm_talk_finish (GAsyncResult *result, GError **error)
{
  return (int)g_task_propagate_int (G_TASK (result), error);
}

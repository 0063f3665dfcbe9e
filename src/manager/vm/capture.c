/* A command whose output is kept: for clients that cannot take descriptors.
 * Called by the bus side.
 * Never keeps more than its bound. */
#include <errno.h>
#include <glib-unix.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "manager/core/later.h"
#include "manager/vm/processes.h"

#define OUTPUT_MAX (1u << 20) /* of each */
#define CHUNK 65536u

enum { OUT, ERR, N_OUTPUTS };

typedef struct {
  GTask *task;
  BangerProcess *process; /* NULL once it is gone: with it goes what is still open */
  gboolean ended;         /* the command */
  int fds[N_OUTPUTS];
  guint sources[N_OUTPUTS];
  guint seconds, bound; /* 0: there is none */
  BangerCaptured captured;
} Capture;

static void
capture_free (gpointer data)
{
  Capture *capture = data;
  g_byte_array_unref (capture->captured.out);
  g_byte_array_unref (capture->captured.err);
  g_free (capture);
}

/* @error: (transfer full) (nullable). The task's end frees the rest. */
static void
capture_end (Capture *capture, GError *error)
{
  g_autoptr (GTask) task = capture->task;
  for (int i = 0; i < N_OUTPUTS; i++) {
    g_clear_handle_id (&capture->sources[i], g_source_remove);
    banger_clear_fd (&capture->fds[i]);
  }
  g_clear_handle_id (&capture->bound, g_source_remove);
  if (capture->process) {
    banger_process_watch (capture->process, NULL, NULL);
    banger_process_forget (capture->process);
  }
  banger_task_return (task, error);
}

static void
capture_look (Capture *capture)
{
  if (capture->ended && capture->fds[OUT] < 0 && capture->fds[ERR] < 0)
    capture_end (capture, NULL);
}

static gboolean
on_output (int fd, GIOCondition condition, gpointer data)
{
  Capture *capture = data;
  int which = fd == capture->fds[OUT] ? OUT : ERR;
  GByteArray *kept = which == OUT ? capture->captured.out : capture->captured.err;
  guint8 buffer[CHUNK];
  ssize_t n = read (fd, buffer, sizeof buffer);
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return G_SOURCE_CONTINUE;
  if (n > 0 && kept->len + (gsize)n > OUTPUT_MAX) {
    capture->sources[which] = 0;
    capture_end (capture, g_error_new (BANGER_ERROR, BANGER_ERROR_LIMITS_EXCEEDED,
                                       "the command writes more than %u bytes, which is all that is kept: use Exec",
                                       OUTPUT_MAX));
    return G_SOURCE_REMOVE;
  }
  if (n > 0) {
    g_byte_array_append (kept, buffer, (guint)n);
    return G_SOURCE_CONTINUE;
  }
  capture->sources[which] = 0;
  banger_clear_fd (&capture->fds[which]);
  capture_look (capture);
  return G_SOURCE_REMOVE;
}

/* A guest that says how the command ended, and never ends its output, has as long as an ended process is shown. */
static void
on_process_ended (BangerProcess *process, gpointer data)
{
  Capture *capture = data;
  if (!process) {
    capture->process = NULL;
    capture_end (capture, capture->ended ? g_error_new (BANGER_ERROR, BANGER_ERROR_GUEST_FAILED,
                                                        "the command has ended, and the guest does not end its output")
                                         : banger_error_cancelled ());
    return;
  }
  capture->captured.status = process->number != 0 ? 128 + (int)process->number : process->status;
  capture->ended = TRUE;
  banger_process_watch (process, on_process_ended, capture);
  if (*process->error != '\0')
    capture_end (capture, g_error_new (BANGER_ERROR, BANGER_ERROR_GUEST_FAILED, "%s", process->error));
  else
    capture_look (capture);
}

static gboolean
on_bound (gpointer data)
{
  Capture *capture = data;
  capture->bound = 0;
  capture_end (capture, g_error_new (BANGER_ERROR, BANGER_ERROR_GUEST_TIMEOUT,
                                     "the guest has not ended its answer after %u s", capture->seconds));
  return G_SOURCE_REMOVE;
}

static void
on_started (GObject *source, GAsyncResult *result, gpointer data)
{
  Capture *capture = data;
  GError *error = NULL;
  int fds[BANGER_EXEC_STREAMS] = { -1, -1, -1 };
  capture->process = banger_processes_start_finish (result, fds, &error);
  if (!capture->process) {
    capture_end (capture, error);
    return;
  }
  banger_process_watch (capture->process, on_process_ended, capture);
  if (capture->seconds > 0)
    capture->bound = g_timeout_add_seconds (capture->seconds, on_bound, capture);
  for (int i = 0; i < N_OUTPUTS; i++) {
    capture->fds[i] = fds[BANGER_EXEC_STDOUT + i];
    capture->sources[i] = g_unix_fd_add (capture->fds[i], G_IO_IN | G_IO_HUP | G_IO_ERR, on_output, capture);
  }
}

void
banger_capture_async (BangerProcesses *processes, BangerVm *vm, const char *client, const BangerExecSpec *spec,
                      GAsyncReadyCallback callback, gpointer user_data)
{
  Capture *capture = g_new0 (Capture, 1);
  BangerExecSpec own = *spec;
  own.no_stdin = TRUE;
  own.terminal = FALSE;
  capture->task = g_task_new (NULL, NULL, callback, user_data);
  capture->seconds = spec->seconds;
  capture->fds[OUT] = capture->fds[ERR] = -1;
  capture->captured.out = g_byte_array_new ();
  capture->captured.err = g_byte_array_new ();
  g_task_set_task_data (capture->task, capture, capture_free);
  banger_processes_start_async (processes, vm, client, &own, on_started, capture);
}

const BangerCaptured *
banger_capture_finish (GAsyncResult *result, GError **error)
{
  const Capture *capture = g_task_get_task_data (G_TASK (result));
  return g_task_propagate_boolean (G_TASK (result), error) ? &capture->captured : NULL;
}

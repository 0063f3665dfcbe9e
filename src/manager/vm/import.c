/* How a work tree gets into a guest: by the agent, by a shell that an older one runs, or by one behind ssh if it runs none.
 * Called by the verb.
 * Never touches a byte of the tree. */
#include "manager/vm/private.h"

#include <fcntl.h>
#include <glib-unix.h>
#include <sys/socket.h>

#include "common/fd.h"
#include "common/guest-protocol.h"
#include "manager/workspace/receiver.h"

typedef struct {
  BangerReceiver way;
  BangerVm *vm;
  BangerExec *exec; /* while it runs */
  int in;           /* the same socket as the sender's: its thread may wait in a write */
  guint ended_id;
  BangerReceiverEnded ended;
  gpointer ended_data;
} Receiver;

static void
start (BangerReceiver *way, const char *const *words, GCancellable *cancellable, GAsyncReadyCallback callback,
       gpointer user_data)
{
  const BangerExecSpec spec = { .arguments = words, .no_stdout = TRUE };
  banger_vm_exec_async (((Receiver *)way)->vm, &spec, cancellable, callback, user_data);
}

static gboolean
start_finish (BangerReceiver *way, GAsyncResult *result, int *ret_stdin, int *ret_stderr, GError **error)
{
  Receiver *receiver = (Receiver *)way;
  int fds[BANGER_EXEC_STREAMS];
  receiver->exec = banger_vm_exec_finish (result, fds, error);
  if (!receiver->exec)
    return FALSE;
  receiver->in = fcntl (fds[BANGER_EXEC_STDIN], F_DUPFD_CLOEXEC, 3);
  g_unix_set_fd_nonblocking (fds[BANGER_EXEC_STDIN], FALSE, NULL);
  *ret_stdin = fds[BANGER_EXEC_STDIN];
  *ret_stderr = fds[BANGER_EXEC_STDERR];
  return TRUE;
}

static void
on_exec_ended (BangerExec *exec, int status, int number, const GError *error, gpointer data)
{
  Receiver *receiver = data;
  g_clear_pointer (&receiver->exec, banger_exec_free);
  receiver->ended (number != 0 ? 128 + number : status, error ? g_error_copy (error) : NULL, receiver->ended_data);
}

static void
watch (BangerReceiver *way, BangerReceiverEnded ended, gpointer user_data)
{
  Receiver *receiver = (Receiver *)way;
  receiver->ended = ended;
  receiver->ended_data = user_data;
  banger_exec_watch (receiver->exec, on_exec_ended, receiver);
}

static gboolean
on_given_up (gpointer data)
{
  Receiver *receiver = data;
  receiver->ended_id = 0;
  receiver->ended (1, banger_error_cancelled (), receiver->ended_data);
  return G_SOURCE_REMOVE;
}

static void
end (BangerReceiver *way)
{
  Receiver *receiver = (Receiver *)way;
  if (!receiver->exec)
    return;
  g_clear_pointer (&receiver->exec, banger_exec_free);
  if (receiver->in >= 0)
    shutdown (receiver->in, SHUT_RDWR);
  receiver->ended_id = g_idle_add (on_given_up, receiver);
}

static void
receiver_free (BangerReceiver *way)
{
  Receiver *receiver = (Receiver *)way;
  g_clear_pointer (&receiver->exec, banger_exec_free);
  g_clear_handle_id (&receiver->ended_id, g_source_remove);
  banger_clear_fd (&receiver->in);
  banger_vm_unref (receiver->vm);
  g_free (receiver);
}

BangerReceiver *
vm_receiver_new (BangerVm *vm)
{
  static const BangerReceiver way = {
    BANGER_GUEST_BINARY " head", NULL, start, start_finish, watch, end, receiver_free
  };
  if (vm->agent && banger_agent_connected (vm->agent) && !banger_agent_can_exec (vm->agent)) {
    g_autoptr (GPtrArray) argv = banger_ssh_argv (vm->vms->ssh, vm->alias, vm->record.login_user, vm->record.address);
    g_ptr_array_add (argv, NULL);
    return banger_receiver_new_program ((const char *const *)argv->pdata);
  }
  Receiver *receiver = g_new0 (Receiver, 1);
  receiver->way = way;
  if (vm->agent && banger_agent_can_receive (vm->agent))
    receiver->way.own = BANGER_GUEST_BINARY;
  receiver->vm = banger_vm_ref (vm);
  receiver->in = -1;
  return &receiver->way;
}

/* Commands in guests as objects: each with the client whose it is, and how it ended.
 * Never outlives its client, nor its VM.
 * Never holds a stream: the client has them. */
#pragma once

#include "manager/core/object.h"
#include "manager/peer/exec.h"
#include "manager/vm/vm.h"

typedef struct BangerProcesses BangerProcesses;
typedef struct BangerProcess BangerProcess;

/** BangerProcessEnded: @process: %NULL: it went with its client, or everything does. */
typedef void (*BangerProcessEnded) (BangerProcess *process, gpointer user_data);

/* Read by all, changed by processes.c. */
struct BangerProcess {
  BangerProcesses *processes;
  char *id, *vm, *client; /* @vm: its id */
  BangerExec *exec;       /* NULL once ended */
  gint32 status;          /* -1: none */
  guint number;           /* of the signal; 0: none */
  char *error;            /* "" if it is known how it ended */
  guint linger;
  BangerProcessEnded watch;
  gpointer watch_data;
};

/* What whoever shows them hears. */
typedef struct {
  BangerObserver objects;
  void (*ended) (BangerProcess *process, gpointer user_data);
} BangerProcessObserver;

BangerProcesses *banger_processes_new (const BangerProcessObserver *observer, gpointer user_data);
/** banger_processes_free: ends every command. */
void banger_processes_free (BangerProcesses *processes);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerProcesses, banger_processes_free)

/**
 * banger_processes_start_async:
 * As banger_vm_exec_async(), but for how many may run. @client: whose end
 * ends the command, see banger_processes_client_gone(). LimitsExceeded; WrongState, see banger_vm_check_free().
 */
void banger_processes_start_async (BangerProcesses *processes, BangerVm *vm, const char *client,
                                   const BangerExecSpec *spec, GAsyncReadyCallback callback, gpointer user_data);
/** banger_processes_start_finish: Returns: (transfer none): in the table by now; @ret_fds as in exec.h. */
BangerProcess *banger_processes_start_finish (GAsyncResult *result, int *ret_fds, GError **error);

/** banger_processes_client_gone: ends and forgets what it started, also what is being started. */
void banger_processes_client_gone (BangerProcesses *processes, const char *client);
BangerProcess *banger_processes_find (BangerProcesses *processes, const char *id);
GPtrArray *banger_processes_ids (BangerProcesses *processes); /* of char *, which are the objects' */

/** banger_process_state: "running", "exited" (with a status), "killed" (by a signal) or "lost": how is not known. */
const char *banger_process_state (const BangerProcess *process);

/** banger_process_watch: told once, after everybody else; @process may be forgotten there. */
void banger_process_watch (BangerProcess *process, BangerProcessEnded ended, gpointer user_data);
/** banger_process_forget: it ends if it has not, and is not shown any more. */
void banger_process_forget (BangerProcess *process);

/**
 * banger_capture_async:
 * Runs a command that reads nothing, and keeps what it writes: at most 1 MiB of each, else %BANGER_ERROR_LIMITS_EXCEEDED
 * and its end. Counts among the processes.
 */
typedef struct {
  GByteArray *out, *err;
  int status; /* 128 and the signal's number if one ended it */
} BangerCaptured;
void banger_capture_async (BangerProcesses *processes, BangerVm *vm, const char *client, const BangerExecSpec *spec,
                           GAsyncReadyCallback callback, gpointer user_data);
/** banger_capture_finish: Returns: (transfer none): as long as @result is there. */
const BangerCaptured *banger_capture_finish (GAsyncResult *result, GError **error);

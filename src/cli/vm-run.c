/* vm run: a new VM, perhaps a repository in it, a shell or a command, perhaps no VM again.
 * Called through the command table.
 * Never leaves a VM behind with --rm, whatever went wrong. */
#include <glib/gi18n.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/objects.h"
#include "cli/signals.h"
#include "cli/ssh.h"
#include "cli/verbs.h"
#include "cli/vm-options.h"
#include "common/error.h"
#include "common/validate.h"

typedef struct {
  const BangerInvocation *invocation;
  BangerClient *client;
  BangerWorkspace *workspace; /* NULL: none */
  char *name;
  char *id; /* NULL until there is a VM */
  gboolean rm, quiet;
} Run;

static void
run_clear (Run *run)
{
  banger_client_free (run->client);
  banger_workspace_free (run->workspace);
  g_free (run->name);
  g_free (run->id);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Run, run_clear)

/* Everything that can be refused before anything is made. */
static int
prepare (Run *run, const BangerInvocation *invocation, GError **error)
{
  const char *path = banger_invocation_argument (invocation, 0), *name = banger_invocation_string (invocation, "name");
  run->invocation = invocation;
  run->rm = banger_invocation_flag (invocation, "rm");
  run->quiet = banger_invocation_flag (invocation, "quiet");
  if (banger_invocation_flag (invocation, "detach") && (run->rm || invocation->tail != NULL))
    return banger_usage_error (error,
                               _ ("--detach leaves the VM running: it goes neither with --rm nor with a command"));
  if (banger_vm_options_check (invocation, error) < 0)
    return -1;
  if (name != NULL && !banger_name_check (name, _ ("VM name"), error))
    return -1;
  if (path != NULL && (run->workspace = banger_workspace_find (path, error)) == NULL)
    return -1;
  run->name = name != NULL ? g_strdup (name)
                           : banger_vm_name_new (run->workspace != NULL ? run->workspace->repo : NULL);
  run->client = banger_client_new (BANGER_CLIENT_JOBS, error);
  return run->client != NULL ? 0 : -1;
}

static gboolean
create (Run *run, GError **error)
{
  const BangerVmPurpose purpose = { .start = TRUE, .ephemeral = run->rm };
  g_autofree char *what = g_strdup_printf (_ ("cannot run %s"), run->name);
  g_autofree char *object = NULL;
  const BangerJobText text = { run->name, what, NULL, run->quiet, FALSE };
  g_autoptr (sd_bus_message) call = banger_vm_create_message (run->client, run->name, run->invocation, &purpose);
  gboolean fine = banger_client_run_job (run->client, call, &text, &object, error);
  if (strcmp (object, "/") != 0)
    run->id = g_strdup (strrchr (object, '/') + 1);
  else if (fine)
    run->id = g_strdup (run->name); /* it is ours: the manager made it for this call */
  return fine;
}

static gboolean
import_workspace (Run *run, GError **error)
{
  g_autofree char *what = g_strdup_printf (_ ("cannot copy %s into %s"), run->workspace->path, run->name);
  const BangerJobText text = { run->name, what, NULL, run->quiet, FALSE };
  g_autoptr (sd_bus_message) call = banger_client_message (run->client, NULL, NULL, "ImportWorkspace");
  sd_bus_message_append (call, "ssa{sv}", run->name, run->workspace->path, 0);
  return banger_client_run_job (run->client, call, &text, NULL, error);
}

static gboolean
bring_up (Run *run, GError **error)
{
  if (!create (run, error))
    return FALSE;
  if (banger_signals_count () > 0)
    return banger_set_error (error, BANGER_ERROR_CANCELLED, _ ("interrupted"));
  return run->workspace == NULL || import_workspace (run, error);
}

static int
connect_to_guest (Run *run, GError **error)
{
  g_autoptr (JsonObject) vm = banger_objects_get (run->client, &banger_kind_vm, run->name, NULL, error);
  g_autoptr (BangerSshTarget) target = vm != NULL ? banger_ssh_target_new (vm, error) : NULL;
  if (target == NULL)
    return -1;
  const char *const *words = (const char *const *)run->invocation->tail;
  g_autofree char *cwd = run->workspace != NULL ? g_strdup_printf ("/root/%s", run->workspace->repo) : NULL;
  const BangerSshCommand command = {
    .terminal = words == NULL || (isatty (STDIN_FILENO) && isatty (STDOUT_FILENO)),
    .cwd = cwd,
    .words = words,
  };
  int status;
  return banger_ssh_run (run->client, target, &command, &status, error) ? status : -1;
}

/* Its disks are thrown away: no orderly shutdown. */
static gboolean
throw_away (Run *run, GError **error)
{
  g_autofree char *what = g_strdup_printf (_ ("cannot delete %s"), run->name);
  const BangerJobText text = { run->name, what, NULL, TRUE, TRUE };
  g_autoptr (GError) failure = NULL;
  banger_signals_forget ();
  g_autoptr (sd_bus_message) call = banger_client_message (run->client, NULL, NULL, "DeleteVM");
  sd_bus_message_append (call, "sa{sv}", run->id, 1, "force", "b", TRUE);
  if (banger_client_run_job (run->client, call, &text, NULL, &failure)
      || g_error_matches (failure, BANGER_ERROR, BANGER_ERROR_NO_SUCH_VM)) /* the manager was faster */
    return TRUE;
  g_propagate_error (error, g_steal_pointer (&failure));
  return FALSE;
}

/* Nothing if the manager took it back, as it does when the disks could not be made. */
static void
tell_what_is_left (Run *run)
{
  g_autoptr (JsonObject) vm = banger_objects_get (run->client, &banger_kind_vm, run->id, NULL, NULL);
  if (vm == NULL)
    return;
  if (strcmp (banger_property_string (vm, "State"), "running") == 0)
    g_printerr (_ ("%s goes on running: `banger vm ssh %s` to get in, `banger vm delete --force %s` to be rid of it\n"),
                run->name, run->name, run->name);
  else
    g_printerr (
        _ ("%s is kept: `banger vm logs %s` for what it wrote, `banger vm delete --force %s` to be rid of it\n"),
        run->name, run->name, run->name);
}

/* Returns: @status, or that of the failure to tidy up if nothing worse happened. */
static int
leave (Run *run, int status)
{
  g_autoptr (GError) failure = NULL;
  if (run->id == NULL || (run->rm && throw_away (run, &failure)))
    return status;
  if (run->rm) {
    int failed = banger_report_error (failure, NULL);
    return status == 0 ? failed : status;
  }
  if (!run->quiet)
    tell_what_is_left (run);
  return status;
}

int
banger_vm_run (const BangerInvocation *invocation, GError **error)
{
  g_auto (Run) run = { 0 };
  if (prepare (&run, invocation, error) < 0)
    return -1;
  gboolean up = bring_up (&run, error);
  if (up && banger_invocation_flag (invocation, "detach")) {
    g_print ("%s\n", run.name);
    return 0;
  }
  int status = up ? connect_to_guest (&run, error) : -1;
  return leave (&run, status);
}

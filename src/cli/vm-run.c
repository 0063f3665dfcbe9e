/* vm run: a new VM, perhaps a repository in it, a shell or a command, perhaps no VM again.
 * Called through the command table.
 * Never leaves a VM behind with --rm, whatever went wrong. */
#include <glib/gi18n.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/enter.h"
#include "cli/objects.h"
#include "cli/signals.h"
#include "cli/ssh.h"
#include "cli/verbs.h"
#include "cli/vm-options.h"
#include "common/error.h"
#include "common/names.h"
#include "common/validate.h"

#define GUEST_HOME "/root/"

typedef struct {
  const BangerInvocation *invocation;
  BangerClient *client;
  char *path;   /* of the work tree, absolute; NULL: none */
  char *folder; /* what it becomes in the guest */
  char *name;
  char *setup; /* a script; NULL: none */
  char *id;    /* NULL until there is a VM */
  gboolean rm, quiet;
} Run;

static void
run_clear (Run *run)
{
  banger_client_free (run->client);
  g_free (run->path);
  g_free (run->folder);
  g_free (run->name);
  g_free (run->setup);
  g_free (run->id);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Run, run_clear)

static gboolean
prepare_workspace (Run *run, const char *path, GError **error)
{
  run->path = banger_absolute_path (path, error);
  run->folder = run->path ? banger_workspace_check (run->client, path, run->path, run->invocation, NULL, error) : NULL;
  return run->folder != NULL;
}

/* "/root/hello/src": like hello. */
static char *
name_after (const char *folder)
{
  if (!folder || !g_str_has_prefix (folder, GUEST_HOME))
    return banger_vm_name_new (NULL);
  const char *top = folder + strlen (GUEST_HOME);
  g_autofree char *hint = g_strndup (top, strcspn (top, "/"));
  return banger_vm_name_new (hint);
}

static int
check_path_options (const BangerInvocation *invocation, const char *path, GError **error)
{
  static const char *const flags[] = { "dry-run", "tracked-only", "no-git" };
  if (banger_workspace_options_check (invocation, error) < 0)
    return -1;
  gboolean given = banger_invocation_string (invocation, "branch") || banger_invocation_string (invocation, "depth");
  for (guint i = 0; i < G_N_ELEMENTS (flags); i++)
    given |= banger_invocation_flag (invocation, flags[i]);
  if (!path && given)
    return banger_usage_error (error,
                               _ ("--branch, --depth, --tracked-only, --no-git and --dry-run are for a PATH: give it"));
  return 0;
}

/* What --dry-run, too, is to say no to. */
static int
check (const BangerInvocation *invocation, GError **error)
{
  const char *path = banger_invocation_argument (invocation, 0), *name = banger_invocation_string (invocation, "name");
  if (banger_invocation_flag (invocation, "detach") && (banger_invocation_flag (invocation, "rm") || invocation->tail))
    return banger_usage_error (error,
                               _ ("--detach leaves the VM running: it goes neither with --rm nor with a command"));
  if (banger_invocation_flag (invocation, "no-stdin") && !invocation->tail)
    return banger_usage_error (error, _ ("--no-stdin is for a command: a shell without input ends at once"));
  if (check_path_options (invocation, path, error) < 0 || banger_vm_options_check (invocation, error) < 0
      || banger_enter_check (invocation, error) < 0)
    return -1;
  return !name || banger_new_name_check (name, _ ("VM name"), error) ? 0 : -1;
}

/* Everything that can be refused before anything is made. */
static int
prepare (Run *run, const BangerInvocation *invocation, GError **error)
{
  const char *path = banger_invocation_argument (invocation, 0), *name = banger_invocation_string (invocation, "name");
  run->invocation = invocation;
  run->rm = banger_invocation_flag (invocation, "rm");
  run->quiet = banger_invocation_flag (invocation, "quiet");
  if (check (invocation, error) < 0 || banger_vm_setup_read (invocation, &run->setup, error) < 0)
    return -1;
  run->client = banger_client_new (BANGER_CLIENT_JOBS, error);
  if (!run->client || (path && !prepare_workspace (run, path, error)))
    return -1;
  run->name = name ? g_strdup (name) : name_after (run->folder);
  return 0;
}

static gboolean
create (Run *run, GError **error)
{
  const BangerVmPurpose purpose = { .start = TRUE, .ephemeral = run->rm, .setup = run->setup };
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
bring_up (Run *run, GError **error)
{
  if (!create (run, error))
    return FALSE;
  if (banger_signals_count () > 0)
    return banger_set_error (error, BANGER_ERROR_CANCELLED, _ ("interrupted"));
  return !run->path || banger_workspace_import (run->client, run->name, run->path, run->invocation, NULL, error);
}

/* As the manager does with one that is to go and whose start failed. */
static gboolean
being_deleted (const Run *run)
{
  g_autoptr (JsonObject) vm = banger_objects_get (run->client, &banger_kind_vm, run->id, NULL, NULL);
  return vm && strcmp (banger_property_string (vm, "State"), "deleting") == 0;
}

/* Its disks are thrown away: no orderly shutdown. That it goes is recorded, and bangerd sees to it, before what it
 * holds is given back: whoever has the command's status does not wait for that. Who cut it off finds nothing left. */
static gboolean
throw_away (Run *run, GError **error)
{
  g_autofree char *what = g_strdup_printf (_ ("cannot delete %s"), run->name);
  gboolean named = banger_invocation_string (run->invocation, "name") != NULL; /* which is to be free again */
  const char *enough = !named && banger_signals_first () == 0 ? BANGER_STAGE_CLEANING : NULL;
  const BangerJobText text = { run->name, what, NULL, TRUE, TRUE, enough };
  g_autoptr (GError) failure = NULL;
  banger_signals_forget ();
  g_autoptr (sd_bus_message) call = banger_client_message (run->client, NULL, NULL, "DeleteVM");
  sd_bus_message_append (call, "sa{sv}", run->id, 1, "force", "b", TRUE);
  if (banger_client_run_job (run->client, call, &text, NULL, &failure)
      || g_error_matches (failure, BANGER_ERROR, BANGER_ERROR_NO_SUCH_VM) /* the manager was faster */
      || (g_error_matches (failure, BANGER_ERROR, BANGER_ERROR_WRONG_STATE) && being_deleted (run)))
    return TRUE;
  g_propagate_error (error, g_steal_pointer (&failure));
  return FALSE;
}

/* Nothing if the manager took it back, as it does when the disks could not be made. */
static void
tell_what_is_left (Run *run)
{
  g_autoptr (JsonObject) vm = banger_objects_get (run->client, &banger_kind_vm, run->id, NULL, NULL);
  if (!vm)
    return;
  gboolean no_ssh = strcmp (banger_property_string (vm, "SshServer"), BANGER_SSH_SERVER_MISSING) == 0;
  if (strcmp (banger_property_string (vm, "State"), "running") == 0 && no_ssh)
    g_printerr (_ ("%s goes on running: `banger vm exec %s -- COMMAND` for a command in it, `banger vm delete --force "
                   "%s` to be rid of it\n"),
                run->name, run->name, run->name);
  else if (strcmp (banger_property_string (vm, "State"), "running") == 0)
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
  if (!run->id || (run->rm && throw_away (run, &failure)))
    return status;
  if (run->rm) {
    int failed = banger_report_error (failure, NULL);
    return status == 0 ? failed : status;
  }
  if (!run->quiet)
    tell_what_is_left (run);
  return status;
}

static int
dry_run (const BangerInvocation *invocation, GError **error)
{
  const char *path = banger_invocation_argument (invocation, 0);
  g_autofree char *setup = NULL;
  if (check (invocation, error) < 0 || banger_vm_setup_read (invocation, &setup, error) < 0)
    return -1;
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_PLAIN, error);
  return client && banger_workspace_dry_run (client, path, invocation, NULL, error) ? 0 : -1;
}

int
banger_vm_run (const BangerInvocation *invocation, GError **error)
{
  g_auto (Run) run = { 0 };
  if (banger_invocation_flag (invocation, "dry-run"))
    return dry_run (invocation, error);
  if (prepare (&run, invocation, error) < 0)
    return -1;
  gboolean up = bring_up (&run, error);
  if (up && banger_invocation_flag (invocation, "detach")) {
    banger_ssh_wait (run.client, run.name);
    g_print ("%s\n", run.name);
    return 0;
  }
  const BangerPlace place = { .cwd = run.folder, .own_tree = run.folder != NULL };
  int status = up ? banger_enter (run.client, run.name, &place, invocation, error) : -1;
  return leave (&run, status);
}

/* vm create, start, stop, kill, restart, pause, resume, suspend, delete, list, show, and ps.
 * Called through the command table.
 * Never knows how a VM is made: the manager does. */
#include <glib/gi18n.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/objects.h"
#include "cli/ssh.h"
#include "cli/verbs.h"
#include "cli/vm-options.h"
#include "common/validate.h"

int
banger_vm_create (const BangerInvocation *invocation, GError **error)
{
  const char *name = banger_invocation_argument (invocation, 0);
  g_autofree char *setup = NULL;
  if (banger_vm_options_check (invocation, error) < 0 || banger_vm_setup_read (invocation, &setup, error) < 0
      || !banger_new_name_check (name, _ ("VM name"), error))
    return -1;
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_JOBS, error);
  if (!client)
    return -1;

  const BangerVmPurpose purpose = { .start = banger_invocation_flag (invocation, "start"), .setup = setup };
  g_autofree char *what = g_strdup_printf (_ ("cannot create %s"), name);
  g_autofree char *done = g_strdup_printf (purpose.start ? _ ("%s is ready") : _ ("%s is created"), name);
  const BangerJobText text = { name, what, done, banger_invocation_flag (invocation, "quiet"), FALSE };
  g_autoptr (sd_bus_message) call = banger_vm_create_message (client, name, invocation, &purpose);
  if (!banger_client_run_job (client, call, &text, NULL, error))
    return -1;
  if (purpose.start)
    banger_ssh_wait (client, name);
  return 0;
}

int
banger_vm_start (const BangerInvocation *invocation, GError **error)
{
  static const BangerVerb verb = { "StartVM", N_ ("cannot start %s"), N_ ("%s is ready"), "discard",
                                   .then = banger_ssh_wait };
  return banger_run_each (invocation, &verb, error);
}

int
banger_vm_stop (const BangerInvocation *invocation, GError **error)
{
  static const BangerVerb verb = { "StopVM", N_ ("cannot stop %s"), N_ ("%s is stopped"), NULL };
  return banger_run_each (invocation, &verb, error);
}

int
banger_vm_kill (const BangerInvocation *invocation, GError **error)
{
  static const BangerVerb verb = { "KillVM", N_ ("cannot kill %s"), N_ ("%s is killed"), .text = "signal" },
                          other = { "KillVM", N_ ("cannot signal %s"), N_ ("%s was sent the signal"),
                                    .text = "signal" };
  const char *word = banger_invocation_string (invocation, "signal");
  gboolean kills = !word || g_ascii_strcasecmp (word, "KILL") == 0 || g_ascii_strcasecmp (word, "SIGKILL") == 0;
  return banger_run_each (invocation, kills ? &verb : &other, error);
}

int
banger_vm_restart (const BangerInvocation *invocation, GError **error)
{
  static const BangerVerb verb = { "RestartVM", N_ ("cannot restart %s"), N_ ("%s is ready"), NULL };
  return banger_run_each (invocation, &verb, error);
}

int
banger_vm_pause (const BangerInvocation *invocation, GError **error)
{
  static const BangerVerb verb = { "PauseVM", N_ ("cannot pause %s"), N_ ("%s is paused"), NULL };
  return banger_run_each (invocation, &verb, error);
}

int
banger_vm_resume (const BangerInvocation *invocation, GError **error)
{
  static const BangerVerb verb = { "ResumeVM", N_ ("cannot resume %s"), N_ ("%s goes on"), NULL };
  return banger_run_each (invocation, &verb, error);
}

int
banger_vm_suspend (const BangerInvocation *invocation, GError **error)
{
  static const BangerVerb verb = { "SuspendVM", N_ ("cannot suspend %s"), N_ ("%s is suspended"), NULL };
  return banger_run_each (invocation, &verb, error);
}

int
banger_vm_delete (const BangerInvocation *invocation, GError **error)
{
  static const BangerVerb verb = { "DeleteVM", N_ ("cannot delete %s"), N_ ("%s is deleted"), "force" };
  return banger_run_each (invocation, &verb, error);
}

int
banger_vm_list (const BangerInvocation *invocation, GError **error)
{
  return banger_list (invocation, &banger_kind_vm, NULL, error);
}

int
banger_vm_show (const BangerInvocation *invocation, GError **error)
{
  return banger_show (invocation, &banger_kind_vm, error);
}

static gboolean
is_awake (JsonObject *vm)
{
  const char *state = banger_property_string (vm, "State");
  return strcmp (state, "stopped") != 0 && strcmp (state, "suspended") != 0;
}

int
banger_ps (const BangerInvocation *invocation, GError **error)
{
  return banger_list (invocation, &banger_kind_vm, banger_invocation_flag (invocation, "all") ? NULL : is_awake, error);
}

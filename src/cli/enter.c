/* Which way a command or a shell goes.
 * Called by vm-ssh.c and vm-run.c.
 * Never runs a command twice: the other way is tried only when the first could not begin. */
#include "cli/enter.h"

#include <glib/gi18n.h>
#include <string.h>
#include <unistd.h>

#include "cli/exec.h"
#include "cli/objects.h"
#include "cli/ssh.h"
#include "cli/vm-options.h"
#include "common/error.h"
#include "common/names.h"

/* Of the guest's own, whatever it has: the agent sets SHELL as the guest's /etc/passwd says. */
static const char *const login_shell[] = { "/bin/sh", "-c", "exec \"$SHELL\" -l", NULL };

typedef struct {
  const char *const *words;
  const char *user;
  char **environment;
  gboolean terminal, no_stdin;
  gboolean image; /* what the image says of a command holds */
} Wish;

static void
wish_clear (Wish *wish)
{
  g_strfreev (wish->environment);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Wish, wish_clear)

static gboolean
has_option (const BangerInvocation *invocation, const char *name)
{
  return banger_command_find_option (invocation->command, name, strlen (name)) != NULL;
}

static gboolean
flag (const BangerInvocation *invocation, const char *name)
{
  return has_option (invocation, name) && banger_invocation_flag (invocation, name);
}

/* "NAME": with the value that we have ourselves. Returns: (transfer full): %NULL with a usage error. */
static char **
read_environment (const BangerInvocation *invocation, GError **error)
{
  g_autoptr (GStrvBuilder) all = g_strv_builder_new ();
  const char *const *pairs = has_option (invocation, "env") ? banger_invocation_strv (invocation, "env")
                                                            : (const char *const[]){ NULL };
  for (; *pairs; pairs++) {
    const char *equals = strchr (*pairs, '='), *own = equals ? NULL : g_getenv (*pairs);
    if (equals == *pairs || **pairs == '\0') {
      banger_usage_error (error, _ ("--env '%s' has no name before the ="), *pairs);
      return NULL;
    }
    if (!equals && !own) {
      banger_usage_error (error, _ ("--env %s: there is no such variable here; give it a value: --env %s=VALUE"),
                          *pairs, *pairs);
      return NULL;
    }
    g_autofree char *pair = equals ? g_strdup (*pairs) : g_strdup_printf ("%s=%s", *pairs, own);
    g_strv_builder_add (all, pair);
  }
  return g_strv_builder_end (all);
}

static gboolean
read_wish (const BangerInvocation *invocation, Wish *wish, GError **error)
{
  gboolean terminals = isatty (STDIN_FILENO) && isatty (STDOUT_FILENO);
  wish->words = (const char *const *)invocation->tail;
  wish->user = has_option (invocation, "user") ? banger_invocation_string (invocation, "user") : NULL;
  wish->no_stdin = flag (invocation, "no-stdin");
  wish->terminal = flag (invocation, "tty") || (!wish->no_stdin && terminals);
  wish->environment = read_environment (invocation, error);
  if (!wish->environment)
    return FALSE;
  if (wish->no_stdin && flag (invocation, "interactive"))
    banger_usage_error (error, _ ("--interactive gives the command our stdin, --no-stdin an empty one"));
  else if (wish->user && (*wish->user == '\0' || !g_utf8_validate (wish->user, -1, NULL)))
    banger_usage_error (error, _ ("--user is the name or the number of a user in the guest"));
  else
    return TRUE;
  return FALSE;
}

int
banger_enter_check (const BangerInvocation *invocation, GError **error)
{
  g_auto (Wish) wish = { 0 };
  if (banger_ssh_words_check ((const char *const *)invocation->tail, error) < 0)
    return -1;
  return read_wish (invocation, &wish, error) ? 0 : -1;
}

static int
by_ssh (BangerClient *client, JsonObject *vm, const char *path, const char *cwd, const Wish *wish, GError **error)
{
  g_autoptr (BangerSshTarget) target = banger_ssh_target_new (vm, path, error);
  const BangerSshCommand command = {
    .terminal = !wish->words || wish->terminal, .cwd = cwd, .words = wish->words, .no_stdin = wish->no_stdin
  };
  int status;
  return target && banger_ssh_run (client, target, &command, &status, error) ? status : -1;
}

static int
by_agent (BangerClient *client, JsonObject *vm, const char *path, const char *cwd, const Wish *wish, GError **error)
{
  const BangerExecCommand command = {
    .name = banger_property_string (vm, "Name"),
    .path = path,
    .words = wish->words || wish->image ? wish->words : login_shell,
    .environment = (const char *const *)wish->environment,
    .cwd = cwd,
    .user = wish->user,
    .image_settings = wish->image,
    .terminal = wish->terminal,
    .no_stdin = wish->no_stdin,
  };
  int status;
  return banger_exec_run (client, &command, &status, error) ? status : -1;
}

/* Of an older banger: the VM's agent, or the manager, as one may be upgraded while the other runs. */
static gboolean
is_too_old (const GError *error)
{
  return g_error_matches (error, BANGER_ERROR, BANGER_ERROR_NOT_SUPPORTED)
         || g_error_matches (error, BANGER_ERROR, BANGER_ERROR_UNKNOWN_METHOD);
}

/* A shell is its owner's own, whatever the image says. An older manager says nothing of images, and does not know the word. */
static void
ask_image (JsonObject *vm, gboolean own_tree, Wish *wish)
{
  JsonArray *command = json_object_has_member (vm, "ImageCommand") ? json_object_get_array_member (vm, "ImageCommand")
                                                                   : NULL;
  wish->image = command && (wish->words || json_array_get_length (command) > 0);
  if (wish->image && own_tree && !wish->user)
    wish->user = "root";
}

/* Another user could not enter what is root's. */
static const char *
recorded_folder (JsonObject *vm, const BangerPlace *place, const Wish *wish)
{
  const char *folder = place->recorded && !place->cwd && !wish->user ? banger_property_string (vm, "WorkspaceFolder")
                                                                     : "";
  return *folder ? folder : NULL;
}

int
banger_enter (BangerClient *client, const char *name, const BangerPlace *place, const BangerInvocation *invocation,
              GError **error)
{
  g_auto (Wish) wish = { 0 };
  g_autofree char *path = NULL;
  g_autoptr (GError) failure = NULL;
  if (!read_wish (invocation, &wish, error))
    return -1;
  g_autoptr (JsonObject) vm = banger_objects_get (client, &banger_kind_vm, name, &path, error);
  if (!vm || !banger_vm_running_check (vm, error))
    return -1;
  gboolean sshd = strcmp (banger_property_string (vm, "SshServer"), BANGER_SSH_SERVER_MISSING) != 0;
  gboolean plain = !wish.user && !*wish.environment;
  const char *folder = recorded_folder (vm, place, &wish), *cwd = folder ? folder : place->cwd;
  if (folder && !flag (invocation, "quiet"))
    banger_workspace_tell_moved (vm);
  ask_image (vm, place->own_tree || folder, &wish);
  if (!wish.words && !wish.image && sshd && plain && !flag (invocation, "tty"))
    return by_ssh (client, vm, path, cwd, &wish, error);
  int status = by_agent (client, vm, path, cwd, &wish, &failure);
  if (status < 0 && sshd && is_too_old (failure) && plain)
    return by_ssh (client, vm, path, cwd, &wish, error);
  if (failure)
    g_propagate_error (error, g_steal_pointer (&failure));
  return status;
}

int
banger_enter_by_ssh (BangerClient *client, const char *name, const BangerInvocation *invocation, GError **error)
{
  g_auto (Wish) wish = { 0 };
  g_autofree char *path = NULL;
  if (!read_wish (invocation, &wish, error))
    return -1;
  g_autoptr (JsonObject) vm = banger_objects_get (client, &banger_kind_vm, name, &path, error);
  return vm ? by_ssh (client, vm, path, NULL, &wish, error) : -1;
}

/* vm cp: which way.
 * Called through the command table.
 * Never guesses which side is the guest's: it is the one with a colon. */
#include <glib/gi18n.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/cp.h"

/* As scp(1) tells them apart: a colon before any slash. */
static gboolean
is_of_guest (const char *word, gsize *ret_length)
{
  *ret_length = strcspn (word, ":/");
  return *ret_length > 0 && word[*ret_length] == ':';
}

static int
parse (const BangerInvocation *invocation, BangerCopy *copy, char **ret_name, gboolean *ret_in, GError **error)
{
  const char *from = banger_invocation_argument (invocation, 0), *to = banger_invocation_argument (invocation, 1);
  gsize length, other;
  gboolean out = is_of_guest (from, &length), in = is_of_guest (to, &other);
  if (in && out)
    return banger_usage_error (error, _ ("both '%s' and '%s' are in a VM: copy to the host first"), from, to);
  if (!in && !out)
    return banger_usage_error (error, _ ("neither '%s' nor '%s' is in a VM: a path there is written NAME:PATH"), from,
                               to);
  *ret_in = in;
  *ret_name = g_strndup (in ? to : from, in ? other : length);
  copy->from = g_strdup (out ? from + length + 1 : from);
  copy->to = g_strdup (in ? to + other + 1 : to);
  if (out && strcmp (to, "-") == 0 && isatty (STDOUT_FILENO))
    return banger_usage_error (error, _ ("a tar is not for a terminal: copy to a folder, or into a pipe or a file"));
  if (in && strcmp (from, "-") == 0 && isatty (STDIN_FILENO))
    return banger_usage_error (error, _ ("'-' reads a tar from stdin, which is a terminal"));
  return 0;
}

static void
copy_clear (BangerCopy *copy)
{
  banger_guest_clear (&copy->guest);
  g_free (copy->from);
  g_free (copy->to);
  g_clear_pointer (&copy->view, banger_progress_view_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (BangerCopy, copy_clear)

int
banger_vm_cp (const BangerInvocation *invocation, GError **error)
{
  g_auto (BangerCopy) copy = { .quiet = banger_invocation_flag (invocation, "quiet") };
  g_autofree char *name = NULL;
  gboolean in = FALSE;
  if (parse (invocation, &copy, &name, &in, error) < 0 || !banger_guest_find (&copy.guest, name, error))
    return -1;
  BangerProgressStyle style = banger_progress_style (copy.quiet);
  if (style == BANGER_PROGRESS_LIVE)
    copy.view = banger_progress_view_new (style, copy.guest.name);
  return (in ? banger_copy_in (&copy, error) : banger_copy_out (&copy, error)) ? 0 : -1;
}

/* vm workspace export: what changed in a guest's copy of a work tree.
 * Called through the command table.
 * Never writes on the host but what was named, and that only whole. */
#include "cli/workspace.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/output.h"
#include "common/error.h"
#include "common/log.h"

/* Of the guest, which may do anything else instead. $1: the folder, $2: what, $3: what it is also told. The index is a copy,
 * so that the guest's own is left alone; what git would run or read of its settings to show a diff is turned off, so
 * that it is a patch. */
static const char script[]
    = "cd -- \"$1\" || exit\n"
      "command -v git >/dev/null || { echo 'git is not installed in the guest' >&2; exit 1; }\n"
      "b=.git/banger\n"
      "[ -s $b/base ] || { echo \"it is not known what was sent into $1: git was not in the guest then, or its history "
      "stayed behind\" >&2; exit 1; }\n"
      "[ \"$2\" != applied ] || { [ ! -s $b/next ] || mv $b/next $b/applied; exit; }\n"
      "n=$b/base; case $2 in apply | sent | status) [ ! -s $b/applied ] || n=$b/applied ;; esac\n"
      "if [ \"$2\" = commits ]; then\n"
      "  r=--root; [ ! -s $b/head ] || r=$(cat $b/head)..; \n"
      "  [ $r != --root ] || r='--root HEAD'\n"
      "  exec git format-patch -q --stdout --binary --full-index --no-signature --no-ext-diff --no-textconv --no-color "
      "--src-prefix=a/ --dst-prefix=b/ $r\n"
      "fi\n"
      "i=$b/index.$$; trap 'rm -f \"$i\" \"$i.lock\"' EXIT; trap exit HUP INT TERM\n"
      "[ ! -f .git/index ] || cp .git/index \"$i\" || exit\n"
      "export GIT_INDEX_FILE=\"$PWD/$i\"\n"
      "git -c core.looseCompression=0 -c core.fsmonitor=false -c core.safecrlf=false -c advice.addEmbeddedRepo=false add -A "
      "--ignore-errors .\n"
      "s='--full-index --no-color --no-ext-diff --no-textconv --ignore-submodules=all --src-prefix=a/ --dst-prefix=b/'\n"
      "if [ \"$2\" = sent ]; then\n"
      "  h=$(cat $b/head 2>/dev/null) || h=$(git hash-object -t tree /dev/null); echo \"$h\"\n"
      "  git diff-index --cached --name-only -z --no-renames \"$(cat $n)\" -- | GIT_LITERAL_PATHSPECS=1 xargs -0r git "
      "diff-tree -p --binary --no-renames $s \"$h\" \"$(cat $n)\" --\n"
      "  exit\n"
      "fi\n"
      "if [ \"$2\" = status ]; then\n"
      "  h=$(cat $b/head 2>/dev/null)\n"
      "  printf '%s\\0%s\\0%s\\0' \"$h\" \"$(git rev-parse -q --verify HEAD)\" \"$(git rev-list --count ${h:+$h..}HEAD -- "
      "2>/dev/null)\"\n"
      "  git diff-index --cached --name-status -z -M --ignore-submodules=all \"$(cat $n)\" -- || exit\n"
      "  printf '\\0'; git ls-tree -r -z \"$(cat $n)\"\n"
      "  exit\n"
      "fi\n"
      "o=--binary; [ \"$2\" != text ] || o=; [ \"$2\" != apply ] || git write-tree >$b/next || rm -f $b/next\n"
      "git diff-index --cached -p $o -M $s \"$(cat $n)\" -- || exit\n"
      "git -c core.fsmonitor=false -c core.quotePath=false diff-index --raw --ignore-submodules=none \"$(cat $n)\" -- "
      "2>/dev/null | grep -E '^:(160000 [0-7]+|[0-7]+ 160000) ' | cut -f2- | while read -r p; do echo \"$p, a repository "
      "in it, has changes that stay behind\" >&2; done\n";

gboolean
banger_changes_write (BangerGuest *guest, BangerChanges what, int fd, guint64 max, gboolean quiet, GError **error)
{
  static const char *const words[] = { "patch", "text", "commits", "apply", "sent", "applied", "status" };
  const char *const arguments[] = { guest->folder, words[what], NULL };
  BangerExecEnds ends = { .in = -1, .out = fd, .max_out = max ? max : BANGER_CHANGES_MAX_BYTES };
  return banger_guest_script (guest, script, arguments, &ends, quiet, error);
}

static gboolean
output_open (BangerOutput *output, const char *path, GError **error)
{
  if (path)
    return banger_output_open (output, path, error);
  if (!isatty (STDOUT_FILENO))
    return TRUE;
  banger_usage_error (error,
                      _ ("a patch is not for a terminal: give -o FILE, or see it with `banger vm workspace diff`"));
  return FALSE;
}

static gboolean
fetch (BangerGuest *guest, BangerChanges what, FILE **ret_file, const BangerInvocation *invocation, GError **error)
{
  *ret_file = tmpfile ();
  if (!*ret_file)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot make a temporary file"));
  return banger_changes_write (guest, what, fileno (*ret_file), banger_invocation_number (invocation, "max-size"),
                               banger_invocation_flag (invocation, "quiet"), error);
}

/* @files: the patch and, to merge, what the guest says of the files as they were sent. */
static gssize
apply_to_host (BangerGuest *guest, FILE *files[2], const BangerInvocation *invocation, GError **error)
{
  gboolean merge = banger_invocation_flag (invocation, "3way");
  g_autofree char *what = g_strdup_printf (_ ("what was changed in %s"), guest->name);
  struct stat st;
  if (!fetch (guest, BANGER_CHANGES_APPLY, &files[0], invocation, error)
      || (merge && !fetch (guest, BANGER_CHANGES_SENT, &files[1], invocation, error)))
    return -1;
  if (fstat (fileno (files[0]), &st) == 0 && st.st_size == 0)
    return 0;
  const BangerPatch patch = { .fd = fileno (files[0]), .sent_fd = merge ? fileno (files[1]) : -1, .what = what };
  gssize count = banger_changes_apply (guest->workspace, &patch, error);
  /* The next one begins where this ended. A guest that does not say so has it refused then. */
  if (count >= 0)
    (void)banger_changes_write (guest, BANGER_CHANGES_APPLIED, -1, 0, TRUE, NULL);
  return count;
}

/* A patch is of use in one place alone: the tree that it came from. */
static int
apply (const BangerInvocation *invocation, GError **error)
{
  g_auto (BangerGuest) guest = { 0 };
  FILE *files[2] = { NULL, NULL };
  gssize count = -1;
  if (banger_guest_find_workspace (&guest, banger_invocation_argument (invocation, 0), error))
    count = apply_to_host (&guest, files, invocation, error);
  for (guint i = 0; i < G_N_ELEMENTS (files); i++)
    if (files[i])
      fclose (files[i]);
  if (count < 0)
    return -1;
  g_autofree char *shown = banger_log_escape (guest.workspace, PATH_MAX);
  if (banger_invocation_flag (invocation, "quiet"))
    return 0;
  if (count == 0)
    g_printerr (_ ("nothing has changed in %s that is not here\n"), guest.name);
  else
    g_printerr (g_dngettext (NULL, "%u file changed in %s\n", "%u files changed in %s\n", (gulong)count), (guint)count,
                shown);
  return 0;
}

static int
check_options (const BangerInvocation *invocation, GError **error)
{
  gboolean elsewhere = banger_invocation_flag (invocation, "commits")
                       || banger_invocation_string (invocation, "output");
  if (!banger_invocation_flag (invocation, "apply"))
    return banger_invocation_flag (invocation, "3way") ? banger_usage_error (error, _ ("--3way goes with --apply")) : 0;
  return elsewhere ? banger_usage_error (error, _ ("--apply goes neither with --output nor with --commits")) : 0;
}

int
banger_vm_workspace_export (const BangerInvocation *invocation, GError **error)
{
  g_auto (BangerGuest) guest = { 0 };
  g_auto (BangerOutput) output = { .fd = STDOUT_FILENO };
  gboolean quiet = banger_invocation_flag (invocation, "quiet");
  BangerChanges what = banger_invocation_flag (invocation, "commits") ? BANGER_CHANGES_COMMITS : BANGER_CHANGES_PATCH;
  if (check_options (invocation, error) < 0)
    return -1;
  if (banger_invocation_flag (invocation, "apply"))
    return apply (invocation, error);
  if (!output_open (&output, banger_invocation_string (invocation, "output"), error)
      || !banger_guest_find_workspace (&guest, banger_invocation_argument (invocation, 0), error)
      || !banger_changes_write (&guest, what, output.fd, banger_invocation_number (invocation, "max-size"), quiet,
                                error))
    return -1;
  struct stat st;
  gboolean empty = output.temporary && fstat (output.fd, &st) == 0 && st.st_size == 0;
  if (empty && !quiet)
    g_printerr (what == BANGER_CHANGES_COMMITS ? _ ("no commits were made in %s\n") : _ ("nothing has changed in %s\n"),
                guest.name);
  return banger_output_finish (&output, error) ? 0 : -1;
}

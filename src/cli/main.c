/* banger: the command line.
 * Started by people, scripts and agents.
 * Never does what another client of org.banger.Manager could not. */
#include <errno.h>
#include <glib/gi18n.h>
#include <locale.h>
#include <stdio.h>

#include "cli/app.h"
#include "cli/terminal.h"
#include "common/std-fds.h"

int
main (int argc, char **argv)
{
  banger_std_fds_fill ();
  setlocale (LC_ALL, "");
  bindtextdomain (GETTEXT_PACKAGE, BANGER_LOCALEDIR);
  bind_textdomain_codeset (GETTEXT_PACKAGE, "UTF-8");
  textdomain (GETTEXT_PACKAGE);
  banger_terminal_guard ();
  int status = banger_app_run ((const char *const *)argv + 1);
  gboolean lost = ferror (stdout) != 0;
  if (fflush (stdout) == 0 && !lost)
    return status;
  g_printerr (_ ("banger: cannot write to stdout: %s\n"), g_strerror (errno));
  return status == 0 ? 1 : status;
}

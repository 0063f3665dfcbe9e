/* banger: the command line.
 * Started by people, scripts and agents.
 * Never does what another client of org.banger.Manager could not. */
#include <glib/gi18n.h>
#include <locale.h>

#include "cli/app.h"

int
main (int argc, char **argv)
{
  setlocale (LC_ALL, "");
  bindtextdomain (GETTEXT_PACKAGE, BANGER_LOCALEDIR);
  bind_textdomain_codeset (GETTEXT_PACKAGE, "UTF-8");
  textdomain (GETTEXT_PACKAGE);
  return banger_app_run ((const char *const *)argv + 1);
}

/* bangerd-root: the root helper of banger.
 * Started by systemd, or by scripts/dev-stack.
 * Never runs on a configuration that others than root can write. */
#include <signal.h>
#include <stdio.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/log.h"
#include "common/std-fds.h"
#include "privileged/helper.h"

typedef struct {
  char *config;
  gboolean version;
} Options;

static gboolean
read_options (int argc, char **argv, Options *options, GError **error)
{
  const GOptionEntry entries[] = {
    { "config", 0, 0, G_OPTION_ARG_FILENAME, &options->config, "install metadata to use", "FILE" },
    { "version", 0, 0, G_OPTION_ARG_NONE, &options->version, "print the version", NULL },
    { NULL },
  };
  g_autoptr (GOptionContext) context = g_option_context_new (NULL);
  g_option_context_add_main_entries (context, entries, NULL);
  g_option_context_set_summary (context,
                                "The root helper of banger. It serves org.banger.Privileged on the system bus.");
  if (!g_option_context_parse (context, &argc, &argv, error))
    return FALSE;
  return argc == 1 || banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "unexpected argument '%s'", argv[1]);
}

static int
run (const char *config, GError **error)
{
  if (geteuid () != 0) {
    banger_set_error (error, BANGER_ERROR_ACCESS_DENIED, "bangerd-root must be started by root");
    return EXIT_FAILURE;
  }
  g_autoptr (BangerInstall) install = banger_install_load_trusted (config, error);
  if (!install)
    return EX_CONFIG; /* the unit does not try it again */
  if (!banger_root_drop_privileges (error))
    return EXIT_FAILURE;
  g_autoptr (BangerRoot) root = banger_root_open (install, error);
  return root ? banger_helper_run (root) : EXIT_FAILURE;
}

int
main (int argc, char **argv)
{
  Options options = { 0 };
  g_autoptr (GError) error = NULL;
  banger_std_fds_fill ();
  banger_std_fds_raise ();
  signal (SIGPIPE, SIG_IGN); /* whoever read our log may go */
  g_set_prgname ("bangerd-root");
  banger_log_init ("bangerd-root");
  if (!read_options (argc, argv, &options, &error)) {
    fprintf (stderr, "bangerd-root: %s\n", error->message);
    return 2;
  }
  g_autofree char *config = options.config;
  if (options.version) {
    printf ("bangerd-root %s\n", BANGER_VERSION);
    return 0;
  }
  int status = run (config, &error);
  if (error)
    banger_log (LOG_ERR, NULL, "%s", error->message);
  return status;
}

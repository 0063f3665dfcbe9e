/* banger-vmm-qemu: Firecracker's command line and API in front of QEMU's microvm.
 * Never started by hand as root. */
#include <glib-unix.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "common/std-fds.h"
#include "engine/api.h"
#include "engine/engine-log.h"
#include "engine/host.h"
#include "engine/metrics.h"

/* Firecracker's FcExitCode. */
#define EXIT_ARGUMENTS 153
#define EXIT_CONFIGURATION 152

#define DEFAULT_SOCKET "/run/firecracker.socket"
#define DEFAULT_QEMU "/usr/bin/qemu-system-x86_64"
#define DEFAULT_MAX_BODY 51200

typedef struct {
  char *api_sock, *id, *config_file, *log_path, *level, *module, *metrics_path, *qemu, *tap, *memory_file;
  char *ignored;
  gint64 max_body, ignored_number;
  gboolean no_api, show_level, show_log_origin, version, ignored_flag;
} Options;

typedef struct {
  GMainLoop *loop;
  BangerInstance *instance;
  BangerApi *api;
  int status;
  int signal; /* that ended us, or 0 */
} Vmm;

static gboolean
parse_options (int *argc, char ***argv, Options *options, GError **error)
{
  const GOptionEntry entries[] = {
    { "api-sock", 0, 0, G_OPTION_ARG_FILENAME, &options->api_sock, "Unix socket of the API", "PATH" },
    { "id", 0, 0, G_OPTION_ARG_STRING, &options->id, "Identifier of the microVM", "ID" },
    { "config-file", 0, 0, G_OPTION_ARG_FILENAME, &options->config_file, "Configuration (JSON) to start at once",
      "PATH" },
    { "no-api", 0, 0, G_OPTION_ARG_NONE, &options->no_api, "No API socket; needs --config-file", NULL },
    { "log-path", 0, 0, G_OPTION_ARG_FILENAME, &options->log_path, "Log file or pipe", "PATH" },
    { "level", 0, 0, G_OPTION_ARG_STRING, &options->level, "Error, Warning, Info, Debug, Trace or Off", "LEVEL" },
    { "module", 0, 0, G_OPTION_ARG_STRING, &options->module, "Accepted, without effect", "MODULE" },
    { "show-level", 0, 0, G_OPTION_ARG_NONE, &options->show_level, "Level in each log line", NULL },
    { "show-log-origin", 0, 0, G_OPTION_ARG_NONE, &options->show_log_origin, "Accepted, without effect", NULL },
    { "metrics-path", 0, 0, G_OPTION_ARG_FILENAME, &options->metrics_path, "Metrics file or pipe", "PATH" },
    { "http-api-max-payload-size", 0, 0, G_OPTION_ARG_INT64, &options->max_body, "Largest request body", "BYTES" },
    { "qemu", 0, 0, G_OPTION_ARG_FILENAME, &options->qemu, "QEMU to run (" DEFAULT_QEMU ")", "PATH" },
    { "tap", 0, 0, G_OPTION_ARG_STRING, &options->tap, "Inherited descriptor of a tap", "NAME:NUMBER" },
    { "memory-file", 0, 0, G_OPTION_ARG_FILENAME, &options->memory_file, "File that shall be the guest's memory",
      "PATH" },
    { "version", 0, 0, G_OPTION_ARG_NONE, &options->version, "Print the version", NULL },
    { "boot-timer", 0, 0, G_OPTION_ARG_NONE, &options->ignored_flag, "Accepted, without effect", NULL },
    { "no-seccomp", 0, 0, G_OPTION_ARG_NONE, &options->ignored_flag, "Accepted, without effect", NULL },
    { "seccomp-filter", 0, 0, G_OPTION_ARG_FILENAME, &options->ignored, "Accepted, without effect", "PATH" },
    { "start-time-us", 0, 0, G_OPTION_ARG_INT64, &options->ignored_number, "From the jailer", "US" },
    { "start-time-cpu-us", 0, 0, G_OPTION_ARG_INT64, &options->ignored_number, "From the jailer", "US" },
    { "parent-cpu-time-us", 0, 0, G_OPTION_ARG_INT64, &options->ignored_number, "From the jailer", "US" },
    { NULL, 0, 0, G_OPTION_ARG_NONE, NULL, NULL, NULL },
  };
  g_autoptr (GOptionContext) context = g_option_context_new (NULL);
  g_option_context_set_summary (context, "Serves Firecracker's API " BANGER_FIRECRACKER_API_VERSION
                                         " in front of QEMU's microvm machine.");
  g_option_context_add_main_entries (context, entries, NULL);
  if (!g_option_context_parse (context, argc, argv, error))
    return FALSE;
  if (*argc > 1) {
    g_set_error (error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "Found argument '%s' which wasn't expected.",
                 (*argv)[1]);
    return FALSE;
  }
  if (options->no_api && !options->config_file) {
    g_set_error_literal (error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "--no-api needs --config-file");
    return FALSE;
  }
  return !options->tap || banger_host_set_tap (options->tap, error);
}

static gboolean
check_instance_id (const char *id, GError **error)
{
  size_t length = strlen (id);
  gboolean ok = length >= 1 && length <= 64;
  for (const char *c = id; ok && *c != '\0'; c++)
    ok = *c == '-' || g_ascii_isalnum (*c);
  if (!ok)
    g_set_error (error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                 "Invalid instance ID '%s': 1 to 64 letters, digits and hyphens are wanted", id);
  return ok;
}

static void
clear_options (Options *options)
{
  char **strings[] = { &options->api_sock, &options->id,      &options->config_file, &options->log_path,
                       &options->level,    &options->qemu,    &options->module,      &options->metrics_path,
                       &options->tap,      &options->ignored, &options->memory_file };
  for (size_t i = 0; i < G_N_ELEMENTS (strings); i++)
    g_clear_pointer (strings[i], g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Options, clear_options)

static gboolean
quit (gpointer data)
{
  Vmm *vmm = data;
  g_main_loop_quit (vmm->loop);
  return G_SOURCE_REMOVE;
}

static void
handle_ended (int status, gpointer data)
{
  Vmm *vmm = data;
  vmm->status = status;
  if (vmm->api)
    banger_api_drain (vmm->api, quit, vmm);
  else
    quit (vmm);
}

static gboolean
end_by_signal (Vmm *vmm, int number)
{
  vmm->signal = number;
  g_main_loop_quit (vmm->loop);
  return G_SOURCE_CONTINUE;
}

static gboolean
handle_term (gpointer data)
{
  return end_by_signal (data, SIGTERM);
}

static gboolean
handle_int (gpointer data)
{
  return end_by_signal (data, SIGINT);
}

static gboolean
handle_hup (gpointer data)
{
  return end_by_signal (data, SIGHUP);
}

static void
handle_config_started (const GError *error, gpointer data)
{
  Vmm *vmm = data;
  if (!error)
    return;
  fprintf (stderr, "%s\n", error->message);
  vmm->status = 1;
  g_main_loop_quit (vmm->loop);
}

static gboolean
configure_files (const Options *options, BangerInstance *instance, GError **error)
{
  BangerVmConfig *config = banger_instance_config (instance);
  BangerLoggerConfig *logger = &config->logger;
  logger->log_path = g_strdup (options->log_path);
  logger->level = g_strdup (options->level);
  logger->show_level = options->show_level ? 1 : -1;
  if (!banger_vmm_log_configure (logger, error))
    return FALSE;
  config->metrics.metrics_path = g_strdup (options->metrics_path);
  return !options->metrics_path || banger_vmm_metrics_configure (&config->metrics, error);
}

static gboolean
apply_config_file (const char *path, BangerInstance *instance, GError **error)
{
  g_autofree char *text = NULL;
  gsize length = 0;
  if (!g_file_get_contents (path, &text, &length, error))
    return FALSE;
  g_autoptr (JsonNode) root = banger_body_parse (text, length, error);
  return root && banger_api_apply_config (instance, root, error);
}

static int
fail (const GError *error, int status)
{
  vmm_error ("%s", error->message);
  fprintf (stderr, "Error: %s\n", error->message);
  return status;
}

static int
run (Vmm *vmm, const Options *options)
{
  g_autoptr (GError) error = NULL;
  if (!configure_files (options, vmm->instance, &error))
    return fail (error, EXIT_CONFIGURATION);
  vmm_info ("Running " BANGER_VMM_APP_NAME " v" BANGER_VERSION);
  if (options->config_file && !apply_config_file (options->config_file, vmm->instance, &error))
    return fail (error, EXIT_CONFIGURATION);
  if (!options->no_api) {
    gsize max_body = options->max_body > 0 ? (gsize)options->max_body : DEFAULT_MAX_BODY;
    vmm->api = banger_api_new (vmm->instance, options->api_sock ? options->api_sock : DEFAULT_SOCKET, max_body, &error);
    if (!vmm->api)
      return fail (error, 1);
  }
  if (options->config_file)
    banger_instance_start (vmm->instance, handle_config_started, vmm);
  g_unix_signal_add (SIGTERM, handle_term, vmm);
  g_unix_signal_add (SIGINT, handle_int, vmm);
  g_unix_signal_add (SIGHUP, handle_hup, vmm);
  g_main_loop_run (vmm->loop);
  return vmm->status;
}

/* Dies of the signal that asked for it, as Firecracker does. */
static void
raise_default (int number)
{
  sigset_t set;
  signal (number, SIG_DFL);
  sigemptyset (&set);
  sigaddset (&set, number);
  sigprocmask (SIG_UNBLOCK, &set, NULL);
  raise (number);
}

int
main (int argc, char **argv)
{
  g_auto (Options) options = { 0 };
  g_autoptr (GError) error = NULL;
  banger_host_tsc_mark ();
  banger_std_fds_fill ();
  signal (SIGPIPE, SIG_IGN);
  if (!parse_options (&argc, &argv, &options, &error)
      || !check_instance_id (options.id ? options.id : "anonymous-instance", &error))
  {
    fprintf (stderr, "Arguments parsing error: %s\n", error->message);
    return EXIT_ARGUMENTS;
  }
  if (options.version) {
    printf (BANGER_VMM_APP_NAME " v" BANGER_VERSION " (Firecracker API v" BANGER_FIRECRACKER_API_VERSION ")\n");
    return EXIT_SUCCESS;
  }
  const char *id = options.id ? options.id : "anonymous-instance";
  banger_vmm_log_init (id);
  Vmm vmm = { .loop = g_main_loop_new (NULL, FALSE) };
  vmm.instance = banger_instance_new (id, options.qemu ? options.qemu : DEFAULT_QEMU, handle_ended, &vmm);
  banger_instance_set_memory_file (vmm.instance, options.memory_file);
  int status = run (&vmm, &options);
  banger_instance_kill (vmm.instance);
  g_clear_pointer (&vmm.api, banger_api_free);
  banger_instance_free (vmm.instance);
  g_main_loop_unref (vmm.loop);
  vmm_info ("exiting with status %d", status);
  if (vmm.signal == 0)
    return status;
  raise_default (vmm.signal);
  return 128 + vmm.signal; /* the first process of a PID namespace cannot end itself by a signal */
}

/* Arguments, process and output of mmdebstrap(1).
 * Never leaves a process or a temporary directory behind. */
#include "manager/image/mmdebstrap.h"

#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/folder.h"
#include "common/pidfd.h"
#include "common/safe-path.h"
#include "manager/core/program.h"

#define TAIL_LINES 12u
#define TAIL_LINE_BYTES 300
#define MAX_ANSWER (4u << 20) /* of a program that is asked something */
#define MAX_SECONDS 600
#define TERM_PATIENCE_MS 20000
#define KILL_PATIENCE_MS 10000
#define EXIT_PATIENCE_MS 120000
#define SUBIDS 65536u
#define TEMPORARY_DIR "/var/tmp"
#define TEMPORARY_PREFIX "banger-image-"
#define TEMPORARY TEMPORARY_DIR "/" TEMPORARY_PREFIX "XXXXXX"
#define PROGRAM_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static const char *const dpkg_options[] = {
  "path-exclude=/usr/share/man/*",     "path-exclude=/usr/share/info/*",
  "path-exclude=/usr/share/doc/*",     "path-include=/usr/share/doc/*/copyright",
  "path-exclude=/usr/share/locale/*",  "path-include=/usr/share/locale/locale.alias",
  "path-exclude=/usr/share/lintian/*",
};

struct BangerMmdebstrap {
  GPid pid;
  int pidfd, tar_fd, stderr_fd;
  char *temporary;
  int temporary_fd; /* holds its lock: it is in use */
  BangerProgress progress;
  gpointer progress_data;
  BangerImageStage stage;
  gpointer stage_data;
  GThread *reader;
  gint stop; /* atomic: the process has ended */
  GMutex lock;
  GQueue tail;                  /* of char *, under the lock */
  guint step, events, expected; /* reader only */
  double fraction;
};

/* Arguments */

static gboolean
only_of (const char *text, const char *first, const char *more, size_t max)
{
  size_t n = strlen (text);
  return n > 0 && n <= max && strchr (first, text[0]) && strspn (text, more) == n;
}

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define DIGITS "0123456789"

static gboolean
check_options (const BangerImageBuildOptions *options, GError **error)
{
  if (options->suite && !only_of (options->suite, LOWER, LOWER DIGITS "-", 32))
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "suite '%s' is no name of a Debian release",
                             options->suite);
  if (options->mirror
      && ((!g_str_has_prefix (options->mirror, "http://") && !g_str_has_prefix (options->mirror, "https://"))
          || strpbrk (options->mirror, " \t\n\"'[]\\|") != NULL || strlen (options->mirror) > 400))
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "mirror '%s' is no http:// or https:// address",
                             options->mirror);
  for (guint i = 0; options->packages && options->packages[i]; i++)
    if (!only_of (options->packages[i], LOWER DIGITS, LOWER DIGITS "+-.", 100))
      return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "'%s' is no name of a Debian package",
                               options->packages[i]);
  return TRUE;
}

/* What a helper program of apt says; NULL if it cannot be asked. */
static char *
ask (const char *const *argv)
{
  const BangerProgram program = { .argv = argv, .max_output = MAX_ANSWER, .seconds = MAX_SECONDS };
  return banger_program_run (&program, NULL, NULL);
}

/* Debian's own sources of @suite among those of the host, as lines of sources.list(5); empty if there are none. */
static GPtrArray *
host_sources (const char *suite)
{
  static const char *const argv[] = { "apt-get",
                                      "indextargets",
                                      "--format",
                                      "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)|$(TRUSTED)",
                                      "Created-By: Packages",
                                      NULL };
  GPtrArray *lines = g_ptr_array_new_with_free_func (g_free);
  g_autofree char *text = ask (argv);
  g_auto (GStrv) rows = text ? g_strsplit (text, "\n", -1) : NULL;
  gboolean has_main = FALSE;
  for (guint i = 0; rows && rows[i]; i++) {
    g_auto (GStrv) field = g_strsplit (rows[i], "|", -1);
    if (g_strv_length (field) != 5 || strcmp (field[3], "Debian") != 0 || strcmp (field[4], "yes") != 0
        || !g_str_has_prefix (field[0], "http"))
      continue;
    const char *pocket = g_str_has_prefix (field[1], suite) ? field[1] + strlen (suite) : NULL;
    if (!pocket || (*pocket != '\0' && strcmp (pocket, "-updates") != 0 && strcmp (pocket, "-security") != 0))
      continue;
    has_main |= *pocket == '\0' && strcmp (field[2], "main") == 0;
    g_autofree char *line = g_strdup_printf ("deb %s %s %s", field[0], field[1], field[2]);
    if (!g_ptr_array_find_with_equal_func (lines, line, g_str_equal, NULL))
      g_ptr_array_add (lines, g_steal_pointer (&line));
  }
  if (!has_main)
    g_ptr_array_set_size (lines, 0);
  return lines;
}

/* mmdebstrap runs apt with a configuration of its own: hand the host's proxies over. */
static void
add_proxies (GPtrArray *argv)
{
  static const char *const command[] = { "apt-config", "dump", "--format", "%f %v%n", "Acquire", NULL };
  g_autofree char *text = ask (command);
  g_auto (GStrv) lines = text ? g_strsplit (text, "\n", -1) : NULL;
  for (guint i = 0; lines && lines[i]; i++) {
    g_auto (GStrv) pair = g_strsplit (lines[i], " ", 2);
    if (g_strv_length (pair) == 2 && strstr (pair[0], "::Proxy") && pair[1][0] != '\0'
        && strpbrk (lines[i], "\"';{}\\") == NULL)
      g_ptr_array_add (argv, g_strdup_printf ("--aptopt=%s \"%s\"", pair[0], pair[1]));
  }
}

GResource *banger_golden_get_resource (void); /* made of golden.gresource.xml */

/* What the golden image is made of: files beside this one, which are part of the program. */
static char *
golden (const char *name)
{
  g_autofree char *path = g_strconcat ("/org/banger/manager/", name, NULL);
  g_autoptr (GBytes) bytes = g_resource_lookup_data (banger_golden_get_resource (), path, 0, NULL);
  g_assert (bytes);
  return g_strndup (g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes));
}

static char *
join_packages (const BangerImageBuildOptions *options)
{
  g_autofree char *packages = g_strdelimit (g_strchomp (golden ("golden-packages")), "\n", ',');
  g_autoptr (GString) out = g_string_new ("--include=");
  g_string_append (out, packages);
  for (guint i = 0; options->packages && options->packages[i]; i++)
    g_string_append_printf (out, ",%s", options->packages[i]);
  return g_string_free (g_steal_pointer (&out), FALSE);
}

char **
banger_mmdebstrap_arguments (const BangerImageBuildOptions *options, GError **error)
{
  if (!check_options (options, error))
    return NULL;
  static const char *const fixed[] = { "mmdebstrap",     "--verbose",
                                       "--mode=unshare", "--variant=essential",
                                       "--format=tar",   "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr" };
  const char *suite = options->suite ? options->suite : BANGER_IMAGE_DEFAULT_SUITE;
  g_autoptr (GPtrArray) argv = g_ptr_array_new_with_free_func (g_free);
  for (guint i = 0; i < G_N_ELEMENTS (fixed); i++)
    g_ptr_array_add (argv, g_strdup (fixed[i]));
  for (guint i = 0; i < G_N_ELEMENTS (dpkg_options); i++)
    g_ptr_array_add (argv, g_strconcat ("--dpkgopt=", dpkg_options[i], NULL));
  g_ptr_array_add (argv, join_packages (options));
  g_autofree char *script = golden ("golden.sh");
  g_ptr_array_add (argv, g_strconcat ("--customize-hook=", script, NULL));
  add_proxies (argv);
  g_ptr_array_add (argv, g_strdup (suite));
  g_ptr_array_add (argv, g_strdup ("-"));
  if (options->mirror)
    g_ptr_array_add (argv, g_strdup_printf ("deb %s %s main", options->mirror, suite));
  else {
    g_autoptr (GPtrArray) sources = host_sources (suite);
    for (guint i = 0; i < sources->len; i++)
      g_ptr_array_add (argv, g_strdup (g_ptr_array_index (sources, i)));
  }
  g_ptr_array_add (argv, NULL);
  return (char **)g_ptr_array_free (g_steal_pointer (&argv), FALSE);
}

/* Progress from what it writes: a line starts a step, others count within it */

static const struct {
  const char *line;
  const char *stage;
  double from, to;   /* measured on a machine with a near mirror */
  guint per_package; /* counted lines for each package */
} steps[] = {
  { "", "starting mmdebstrap", 0.00, 0.01, 0 },
  { "I: running apt-get update", "reading package lists", 0.01, 0.08, 0 },
  { "I: downloading packages with apt", "downloading the base system", 0.08, 0.15, 1 },
  { "I: extracting archives", "unpacking the base system", 0.15, 0.22, 0 },
  { "I: installing essential packages", "installing the base system", 0.22, 0.50, 2 },
  { "I: installing remaining packages", "installing packages", 0.50, 0.95, 3 },
  { "I: running --customize-hook", "trimming", 0.95, 0.97, 0 },
  { "I: creating tarball", "writing the file system", 0.97, 1.00, 0 },
};

static void
report (BangerMmdebstrap *run, double fraction)
{
  if (fraction <= run->fraction)
    return;
  run->fraction = fraction;
  if (run->progress)
    run->progress (fraction, run->progress_data);
}

static void
follow_line (BangerMmdebstrap *run, const char *line)
{
  for (guint i = run->step + 1; i < G_N_ELEMENTS (steps); i++)
    if (g_str_has_prefix (line, steps[i].line)) {
      run->step = i;
      run->events = 0;
      if (run->stage)
        run->stage (steps[i].stage, run->stage_data);
      report (run, steps[i].from);
      return;
    }
  const char *count = strstr (line, " upgraded, ");
  if (count)
    run->expected = (guint)g_ascii_strtoull (count + strlen (" upgraded, "), NULL, 10);
  if (g_str_has_prefix (line, "Get:") || g_str_has_prefix (line, "Unpacking ")
      || g_str_has_prefix (line, "Setting up "))
    run->events++;
  guint total = run->expected * steps[run->step].per_package;
  if (total > 0)
    report (run, steps[run->step].from
                     + (steps[run->step].to - steps[run->step].from) * MIN (1.0, (double)run->events / total));
}

static void
keep_line (BangerMmdebstrap *run, const char *line)
{
  g_autofree char *valid = g_utf8_make_valid (line, (gssize)MIN (strlen (line), TAIL_LINE_BYTES));
  g_mutex_lock (&run->lock);
  g_queue_push_tail (&run->tail, g_steal_pointer (&valid));
  if (run->tail.length > TAIL_LINES)
    g_free (g_queue_pop_head (&run->tail));
  g_mutex_unlock (&run->lock);
}

static void
take_lines (BangerMmdebstrap *run, GString *pending)
{
  char *end;
  while ((end = strpbrk (pending->str, "\r\n"))) {
    *end = '\0';
    if (pending->str[0] != '\0') {
      follow_line (run, pending->str);
      keep_line (run, pending->str);
    }
    g_string_erase (pending, 0, end + 1 - pending->str);
  }
  if (pending->len > 65536) /* no line: forget it */
    g_string_truncate (pending, 0);
}

static gpointer
read_stderr (gpointer data)
{
  BangerMmdebstrap *run = data;
  g_autoptr (GString) pending = g_string_new (NULL);
  char buffer[4096];
  for (;;) {
    struct pollfd pollfd = { .fd = run->stderr_fd, .events = POLLIN };
    if (poll (&pollfd, 1, 500) == 0 && g_atomic_int_get (&run->stop))
      return NULL;
    if (pollfd.revents == 0)
      continue;
    ssize_t n = read (run->stderr_fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return NULL;
    for (ssize_t i = 0; i < n; i++)
      if (buffer[i] == '\0')
        buffer[i] = ' ';
    g_string_append_len (pending, buffer, n);
    take_lines (run, pending);
  }
}

char *
banger_mmdebstrap_stderr_tail (BangerMmdebstrap *run)
{
  g_autoptr (GString) out = g_string_new (NULL);
  g_mutex_lock (&run->lock);
  for (GList *item = run->tail.head; item; item = item->next)
    g_string_append_printf (out, "%s%s", out->len > 0 ? "\n" : "", (const char *)item->data);
  g_mutex_unlock (&run->lock);
  return g_string_free (g_steal_pointer (&out), FALSE);
}

/* Process */

/* It would work on for a minute for a bangerd that was killed. The thread that starts it waits for its end. */
static void
own_group (gpointer data)
{
  setpgid (0, 0);
  prctl (PR_SET_PDEATHSIG, SIGTERM);
}

static char **
environment (const char *temporary)
{
  char **env = g_get_environ ();
  env = g_environ_setenv (env, "PATH", PROGRAM_PATH, TRUE);
  env = g_environ_setenv (env, "LC_ALL", "C.UTF-8", TRUE);
  env = g_environ_setenv (env, "TMPDIR", temporary, TRUE);
  return g_environ_unsetenv (env, "APT_CONFIG");
}

static BangerMmdebstrap *
run_new (const BangerImageBuildOptions *options, BangerProgress progress, gpointer progress_data)
{
  BangerMmdebstrap *run = g_new0 (BangerMmdebstrap, 1);
  run->pidfd = run->tar_fd = run->stderr_fd = run->temporary_fd = -1;
  run->progress = progress;
  run->progress_data = progress_data;
  run->stage = options->stage;
  run->stage_data = options->stage_data;
  g_mutex_init (&run->lock);
  g_queue_init (&run->tail);
  return run;
}

static void
run_free (BangerMmdebstrap *run)
{
  banger_clear_fd (&run->pidfd);
  banger_clear_fd (&run->tar_fd);
  banger_clear_fd (&run->stderr_fd);
  banger_clear_fd (&run->temporary_fd);
  if (run->temporary)
    rmdir (run->temporary);
  g_free (run->temporary);
  g_queue_clear_full (&run->tail, g_free);
  g_mutex_clear (&run->lock);
  g_free (run);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerMmdebstrap, run_free)

static gboolean
spawn (BangerMmdebstrap *run, char **argv, GError **error)
{
  g_autoptr (GError) failure = NULL;
  g_auto (GStrv) env = environment (run->temporary);
  if (!g_spawn_async_with_pipes_and_fds (
          "/", (const char *const *)argv, (const char *const *)env,
          G_SPAWN_SEARCH_PATH_FROM_ENVP | G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_CLOEXEC_PIPES, own_group, NULL, -1, -1,
          -1, NULL, NULL, 0, &run->pid, NULL, &run->tar_fd, &run->stderr_fd, &failure))
    return banger_set_error (error, BANGER_ERROR_FAILED, "cannot run mmdebstrap: %s", failure->message);
  run->pidfd = banger_pidfd_open (run->pid);
  return TRUE;
}

BangerMmdebstrap *
banger_mmdebstrap_start (const BangerImageBuildOptions *options, BangerProgress progress, gpointer progress_data,
                         int *ret_tar_fd, GError **error)
{
  g_auto (GStrv) argv = banger_mmdebstrap_arguments (options, error);
  if (!argv)
    return NULL;
  g_autoptr (BangerMmdebstrap) run = run_new (options, progress, progress_data);
  g_autofree char *temporary = g_strdup (TEMPORARY);
  /* Below it mmdebstrap works as subordinate ids, which must be able to pass. */
  if (!g_mkdtemp_full (temporary, 0711)) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make a directory in /var/tmp");
    return NULL;
  }
  run->temporary = g_steal_pointer (&temporary);
  run->temporary_fd = open (run->temporary, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (run->temporary_fd < 0 || flock (run->temporary_fd, LOCK_EX | LOCK_NB) < 0 || chmod (run->temporary, 0711) < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot use %s", run->temporary);
    return NULL;
  }
  if (!spawn (run, argv, error))
    return NULL;
  run->reader = g_thread_new ("mmdebstrap", read_stderr, run);
  *ret_tar_fd = run->tar_fd;
  return g_steal_pointer (&run);
}

static gboolean
ended (const BangerMmdebstrap *run, int patience_ms)
{
  struct pollfd pollfd = { .fd = run->pidfd, .events = POLLIN };
  gint64 deadline = g_get_monotonic_time () + patience_ms * G_GINT64_CONSTANT (1000);
  for (gint64 left = patience_ms; left >= 0; left = (deadline - g_get_monotonic_time ()) / 1000)
    if (poll (&pollfd, 1, (int)left) > 0)
      return TRUE;
  return FALSE;
}

/* The process is not reaped yet, so that the group's number is still its own. */
static void
end_group (BangerMmdebstrap *run)
{
  kill (-run->pid, SIGTERM);
  ended (run, TERM_PATIENCE_MS);
  kill (-run->pid, SIGKILL);
  ended (run, KILL_PATIENCE_MS);
}

/* What a killed mmdebstrap left is ours or, below its root, of subordinate ids: those only its own helper can remove,
 * and that helper has no power over what is ours. */
static void
remove_leftovers (const char *temporary)
{
  if (rmdir (temporary) == 0 || errno == ENOENT)
    return;
  banger_autofd int fd = open (temporary, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  banger_autofolder DIR *dir = fd < 0 ? NULL : banger_folder_open (fd, ".");
  for (const struct dirent *entry; (entry = banger_folder_next (dir));) {
    const char *name = entry->d_name;
    if (banger_safe_remove_tree (fd, name, NULL))
      continue;
    g_autofree char *path = g_build_filename (temporary, name, NULL);
    const char *const argv[] = { "mmdebstrap", "--unshare-helper", "rm", "-rf", "--one-file-system", "--", path, NULL };
    g_autofree char *text = ask (argv);
    banger_safe_remove_tree (fd, name, NULL);
  }
  rmdir (temporary);
}

typedef struct {
  char *path;
  int fd; /* holds its lock */
} Leftover;

static void
leftover_free (gpointer data)
{
  Leftover *leftover = data;
  banger_clear_fd (&leftover->fd);
  g_free (leftover->path);
  g_free (leftover);
}

static gpointer
sweep (gpointer data)
{
  g_autoptr (GPtrArray) leftovers = data;
  for (guint i = 0; i < leftovers->len; i++)
    remove_leftovers (((Leftover *)leftovers->pdata[i])->path);
  return NULL;
}

GThread *
banger_mmdebstrap_sweep (void)
{
  g_autoptr (GPtrArray) leftovers = g_ptr_array_new_with_free_func (leftover_free);
  banger_autofolder DIR *dir = banger_folder_open (AT_FDCWD, TEMPORARY_DIR);
  for (const struct dirent *entry; (entry = banger_folder_next (dir));) {
    struct stat st;
    if (!g_str_has_prefix (entry->d_name, TEMPORARY_PREFIX))
      continue;
    g_autofree char *path = g_build_filename (TEMPORARY_DIR, entry->d_name, NULL);
    banger_autofd int fd = open (path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat (fd, &st) < 0 || st.st_uid != geteuid () || flock (fd, LOCK_EX | LOCK_NB) < 0)
      continue;
    Leftover *leftover = g_new0 (Leftover, 1);
    leftover->path = g_steal_pointer (&path);
    leftover->fd = banger_steal_fd (&fd);
    g_ptr_array_add (leftovers, leftover);
  }
  return leftovers->len == 0 ? NULL : g_thread_new ("sweep", sweep, g_steal_pointer (&leftovers));
}

gboolean
banger_mmdebstrap_end (BangerMmdebstrap *run_owned, gboolean abandon, GError **error)
{
  g_autoptr (BangerMmdebstrap) run = run_owned;
  int status = 0;
  gboolean late = FALSE;
  banger_clear_fd (&run->tar_fd); /* whoever still writes ends */
  if (!abandon)
    late = !ended (run, EXIT_PATIENCE_MS);
  if (abandon || late)
    end_group (run);
  waitpid (run->pid, &status, WNOHANG);
  g_atomic_int_set (&run->stop, TRUE);
  g_thread_join (run->reader);
  remove_leftovers (run->temporary);
  if (abandon)
    return TRUE;
  g_autoptr (GError) failure = NULL;
  if (!late && g_spawn_check_wait_status (status, &failure))
    return TRUE;
  g_autofree char *tail = banger_mmdebstrap_stderr_tail (run);
  return banger_set_error (error, BANGER_ERROR_FAILED, "mmdebstrap failed (%s); its last lines:\n%s",
                           late ? "it did not end" : failure->message, tail);
}

gboolean
banger_subids_enough (const char *text, const char *name, guint uid)
{
  g_autofree char *number = g_strdup_printf ("%u", uid);
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  for (guint i = 0; lines[i]; i++) {
    g_auto (GStrv) field = g_strsplit (lines[i], ":", -1);
    if (g_strv_length (field) == 3 && (strcmp (field[0], name) == 0 || strcmp (field[0], number) == 0)
        && g_ascii_strtoull (field[2], NULL, 10) >= SUBIDS)
      return TRUE;
  }
  return FALSE;
}

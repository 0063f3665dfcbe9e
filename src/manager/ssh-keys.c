/* Keys for ssh into guests: the owner's client key, each VM's host key, known_hosts (no trust on first use).
 * Called by vm.c and vm-start.c.
 * Never touches ~/.ssh: everything is in the owner's banger folder. */
#include "manager/ssh-keys.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/ssh-option.h"
#include "common/state-file.h"

#define KNOWN_HOSTS "known_hosts"
#define CLIENT_KEY "id_ed25519"

BangerSshPaths *
banger_ssh_paths_new (const char *config_dir)
{
  BangerSshPaths *paths = g_new0 (BangerSshPaths, 1);
  paths->dir = g_build_filename (config_dir, "banger", "ssh", NULL);
  paths->identity_file = g_build_filename (paths->dir, CLIENT_KEY, NULL);
  paths->known_hosts_file = g_build_filename (paths->dir, KNOWN_HOSTS, NULL);
  return paths;
}

void
banger_ssh_paths_free (BangerSshPaths *paths)
{
  if (!paths)
    return;
  g_free (paths->dir);
  g_free (paths->identity_file);
  g_free (paths->known_hosts_file);
  g_free (paths);
}

char *
banger_ssh_host_key_alias (const char *vm_id)
{
  return g_strconcat ("banger-", vm_id, NULL);
}

static gboolean
make_dir (const BangerSshPaths *paths, GError **error)
{
  if (g_mkdir_with_parents (paths->dir, 0700) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make %s", paths->dir);
  return TRUE;
}

/* One key that is being made under a temporary name. */
typedef struct {
  char *final, *temporary, *comment;
} KeyJob;

typedef struct {
  GPtrArray *jobs; /* KeyJob, still to do; the last one is under way */
} Prepare;

static char *
public_name (const char *key)
{
  return g_strconcat (key, ".pub", NULL);
}

static void
key_job_free (gpointer data)
{
  KeyJob *job = data;
  g_autofree char *public = public_name (job->temporary);
  unlink (job->temporary);
  unlink (public);
  g_free (job->final);
  g_free (job->temporary);
  g_free (job->comment);
  g_free (job);
}

static void
prepare_free (gpointer data)
{
  Prepare *prepare = data;
  g_ptr_array_unref (prepare->jobs);
  g_free (prepare);
}

static void
add_key_if_missing (Prepare *prepare, const char *dir, const char *name, const char *comment)
{
  g_autofree char *final = g_build_filename (dir, name, NULL);
  if (g_file_test (final, G_FILE_TEST_EXISTS))
    return;
  KeyJob *job = g_new0 (KeyJob, 1);
  job->final = g_steal_pointer (&final);
  job->temporary = g_strdup_printf ("%s.new-%08x", job->final, g_random_int ());
  job->comment = g_strdup (comment);
  g_ptr_array_add (prepare->jobs, job);
}

static gboolean
sync_path (const char *path, int flags)
{
  banger_autofd int fd = open (path, O_RDONLY | O_CLOEXEC | flags);
  return fd >= 0 && fsync (fd) == 0;
}

/* The private key is linked last: once it is there, all is there. link(2) leaves an existing key alone. ssh-keygen does
 * not sync: without us a power loss could leave a name without its key, which nothing would ever make again. */
static gboolean
publish_key (const KeyJob *job, GError **error)
{
  g_autofree char *folder = g_path_get_dirname (job->final);
  g_autofree char *public_from = public_name (job->temporary), *public_to = public_name (job->final);
  if (g_file_test (job->final, G_FILE_TEST_EXISTS))
    return TRUE;
  if (!sync_path (job->temporary, 0) || !sync_path (public_from, 0) || rename (public_from, public_to) < 0
      || (link (job->temporary, job->final) < 0 && errno != EEXIST) || !sync_path (folder, O_DIRECTORY))
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make the key %s", job->final);
  return TRUE;
}

static void prepare_next (GTask *task);

static void
on_keygen (GObject *source, GAsyncResult *result, gpointer user_data)
{
  g_autoptr (GTask) task = user_data;
  Prepare *prepare = g_task_get_task_data (task);
  GError *error = NULL;
  g_autofree char *output = NULL;
  GSubprocess *process = G_SUBPROCESS (source);
  if (!g_subprocess_communicate_utf8_finish (process, result, &output, NULL, &error)) {
    g_subprocess_force_exit (process);
    g_task_return_error (task, error);
    return;
  }
  if (!g_subprocess_get_if_exited (process) || g_subprocess_get_exit_status (process) != 0) {
    g_autofree char *text = banger_log_escape (output ? g_strstrip (output) : "", 256);
    g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_FAILED, "ssh-keygen failed: %s", text);
    return;
  }
  guint last = prepare->jobs->len - 1;
  if (!publish_key (prepare->jobs->pdata[last], &error)) {
    g_task_return_error (task, error);
    return;
  }
  g_ptr_array_remove_index (prepare->jobs, last);
  prepare_next (task);
}

static void
prepare_next (GTask *task)
{
  Prepare *prepare = g_task_get_task_data (task);
  if (prepare->jobs->len == 0) {
    g_task_return_boolean (task, TRUE);
    return;
  }
  const KeyJob *job = prepare->jobs->pdata[prepare->jobs->len - 1];
  const char *argv[] = {
    "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", job->comment, "-f", job->temporary, NULL
  };
  GError *error = NULL;
  g_autoptr (GSubprocess) process = g_subprocess_newv (
      argv, G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_MERGE, &error);
  if (!process) {
    g_prefix_error (&error, "ssh-keygen: ");
    g_task_return_error (task, error);
    return;
  }
  g_subprocess_communicate_utf8_async (process, NULL, g_task_get_cancellable (task), on_keygen, g_object_ref (task));
}

void
banger_ssh_prepare_async (const BangerSshPaths *paths, const char *vm_dir, GCancellable *cancellable,
                          GAsyncReadyCallback callback, gpointer user_data)
{
  g_autoptr (GTask) task = g_task_new (NULL, cancellable, callback, user_data);
  Prepare *prepare = g_new0 (Prepare, 1);
  prepare->jobs = g_ptr_array_new_with_free_func (key_job_free);
  g_task_set_task_data (task, prepare, prepare_free);
  GError *error = NULL;
  if (!make_dir (paths, &error)) {
    g_task_return_error (task, error);
    return;
  }
  add_key_if_missing (prepare, paths->dir, CLIENT_KEY, "banger");
  add_key_if_missing (prepare, vm_dir, BANGER_FILE_VM_HOST_KEY, "banger guest");
  prepare_next (task);
}

gboolean
banger_ssh_prepare_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

/* "ssh-ed25519 AAAA... comment" -> the first two words, checked: what follows ends in a line of known_hosts. */
static char *
key_words (const char *public_key)
{
  g_auto (GStrv) words = g_strsplit_set (public_key, " \t\r\n", 3);
  if (g_strv_length (words) < 2 || !g_str_equal (words[0], "ssh-ed25519") || *words[1] == '\0')
    return NULL;
  return g_strjoin (" ", words[0], words[1], NULL);
}

static GString *
without_alias (const char *text, const char *alias)
{
  GString *out = g_string_new (NULL);
  g_autofree char *start = g_strconcat (alias, " ", NULL);
  g_auto (GStrv) lines = g_strsplit (text ? text : "", "\n", -1);
  for (guint i = 0; lines[i]; i++)
    if (*lines[i] && !g_str_has_prefix (lines[i], start))
      g_string_append_printf (out, "%s\n", lines[i]);
  return out;
}

gboolean
banger_ssh_known_hosts_set (const BangerSshPaths *paths, const char *alias, const char *public_key, GError **error)
{
  if (!make_dir (paths, error))
    return FALSE;
  banger_autofd int dir = open (paths->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot open %s", paths->dir);
  gboolean missing = FALSE;
  g_autoptr (GError) read_error = NULL;
  g_autofree char *old = banger_state_read (dir, KNOWN_HOSTS, NULL, &missing, &read_error);
  if (!old && !missing) {
    g_propagate_error (error, g_steal_pointer (&read_error));
    return FALSE;
  }
  g_autoptr (GString) text = without_alias (old, alias);
  if (public_key) {
    g_autofree char *words = key_words (public_key);
    if (!words)
      return banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "the host key of %s is not an ed25519 key", alias);
    g_string_append_printf (text, "%s %s\n", alias, words);
  }
  if (old && g_str_equal (old, text->str))
    return TRUE;
  return banger_state_write (dir, KNOWN_HOSTS, text->str, text->len, 0600, error);
}

GPtrArray *
banger_ssh_argv (const BangerSshPaths *paths, const char *alias, const char *address)
{
  GPtrArray *argv = g_ptr_array_new_with_free_func (g_free);
  static const char *const options[] = {
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "IdentitiesOnly=yes",
    "IdentityAgent=none",
    "UpdateHostKeys=no",
    "ConnectTimeout=10",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=3",
    "LogLevel=ERROR",
    "ControlPath=none",
    "GlobalKnownHostsFile=/dev/null",
    "ClearAllForwardings=yes",
    "CheckHostIP=no",
  };
  g_ptr_array_add (argv, g_strdup ("ssh"));
  g_ptr_array_add (argv, g_strdup ("-F"));
  g_ptr_array_add (argv, g_strdup ("/dev/null"));
  for (guint i = 0; i < G_N_ELEMENTS (options); i++)
    g_ptr_array_add (argv, g_strconcat ("-o", options[i], NULL));
  g_ptr_array_add (argv, g_strconcat ("-oHostKeyAlias=", alias, NULL));
  const char *const files[][2] = { { "IdentityFile", paths->identity_file },
                                   { "UserKnownHostsFile", paths->known_hosts_file } };
  for (guint i = 0; i < G_N_ELEMENTS (files); i++) {
    g_autofree char *option = banger_ssh_path_option (files[i][0], files[i][1]);
    g_ptr_array_add (argv, g_strconcat ("-o", option, NULL));
  }
  g_ptr_array_add (argv, g_strconcat ("root@", address, NULL));
  return argv;
}

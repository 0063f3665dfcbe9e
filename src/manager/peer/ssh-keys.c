/* Keys for ssh into guests: the owner's client key, each VM's host key, known_hosts (no trust on first use).
 * Never touches ~/.ssh: everything is in the owner's banger folder. */
#include "manager/peer/ssh-keys.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/ssh-option.h"
#include "common/state-file.h"
#include "manager/core/program.h"

#define KNOWN_HOSTS "known_hosts"
#define CLIENT_KEY "id_ed25519"
#define MAX_OUTPUT 65536u
#define MAX_KEY 65536
#define MAX_SECONDS 3600 /* who does not want to wait for it cancels */

static GMutex lock; /* workers make keys, and read, change and write known_hosts */

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

static char *
public_name (const char *key)
{
  return g_strconcat (key, ".pub", NULL);
}

static gboolean
sync_folder (const char *path)
{
  banger_autofd int fd = open (path, O_RDONLY | O_CLOEXEC | O_DIRECTORY);
  return fd >= 0 && fsync (fd) == 0;
}

static char *key_words (const char *public_key);

/* What ssh-keygen says that it has made is one that ssh can use, and on the disk: it would be used ever after. */
static gboolean
check_made (const char *path, gboolean public, const char *final, GError **error)
{
  struct stat st;
  char text[MAX_KEY + 1];
  banger_autofd int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0 || fstat (fd, &st) < 0 || fsync (fd) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make the key %s", final);
  ssize_t n = S_ISREG (st.st_mode) ? read (fd, text, MAX_KEY) : 0;
  text[MAX (n, 0)] = '\0';
  g_autofree char *words = public ? key_words (text) : NULL;
  return (public ? words != NULL : n > 0)
         || banger_set_error (error, BANGER_ERROR_FAILED, "cannot make the key %s: what ssh-keygen wrote is none",
                              final);
}

/* The private key is linked last: once it is there, all is there. link(2) leaves an existing key alone. ssh-keygen does
 * not sync: without us a power loss could leave a name without its key, which nothing would ever make again. */
static gboolean
publish_key (const char *temporary, const char *final, GError **error)
{
  g_autofree char *folder = g_path_get_dirname (final);
  g_autofree char *public_from = public_name (temporary), *public_to = public_name (final);
  g_autoptr (GMutexLocker) locker = g_mutex_locker_new (&lock); /* both files are of one pair */
  if (g_file_test (final, G_FILE_TEST_EXISTS))
    return TRUE;
  if (!check_made (temporary, FALSE, final, error) || !check_made (public_from, TRUE, final, error))
    return FALSE;
  if (rename (public_from, public_to) < 0 || (link (temporary, final) < 0 && errno != EEXIST) || !sync_folder (folder))
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make the key %s", final);
  return TRUE;
}

/* Not by g_subprocess_communicate(): with a cancellable it sometimes never comes back (GLib 2.74). */
static gboolean
generate_key (const char *temporary, const char *comment, GCancellable *cancellable, GError **error)
{
  const char *const argv[] = { "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", temporary, NULL };
  const BangerProgram program = {
    .argv = argv, .max_output = MAX_OUTPUT, .seconds = MAX_SECONDS, .cancellable = cancellable
  };
  g_autoptr (GError) failure = NULL;
  g_autofree char *said = NULL, *output = banger_program_run (&program, &said, &failure);
  if (output)
    return TRUE;
  if (!g_error_matches (failure, BANGER_ERROR, BANGER_ERROR_FAILED)) {
    g_propagate_error (error, g_steal_pointer (&failure));
    return FALSE;
  }
  g_autofree char *text = banger_log_escape (said && *said ? g_strstrip (said) : failure->message, 256);
  return banger_set_error (error, BANGER_ERROR_FAILED, "ssh-keygen failed: %s", text);
}

static gboolean
make_key_if_missing (const char *dir, const char *name, const char *comment, GCancellable *cancellable, GError **error)
{
  g_autofree char *final = g_build_filename (dir, name, NULL);
  if (g_file_test (final, G_FILE_TEST_EXISTS))
    return TRUE;
  struct stat st;
  if (lstat (final, &st) == 0 && S_ISLNK (st.st_mode) && !g_file_test (final, G_FILE_TEST_EXISTS))
    return banger_set_error (error, BANGER_ERROR_FAILED, "the key %s is a link to nothing: remove it, and one is made",
                             final);
  g_autofree char *temporary = g_strdup_printf ("%s.new-%08x", final, g_random_int ());
  g_autofree char *public = public_name (temporary);
  gboolean ok = generate_key (temporary, comment, cancellable, error) && publish_key (temporary, final, error);
  unlink (temporary);
  unlink (public);
  return ok;
}

gboolean
banger_ssh_prepare (const BangerSshPaths *paths, const char *vm_dir, GCancellable *cancellable, GError **error)
{
  return make_dir (paths, error) && make_key_if_missing (paths->dir, CLIENT_KEY, "banger", cancellable, error)
         && make_key_if_missing (vm_dir, BANGER_FILE_VM_HOST_KEY, "banger guest", cancellable, error);
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

/* A line ends with its VM's folder: of one below @folders that is gone it was left by a bangerd that was ended before it
 * could write here. */
static gboolean
is_left_over (const char *line, const char *folders)
{
  g_auto (GStrv) words = g_strsplit (line, " ", 4);
  return g_strv_length (words) == 4 && g_str_has_prefix (words[3], folders) && access (words[3], F_OK) < 0
         && errno == ENOENT;
}

static GString *
without_alias (const char *text, const char *alias, const char *folders)
{
  GString *out = g_string_new (NULL);
  g_autofree char *start = g_strconcat (alias, " ", NULL);
  g_auto (GStrv) lines = g_strsplit (text ? text : "", "\n", -1);
  for (guint i = 0; lines[i]; i++)
    if (*lines[i] && !g_str_has_prefix (lines[i], start) && !is_left_over (lines[i], folders))
      g_string_append_printf (out, "%s\n", lines[i]);
  return out;
}

gboolean
banger_ssh_known_hosts_set (const BangerSshPaths *paths, const char *alias, const char *folder, const char *public_key,
                            GError **error)
{
  g_autofree char *parent = g_path_get_dirname (folder), *folders = g_strconcat (parent, "/", NULL);
  g_autoptr (GMutexLocker) locker = g_mutex_locker_new (&lock);
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
  g_autoptr (GString) text = without_alias (old, alias, folders);
  if (public_key) {
    g_autofree char *words = key_words (public_key);
    if (!words)
      return banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "the host key of %s is not an ed25519 key", alias);
    g_string_append_printf (text, "%s %s %s\n", alias, words, folder);
  }
  if (old && g_str_equal (old, text->str))
    return TRUE;
  return banger_state_write (dir, KNOWN_HOSTS, text->str, text->len, 0600, error);
}

GPtrArray *
banger_ssh_argv (const BangerSshPaths *paths, const char *alias, const char *user, const char *address)
{
  static const char *const patience[] = { "ConnectTimeout=10", "ServerAliveInterval=15", "ServerAliveCountMax=3" };
  GPtrArray *argv = g_ptr_array_new_with_free_func (g_free);
  g_ptr_array_add (argv, g_strdup ("ssh"));
  banger_ssh_add_options (argv, paths->identity_file, paths->known_hosts_file, alias);
  for (guint i = 0; i < G_N_ELEMENTS (patience); i++)
    banger_ssh_add_option (argv, patience[i]);
  g_ptr_array_add (argv, g_strconcat (user, "@", address, NULL));
  return argv;
}

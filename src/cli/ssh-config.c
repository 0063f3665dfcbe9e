/* ssh-config: has the user's ssh know the VMs by their names.
 * Called through the command table.
 * Never changes more of ~/.ssh/config than two lines of its own, nor any other file there. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/commands.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/names.h"
#include "common/ssh-option.h"
#include "common/state-file.h"

#define MARK "# banger's VMs by their names. `banger ssh-config --uninstall` takes this and the next line away.\n"
#define INCLUDE "Include"
#define NOT_YOURS N_ ("%s is not yours alone; put the line there yourself, see: banger ssh-config")

/* ~/.ssh/config as it is. */
typedef struct {
  int dir;    /* where the file itself is */
  char *name; /* of it there */
  char *text; /* any bytes, with a NUL behind */
  gsize length;
  mode_t mode;
  gboolean missing;
} Config;

static void
config_clear (Config *config)
{
  banger_clear_fd (&config->dir);
  g_free (config->name);
  g_free (config->text);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Config, config_clear)

static char *
own_lines (void)
{
  g_autofree char *file = g_build_filename (g_get_user_config_dir (), "banger", "ssh", BANGER_FILE_SSH_CONFIG, NULL),
                  *path = banger_ssh_quote (file, FALSE);
  return g_strconcat (MARK INCLUDE " ", path, "\n", NULL);
}

/* The file behind a link, if ~/.ssh/config is one: the link stays. */
static gboolean
find (Config *config, gboolean make, GError **error)
{
  g_autofree char *folder = g_build_filename (g_get_home_dir (), ".ssh", NULL),
                  *path = g_build_filename (folder, "config", NULL);
  struct stat st;
  config->mode = 0600;
  if (make && mkdir (folder, 0700) < 0 && errno != EEXIST)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot make %s"), folder);
  config->missing = lstat (path, &st) < 0 && errno == ENOENT;
  /* As root with somebody else's HOME, a link of theirs would choose what root writes. */
  if ((!config->missing && st.st_uid != geteuid ()) || (lstat (folder, &st) == 0 && st.st_uid != geteuid ()))
    return banger_set_error (error, BANGER_ERROR_UNSAFE_FILE, _ (NOT_YOURS), path);
  if (config->missing) {
    config->dir = open (folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    config->name = g_strdup ("config");
    return config->dir >= 0 || !make
           || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot open %s"), folder);
  }
  char *real = realpath (path, NULL);
  if (!real)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot read '%s'"), path);
  g_autofree char *place = g_path_get_dirname (real);
  config->name = g_path_get_basename (real);
  free (real);
  config->dir = open (place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (config->dir < 0 || fstatat (config->dir, config->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot read '%s'"), path);
  if (st.st_uid != geteuid () || st.st_nlink != 1)
    return banger_set_error (error, BANGER_ERROR_UNSAFE_FILE, _ (NOT_YOURS), path);
  config->mode = st.st_mode & 0777;
  config->text = banger_state_read (config->dir, config->name, &config->length, NULL, error);
  return config->text != NULL;
}

/* Without what `--install` wrote, wherever that is now. */
static GString *
without_own (const Config *config)
{
  GString *out = g_string_new (NULL);
  const char *at = config->text, *end = at + config->length;
  while (at < end) {
    const char *line = memchr (at, '\n', (gsize)(end - at)), *next = line ? line + 1 : end;
    if ((gsize)(next - at) == strlen (MARK) && memcmp (at, MARK, strlen (MARK)) == 0) {
      line = memchr (next, '\n', (gsize)(end - next));
      gboolean ours = strncmp (next, INCLUDE " ", strlen (INCLUDE) + 1) == 0;
      at = !ours ? next : line ? line + 1 : end;
      continue;
    }
    g_string_append_len (out, at, next - at);
    at = next;
  }
  return out;
}

static gboolean
replace (const Config *config, const GString *text, GError **error)
{
  if (text->len == config->length && (text->len == 0 || memcmp (text->str, config->text, text->len) == 0))
    return TRUE;
  return banger_state_write (config->dir, config->name, text->str, text->len, config->mode, error);
}

static gboolean
install (GError **error)
{
  g_auto (Config) config = { .dir = -1 };
  g_autofree char *lines = own_lines ();
  if (!find (&config, TRUE, error))
    return FALSE;
  if (config.text && strstr (config.text, lines))
    return TRUE; /* perhaps moved */
  g_autoptr (GString) text = without_own (&config);
  g_string_prepend (text, lines); /* behind a Host line it would be of that host */
  return replace (&config, text, error);
}

static gboolean
uninstall (GError **error)
{
  g_auto (Config) config = { .dir = -1 };
  if (!find (&config, FALSE, error))
    return FALSE;
  if (config.missing)
    return TRUE;
  g_autoptr (GString) text = without_own (&config);
  return replace (&config, text, error);
}

int
banger_ssh_config (const BangerInvocation *invocation, GError **error)
{
  gboolean in = banger_invocation_flag (invocation, "install"), out = banger_invocation_flag (invocation, "uninstall");
  if (in && out)
    return banger_usage_error (error, _ ("--install and --uninstall exclude each other"));
  if (!in && !out) {
    g_autofree char *lines = own_lines ();
    g_print ("%s", lines);
    return 0;
  }
  if (!(in ? install (error) : uninstall (error)))
    return -1;
  if (!banger_invocation_flag (invocation, "quiet"))
    g_print ("%s\n",
             in ? _ ("ssh knows your VMs by their names: ssh web.vm") : _ ("ssh does not know your VMs any more"));
  return 0;
}

/* Takes sshd's command line apart and sets what root's environment has.
 * Never hands a coded command to a shell, never reads a file that a user writes commands into. */
#include "guest/shell.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/guest-protocol.h"
#include "guest/file.h"

#define MAX_PASSWD_BYTES (4 << 20)
#define DEFAULT_SHELL "/bin/sh"
#define EXIT_CANNOT_RUN 126

int
guest_is_shell (const char *name)
{
  const char *slash = strrchr (name, '/');
  const char *base = slash ? slash + 1 : name;
  base += *base == '-'; /* of a session */
  return strcmp (base, strrchr (BANGER_GUEST_SHELL, '/') + 1) == 0;
}

int
guest_passwd_shell (const char *text, const char *name, char *ret, unsigned long size)
{
  size_t length = strlen (name);
  for (const char *line = text; *line != '\0'; line += strcspn (line, "\n"), line += *line == '\n') {
    if (strncmp (line, name, length) != 0 || line[length] != ':')
      continue;
    const char *field = line, *end = line + strcspn (line, "\n");
    for (int i = 0; i < 6 && field; i++) {
      field = memchr (field, ':', (size_t)(end - field));
      field = field ? field + 1 : NULL;
    }
    if (!field || field == end || (size_t)(end - field) >= size)
      return -1;
    memcpy (ret, field, (size_t)(end - field));
    ret[end - field] = '\0';
    return 0;
  }
  return -1;
}

static int
described_in (const char *folder, const char *term)
{
  char path[PATH_MAX];
  /* By the first letter, or where file systems do not tell upper case from lower by its code. */
  if (snprintf (path, sizeof path, "%s/%c/%s", folder, term[0], term) < (int)sizeof path && access (path, R_OK) == 0)
    return 1;
  return snprintf (path, sizeof path, "%s/%x/%s", folder, (unsigned char)term[0], term) < (int)sizeof path
         && access (path, R_OK) == 0;
}

static int
is_described (const char *term, const char *const *folders)
{
  if (term[0] == '\0' || strchr (term, '/'))
    return 0;
  for (; *folders; folders++)
    if (**folders != '\0' && described_in (*folders, term))
      return 1;
  return 0;
}

const char *
guest_term (const char *term, const char *const *folders)
{
  static const char *const others[] = { "xterm-256color", "xterm", "vt100" };
  if (is_described (term, folders))
    return term;
  for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
    if (is_described (others[i], folders))
      return others[i];
  return others[0]; /* an image without such files: its programs know a few names by heart */
}

/* A terminal emulator newer than the image: without this its editors and pagers end with "unknown terminal type". */
void
guest_set_term (void)
{
  const char *term = getenv ("TERM"), *own = getenv ("TERMINFO"), *home = getenv ("HOME");
  if (!term)
    return;
  char in_home[PATH_MAX];
  snprintf (in_home, sizeof in_home, "%s/.terminfo", home ? home : "/root");
  const char *const folders[] = { own ? own : "",
                                  in_home,
                                  "/etc/terminfo",
                                  "/lib/terminfo",
                                  "/usr/share/terminfo",
                                  "/usr/lib/terminfo",
                                  "/usr/local/share/terminfo",
                                  "/run/current-system/sw/share/terminfo",
                                  NULL };
  setenv ("TERM", guest_term (term, folders), 1);
}

/* nologin(8), false(1): it keeps strangers out of the image, not its owner out of the VM. */
int
guest_shell_refuses (const char *shell)
{
  const char *slash = strrchr (shell, '/'), *base = slash ? slash + 1 : shell;
  return strcmp (base, "nologin") == 0 || strcmp (base, "false") == 0;
}

static void
become_root (char *shell, size_t size)
{
  char *passwd = guest_read_file ("/etc/passwd", MAX_PASSWD_BYTES);
  if (!passwd || guest_passwd_shell (passwd, "root", shell, size) < 0 || access (shell, X_OK) < 0
      || guest_shell_refuses (shell))
    snprintf (shell, size, DEFAULT_SHELL);
  free (passwd);
  setenv ("SHELL", shell, 1);
  setenv ("USER", "root", 1);
  setenv ("LOGNAME", "root", 1);
  if (getenv ("MAIL"))
    setenv ("MAIL", "/var/mail/root", 1);
}

static int
cannot_run (const char *what)
{
  fprintf (stderr, "banger-guest: cannot run '%s': %s\n", what, strerror (errno));
  return EXIT_CANNOT_RUN;
}

static int
run_session (const char *shell)
{
  char name[PATH_MAX + 1];
  const char *slash = strrchr (shell, '/');
  snprintf (name, sizeof name, "-%s", slash ? slash + 1 : shell);
  execl (shell, name, NULL);
  return cannot_run (shell);
}

/* Coded words have no space in them: what stands between two is one word. */
static int
run_words (char *command, int (*run) (int argc, char **argv))
{
  size_t n = 1;
  for (const char *c = command; *c != '\0'; c++)
    n += *c == ' ';
  char **words = calloc (n + 1, sizeof *words);
  if (!words)
    return cannot_run (BANGER_GUEST_BINARY);
  int count = 0;
  char *rest = NULL;
  for (char *word = strtok_r (command, " ", &rest); word; word = strtok_r (NULL, " ", &rest))
    words[count++] = word;
  return run (count, words);
}

int
guest_shell_main (int argc, char **argv, int (*run) (int argc, char **argv))
{
  static const char ours[] = BANGER_GUEST_BINARY " ";
  char shell[PATH_MAX];
  become_root (shell, sizeof shell);
  guest_set_term ();
  if (argc == 1)
    return run_session (shell);
  if (argc == 3 && strcmp (argv[1], "-c") == 0 && strncmp (argv[2], ours, strlen (ours)) == 0)
    return run_words (argv[2], run);
  static char name[] = "sh";
  argv[0] = name;
  execv (DEFAULT_SHELL, argv);
  return cannot_run (DEFAULT_SHELL);
}

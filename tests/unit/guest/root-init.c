/* The image's init in the two test_roots.py, and for some images all that there is: says what it finds, and ends the
 * machine; by the name "stay" it stays, and hears nothing.
 * Runs after banger-guest has handed over.
 * Never changes anything. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <unistd.h>

static void
show_file (const char *name, const char *path)
{
  char text[512] = "";
  int fd = open (path, O_RDONLY);
  ssize_t n = fd >= 0 ? read (fd, text, sizeof text - 1) : -1;
  text[n > 0 ? n : 0] = '\0';
  for (char *at = text; *at != '\0'; at++)
    if (*at == '\n')
      *at = '|';
  printf ("FACT %s=%s\n", name, fd < 0 ? strerror (errno) : text);
  close (fd);
}

static void
show_mode (const char *name, const char *path)
{
  struct stat st;
  printf ("FACT %s=%o\n", name, lstat (path, &st) == 0 ? st.st_mode : 0);
}

int
main (int argc, char **argv)
{
  char name[80] = "";
  setvbuf (stdout, NULL, _IOLBF, 0);
  gethostname (name, sizeof name - 1);
  printf ("FACT hostname=%s\nFACT pid=%d\n", name, getpid ());
  show_file ("passwd", "/etc/passwd");
  show_file ("resolv", "/etc/resolv.conf");
  show_file ("hosts", "/etc/hosts");
  show_file ("keys", "/root/.ssh/authorized_keys");
  show_mode ("tmp", "/tmp");
  show_mode ("root", "/root");
  show_mode ("resolv-mode", "/etc/resolv.conf");
  printf ("FACT end=1\n");
  while (argc > 0 && strstr (argv[0], "stay"))
    pause ();
  sync ();
  return reboot (RB_AUTOBOOT);
}

/* Who listens: /proc/net of the four kinds, and the processes whose sockets these are.
 * Never says more lines than its table has rows, nor a word that has a space. */
#include "guest/ports.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/exec-words.h"
#include "common/folder.h"

#define MAX_PORTS 1024

typedef struct {
  const char *protocol;
  char address[INET6_ADDRSTRLEN];
  unsigned port;
  unsigned long inode;
  long pid; /* 0: not found */
  char name[64];
} Port;

static const struct {
  const char *file, *protocol;
  unsigned state; /* that of one who waits, see net/tcp_states.h */
} kinds[] = {
  { "/proc/net/tcp", "tcp", 0x0a },
  { "/proc/net/tcp6", "tcp", 0x0a },
  { "/proc/net/udp", "udp", 0x07 },
  { "/proc/net/udp6", "udp", 0x07 },
};

static Port ports[MAX_PORTS];
static size_t n_ports;

/* @hex: words of four bytes, each as this machine has it. */
static int
format_address (const char *hex, char *address)
{
  unsigned words[4];
  size_t n = strlen (hex) / 8;
  if ((n != 1 && n != 4) || strlen (hex) != 8 * n)
    return -1;
  for (size_t i = 0; i < n; i++)
    if (sscanf (hex + 8 * i, "%8x", &words[i]) != 1)
      return -1;
  return inet_ntop (n == 1 ? AF_INET : AF_INET6, words, address, INET6_ADDRSTRLEN) ? 0 : -1;
}

static void
add_line (const char *line, size_t kind)
{
  char local[40];
  unsigned port, remote_port, state;
  unsigned long inode;
  if (n_ports == MAX_PORTS
      || sscanf (line, " %*d: %39[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%x %x %*s %*s %*s %*s %*s %lu", local, &port,
                 &remote_port, &state, &inode)
             != 5
      || state != kinds[kind].state || port == 0 || remote_port != 0)
    return;
  Port *at = &ports[n_ports];
  *at = (Port){ .protocol = kinds[kind].protocol, .port = port, .inode = inode };
  if (format_address (local, at->address) == 0)
    n_ports++;
}

static void
read_kind (size_t kind)
{
  char line[512];
  FILE *file = fopen (kinds[kind].file, "re");
  while (file && fgets (line, sizeof line, file))
    add_line (line, kind);
  if (file)
    fclose (file);
}

static void
read_name (long pid, char *name, size_t size)
{
  char path[64];
  snprintf (path, sizeof path, "/proc/%ld/comm", pid);
  FILE *file = fopen (path, "re");
  size_t n = file ? fread (name, 1, size - 1, file) : 0;
  name[n > 0 && name[n - 1] == '\n' ? n - 1 : n] = '\0';
  if (file)
    fclose (file);
}

/* The first process that has it: children of a server have its socket, too. */
static void
give_owner (unsigned long inode, long pid)
{
  for (size_t i = 0; i < n_ports; i++)
    if (ports[i].inode == inode && (ports[i].pid == 0 || ports[i].pid > pid)) {
      ports[i].pid = pid;
      read_name (pid, ports[i].name, sizeof ports[i].name);
    }
}

static void
look_at (long pid)
{
  char path[64], target[64];
  unsigned long inode;
  snprintf (path, sizeof path, "/proc/%ld/fd", pid);
  banger_autofolder DIR *dir = banger_folder_open (AT_FDCWD, path);
  for (const struct dirent *entry; (entry = banger_folder_next (dir));) {
    ssize_t n = readlinkat (dirfd (dir), entry->d_name, target, sizeof target - 1);
    target[n > 0 ? n : 0] = '\0';
    if (sscanf (target, "socket:[%lu]", &inode) == 1)
      give_owner (inode, pid);
  }
}

static void
print (const Port *port)
{
  char *word = banger_exec_word_encode (port->name);
  printf ("%s %s %u %ld %s\n", port->protocol, port->address, port->port, port->pid, word ? word : "%00");
  free (word);
}

int
guest_ports_main (char **arguments)
{
  (void)arguments;
  for (size_t kind = 0; kind < sizeof kinds / sizeof kinds[0]; kind++)
    read_kind (kind);
  banger_autofolder DIR *dir = banger_folder_open (AT_FDCWD, "/proc");
  for (const struct dirent *entry; (entry = banger_folder_next (dir));) {
    long pid = strtol (entry->d_name, NULL, 10);
    if (pid > 0)
      look_at (pid);
  }
  for (size_t i = 0; i < n_ports; i++)
    print (&ports[i]);
  return fflush (stdout) == 0 ? 0 : 1;
}

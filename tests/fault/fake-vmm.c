/* A VMM and the agent of its guest that do what a list of faults says: slow, silent, failing, dead, or nothing wrong.
 * Started by the helper in a jail, as any VMM is; tests/fault/parts.py writes the list into the kernel's file.
 * Never runs a guest: what a guest keeps is a number in the root disk. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/guest-protocol.h"
#include "common/names.h"

/* In the first block of an ext4, which nothing uses: how often it booted, fsynced; and the last boot that ended well.
 */
#define DURABLE_OFFSET 512
#define ORDERLY_OFFSET 520
#define LIST_BYTES 16384
#define LOOK_MSEC 20
#define MAX_STREAMS 64

static const char *vm_id;
static uint64_t boots;
static char boot_id[64];
static volatile bool paused; /* the guest: it does not answer */

static void
sleep_ms (long ms)
{
  struct timespec pause = { ms / 1000, ms % 1000 * 1000000 };
  nanosleep (&pause, NULL);
}

/* A line of the list: "<VM or *> <step> <how>"; what is said of this VM goes before what is said of all. */
static void
how_of (const char *step, char how[32])
{
  static _Thread_local char list[LIST_BYTES + 1];
  strcpy (how, "ok");
  int fd = open (BANGER_JAIL_KERNEL, O_RDONLY | O_CLOEXEC);
  ssize_t n = fd < 0 ? 0 : read (fd, list, LIST_BYTES);
  if (fd >= 0)
    close (fd);
  list[n < 0 ? 0 : n] = '\0';
  bool own = false;
  for (char *rest, *line = strtok_r (list, "\n", &rest); line; line = strtok_r (NULL, "\n", &rest)) {
    char who[32], what[32], does[32];
    if (sscanf (line, "%31s %31s %31s", who, what, does) != 3 || strcmp (what, step) != 0)
      continue;
    bool mine = strcmp (who, vm_id) == 0;
    if (!mine && (own || strcmp (who, "*") != 0))
      continue;
    own = own || mine;
    strcpy (how, does);
  }
}

/* Waits, or ends, as the list says. Returns: whether the step is to succeed. */
static bool
obey (const char *step)
{
  char how[32];
  how_of (step, how);
  if (strncmp (how, "slow:", 5) == 0)
    sleep_ms (atol (how + 5));
  while (strcmp (how, "silent") == 0) {
    sleep_ms (LOOK_MSEC);
    how_of (step, how);
  }
  if (strcmp (how, "die") == 0)
    _exit (3);
  return strcmp (how, "fail") != 0;
}

/* The guest */

static bool
disk (off_t offset, uint64_t *value, bool write)
{
  int fd = open (BANGER_JAIL_ROOTFS, O_RDWR | O_CLOEXEC);
  bool ok = fd >= 0
            && (write ? pwrite (fd, value, sizeof *value, offset) == sizeof *value && fsync (fd) == 0
                      : pread (fd, value, sizeof *value, offset) == sizeof *value);
  if (fd >= 0)
    close (fd);
  return ok;
}

static void
end_in_order (void)
{
  if (obey ("flush") && !disk (ORDERLY_OFFSET, &boots, true))
    printf ("cannot flush: %s\n", strerror (errno));
  if (obey ("exit"))
    _exit (0);
}

static bool
boot (void)
{
  if (!disk (DURABLE_OFFSET, &boots, false))
    return false;
  boots++;
  if (!disk (DURABLE_OFFSET, &boots, true))
    return false;
  snprintf (boot_id, sizeof boot_id, "boot-%llu-%s", (unsigned long long)boots, vm_id);
  printf ("%s\n", boot_id);
  return true;
}

/* Commands: what each says and how it ends is the same. Its streams wait for it. */

static struct {
  char token[65];
  bool is_stdin, is_stdout;
  int fd;
} streams[MAX_STREAMS];
static pthread_mutex_t streams_lock = PTHREAD_MUTEX_INITIALIZER;

static bool
keep_stream (const char *token, const char *name, int fd)
{
  bool kept = false;
  pthread_mutex_lock (&streams_lock);
  for (int i = 0; i < MAX_STREAMS && !kept; i++)
    if (!*streams[i].token) {
      strcpy (streams[i].token, token);
      streams[i].is_stdin = strcmp (name, "stdin") == 0;
      streams[i].is_stdout = strcmp (name, "stdout") == 0;
      streams[i].fd = fd;
      kept = true;
    }
  pthread_mutex_unlock (&streams_lock);
  return kept;
}

static void
end_streams (const char *token, const char *text)
{
  pthread_mutex_lock (&streams_lock);
  for (int i = 0; i < MAX_STREAMS; i++)
    if (strcmp (streams[i].token, token) == 0) {
      if (streams[i].is_stdout)
        (void)!write (streams[i].fd, text, strlen (text));
      close (streams[i].fd);
      *streams[i].token = '\0';
    }
  pthread_mutex_unlock (&streams_lock);
}

/* A shell takes all that it is sent. */
static void
drain (const char *token)
{
  char sent[4096];
  int fd = -1;
  pthread_mutex_lock (&streams_lock);
  for (int i = 0; i < MAX_STREAMS; i++)
    if (streams[i].is_stdin && strcmp (streams[i].token, token) == 0)
      fd = streams[i].fd;
  pthread_mutex_unlock (&streams_lock);
  while (fd >= 0 && read (fd, sent, sizeof sent) > 0)
    ;
}

/* Behind the line is the request. */
static void
run_command (FILE *from, FILE *to, const char *token, size_t length)
{
  static const char shell[] = "arg=sh\0arg=-c"; /* what a work tree is sent to */
  char request[16384];
  if (length > sizeof request || fread (request, 1, length, from) != length || !obey ("exec")) {
    end_streams (token, "");
    fprintf (to, "%s error as it was told\n", token);
    return;
  }
  fprintf (to, "%s ok\n", token);
  fflush (to);
  if (memmem (request, length, shell, sizeof shell))
    drain (token);
  bool ok = obey ("command");
  end_streams (token, ok ? boot_id : "");
  fprintf (to, "exit %d\n", ok ? 0 : 1);
}

static int manager = -1; /* whose hello came last */

/* Parts, each "NAME LENGTH" and so many bytes: of the machine that it is to be it takes the boot id. */
static void
become (FILE *from, FILE *to, const char *token, size_t length)
{
  char *request = malloc (length), name[32];
  FILE *parts = request && fread (request, 1, length, from) == length ? fmemopen (request, length, "r") : NULL;
  const char *id = "00000000-0000-0000-0000-000000000000";
  bool ok = parts && obey ("identity");
  for (size_t n; ok && fscanf (parts, "%31s %zu", name, &n) == 2 && getc (parts) == '\n' && n < length;) {
    char *at = request + ftell (parts);
    if (strcmp (name, "boot_id") == 0 && n < sizeof boot_id) {
      snprintf (boot_id, sizeof boot_id, "%.*s", (int)n, at);
      id = boot_id;
    }
    ok = fseek (parts, (long)n, SEEK_CUR) == 0;
  }
  struct timespec now;
  clock_gettime (CLOCK_REALTIME, &now);
  if (ok)
    fprintf (to, "%s ok %s %lld\n", token, id, (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
  else
    fprintf (to, "%s error as it was told\n", token);
  if (parts)
    fclose (parts);
  free (request);
  fflush (to);
  if (ok && obey ("ssh")) /* it listens again, as another machine's */
    dprintf (manager, "ready %s\n", boot_id);
}

/* What has a connection of its own. Returns: whether that was it. */
static bool
session_line (FILE *from, FILE *to, const char *line)
{
  char token[65], name[32];
  size_t length;
  if (sscanf (line, "exec %64s %zu", token, &length) == 2)
    run_command (from, to, token, length);
  else if (sscanf (line, "identity %64s %zu", token, &length) == 2)
    become (from, to, token, length);
  else if (sscanf (line, "stream %64s %31s", token, name) != 2)
    return false;
  else if (keep_stream (token, name, dup (fileno (to))))
    fprintf (to, "%s ok\n", token);
  fflush (to);
  return true;
}

/* One line of the host's to the agent. Returns: whether the connection goes on. */
static bool
agent_line (FILE *to, const char *line)
{
  char verb[32], token[65], step[48];
  if (sscanf (line, "%31s %64s", verb, token) != 2)
    return true;
  snprintf (step, sizeof step, "agent.%s", verb);
  while (paused)
    sleep_ms (LOOK_MSEC);
  if (!obey (step)) {
    fprintf (to, "%s error as it was told\n", token);
    return true;
  }
  if (strcmp (verb, "names") == 0) /* on its console, for who looks */
    printf ("%s", line);
  struct timespec now;
  clock_gettime (CLOCK_REALTIME, &now);
  if (strcmp (verb, "clock") == 0)
    fprintf (to, "%s ok %lld\n", token, (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
  else if (strcmp (verb, "stats") == 0)
    fprintf (to, "%s ok 100000 50000 12 5 100\n", token);
  else
    fprintf (to, "%s ok%s\n", token,
             strcmp (verb, "hello") == 0 ? " banger-guest 0 " BANGER_GUEST_CAN_EXEC " " BANGER_GUEST_CAN_IDENTITY
                                           " " BANGER_GUEST_CAN_NAMES
                                         : "");
  if (strcmp (verb, "hello") == 0) {
    manager = fileno (to);
    if (obey ("ready"))
      fprintf (to, "ready %s\n", boot_id);
  }
  fflush (to);
  if (strcmp (verb, "shutdown") == 0 || strcmp (verb, "poweroff") == 0)
    end_in_order ();
  return true;
}

static void
serve_agent (FILE *from, FILE *to)
{
  char line[BANGER_GUEST_MAX_LINE];
  if (!fgets (line, sizeof line, from) || strncmp (line, "CONNECT ", 8) != 0 || !obey ("agent"))
    return;
  fprintf (to, "OK 1073741824\n");
  fflush (to);
  while (fgets (line, sizeof line, from) && !session_line (from, to, line) && agent_line (to, line))
    fflush (to);
}

/* Firecracker's API: what is asked, and how many bytes of body come behind it */

static void start_listening (const char *path, void (*serve) (FILE *, FILE *));

static bool
action (const char *body)
{
  if (strstr (body, "SendCtrlAltDel")) {
    end_in_order ();
  } else if (strstr (body, "InstanceStart")) {
    if (!boot ())
      return false;
    start_listening (BANGER_JAIL_VSOCK, serve_agent);
  }
  return true;
}

/* The guest is its number of boots and the name of the last. */
static bool
save (void)
{
  FILE *state = fopen (BANGER_JAIL_SAVE_STATE, "w"), *memory = fopen (BANGER_JAIL_SAVE_MEMORY, "w");
  bool ok = state && memory && fprintf (state, "%s\n", vm_id) > 0
            && fprintf (memory, "%llu %s\n", (unsigned long long)boots, boot_id) > 0;
  ok = (!state || fclose (state) == 0) && ok;
  return (!memory || fclose (memory) == 0) && ok;
}

static bool
load (void)
{
  FILE *memory = fopen (BANGER_JAIL_SAVED_MEMORY, "r");
  unsigned long long saved;
  bool ok = memory && fscanf (memory, "%llu %63s", &saved, boot_id) == 2;
  if (memory)
    fclose (memory);
  if (!ok)
    return false;
  boots = saved;
  paused = true;
  start_listening (BANGER_JAIL_VSOCK, serve_agent);
  return true;
}

/* What has a step of its own; the others configure. */
static bool
serve_request (const char *path, const char *body)
{
  if (strcmp (path, "/actions") == 0)
    return obey ("boot") && action (body);
  if (strcmp (path, "/snapshot/create") == 0)
    return obey ("save") && save ();
  if (strcmp (path, "/snapshot/load") == 0)
    return obey ("load") && load ();
  if (strcmp (path, "/vm") != 0)
    return obey ("api");
  if (!obey ("pause"))
    return false;
  paused = strstr (body, "Paused");
  return true;
}

static void
serve_api (FILE *from, FILE *to)
{
  char line[4096], path[64] = "", body[4096];
  size_t length = 0;
  while (fgets (line, sizeof line, from)) {
    if (sscanf (line, "PUT %63s", path) == 1 || sscanf (line, "PATCH %63s", path) == 1)
      length = 0;
    (void)sscanf (line, "Content-Length: %zu", &length);
    if (strcmp (line, "\r\n") != 0)
      continue;
    if (length >= sizeof body || fread (body, 1, length, from) != length)
      return;
    body[length] = '\0';
    bool ok = serve_request (path, body);
    fprintf (to, ok ? "HTTP/1.1 204 No Content\r\n\r\n"
                    : "HTTP/1.1 400 Bad Request\r\nContent-Length: 27\r\n\r\n{\"fault_message\":\"refused\"}");
    fflush (to);
  }
}

/* Connections, a thread each */

typedef struct {
  int fd;
  void (*serve) (FILE *, FILE *);
} Door;

static void *
serve_one (void *data)
{
  Door *door = data;
  FILE *from = fdopen (door->fd, "r"), *to = fdopen (dup (door->fd), "w");
  door->serve (from, to);
  fclose (from);
  fclose (to);
  free (door);
  return NULL;
}

static void
new_thread (void *(*func) (void *), int fd, void (*serve) (FILE *, FILE *))
{
  Door *door = malloc (sizeof *door);
  pthread_t thread;
  *door = (Door){ fd, serve };
  if (pthread_create (&thread, NULL, func, door) != 0)
    _exit (4);
  pthread_detach (thread);
}

static void *
accept_all (void *data)
{
  Door *door = data;
  for (int fd; (fd = accept4 (door->fd, NULL, NULL, SOCK_CLOEXEC)) >= 0;)
    new_thread (serve_one, fd, door->serve);
  return NULL;
}

static void
start_listening (const char *path, void (*serve) (FILE *, FILE *))
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  strncpy (address.sun_path, path, sizeof address.sun_path - 1);
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  (void)unlink (path);
  if (fd < 0 || bind (fd, (struct sockaddr *)&address, sizeof address) < 0 || listen (fd, 16) < 0) {
    printf ("%s: %s\n", path, strerror (errno));
    _exit (5);
  }
  new_thread (accept_all, fd, serve);
}

int
main (int argc, char **argv)
{
  const char *api = BANGER_JAIL_API_SOCKET;
  for (int i = 1; i + 1 < argc; i++) {
    if (strcmp (argv[i], "--id") == 0)
      vm_id = argv[i + 1];
    else if (strcmp (argv[i], "--api-sock") == 0)
      api = argv[i + 1];
  }
  if (!vm_id)
    return 2;
  setvbuf (stdout, NULL, _IOLBF, 0);
  (void)signal (SIGPIPE, SIG_IGN);
  if (obey ("socket"))
    start_listening (api, serve_api);
  for (;;)
    pause ();
}

/* Programs in place of banger-intake that were taken over by what they read: which one, says the name.
 * Started by test-intake.c and test-import.c through $BANGER_INTAKE.
 * Never harms anybody but its parent. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "intake/protocol.h"

#define SEED ((guint64)128 << 20)

static void
drain (void)
{
  char buffer[65536];
  while (read (BANGER_INTAKE_SOURCE_FD, buffer, sizeof buffer) > 0)
    ;
}

static void
say (const void *bytes, gsize length)
{
  (void)!write (BANGER_INTAKE_ANSWER_FD, bytes, length);
}

static BangerIntakeResult
good (void)
{
  BangerIntakeResult result = { .size_bytes = 64 << 20, .used_bytes = 1 << 20, .seed_bytes = SEED };
  g_strlcpy (result.version, "6.1.0", sizeof result.version);
  return result;
}

static void
done (BangerIntakeResult result)
{
  banger_intake_say_done (BANGER_INTAKE_ANSWER_FD, &result);
}

static void
size_targets (void)
{
  (void)!ftruncate (BANGER_INTAKE_TARGET_FD, 64 << 20);
  (void)!ftruncate (BANGER_INTAKE_TARGET_FD + 1, (off_t)SEED);
}

static void
honest (void)
{
#ifndef __SANITIZE_ADDRESS__ /* whose reports go there */
  struct stat err;
  if (fstat (2, &err) < 0 || !S_ISCHR (err.st_mode) || err.st_rdev != makedev (1, 3))
    _exit (4); /* the daemon's log takes what a line begins with for how urgent it is */
#endif
  drain ();
  size_targets ();
  done (good ());
}

static void
hang (void)
{
  (void)!pwrite (BANGER_INTAKE_TARGET_FD, &(pid_t){ getpid () }, sizeof (pid_t), 0);
  for (;;)
    pause ();
}

static void
babble (void)
{
  while (banger_intake_say_warning (BANGER_INTAKE_ANSWER_FD, "and another thing"))
    ;
}

static void
nonsense (void)
{
  say ("HTTP/1.1 200 OK\r\n\r\n", 19);
  drain ();
}

static void
endless_frame (void)
{
  const guint32 header[] = { 2, 0xffffffff };
  say (header, sizeof header);
  for (;;)
    say ("xxxxxxxxxxxxxxxx", 16);
}

static void
half_a_frame (void)
{
  drain ();
  const guint32 header[] = { 4, sizeof (BangerIntakeResult) };
  say (header, sizeof header);
}

static void
die (void)
{
  raise (SIGKILL); /* sanitizers have a handler for most others */
}

static void
mute (void)
{
  drain ();
}

static void
early (void)
{
  done (good ());
}

static void
twice (void)
{
  honest ();
  done (good ());
}

static void
bad_status (void)
{
  honest ();
  _exit (3);
}

static void
greedy (void)
{
  void *much = mmap (NULL, (size_t)3 << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (much == MAP_FAILED)
    raise (SIGKILL);
  honest ();
}

static void
long_file (void)
{
  (void)!ftruncate (BANGER_INTAKE_TARGET_FD, (off_t)1 << 45);
  honest ();
}

static void
fill (void)
{
  static const char block[1 << 16] = { 1 };
  while (write (BANGER_INTAKE_TARGET_FD, block, sizeof block) > 0)
    ;
  hang ();
}

static void
some (void)
{
  static const char block[1 << 16] = { 1 };
  drain ();
  for (guint i = 0; i < 128; i++)
    (void)!write (BANGER_INTAKE_TARGET_FD, block, sizeof block);
  size_targets ();
  done (good ());
}

/* Asks for files, one after the other, and takes none of the answers, of a byte each. */
static void
ask (void)
{
  const guint32 frame[] = { 6, sizeof (guint32), 0x78787878 };
  for (guint i = 0; i < BANGER_INTAKE_MAX_ASKED; i++) {
    say (frame, sizeof frame);
    for (int there = 0; there <= (int)i; g_usleep (100))
      if (ioctl (BANGER_INTAKE_SOURCE_FD, FIONREAD, &there) < 0)
        _exit (1);
  }
  hang ();
}

static void
code (void)
{
  const GError error = { banger_error_quark (), BANGER_ERROR_NOT_AUTHORIZED, (char *)"\033[2Jask \xff root\n" };
  banger_intake_say_failed (BANGER_INTAKE_ANSWER_FD, &error);
}

static void
lie (guint64 size, guint64 used, guint64 seed)
{
  drain ();
  size_targets ();
  done ((BangerIntakeResult){ .size_bytes = size, .used_bytes = used, .seed_bytes = seed, .version = "1" });
}

static void
lie_size (void)
{
  lie ((guint64)1 << 40, 0, SEED);
}

static void
lie_used (void)
{
  lie (64 << 20, (64 << 20) + 1, SEED);
}

static void
lie_seed (void)
{
  lie (64 << 20, 0, SEED + 4096);
}

static void
lie_nothing (void)
{
  lie (0, 0, SEED);
}

static const struct {
  const char *name;
  void (*act) (void);
} acts[] = { { "honest", honest },
             { "hang", hang },
             { "babble", babble },
             { "nonsense", nonsense },
             { "endless-frame", endless_frame },
             { "half-a-frame", half_a_frame },
             { "die", die },
             { "mute", mute },
             { "early", early },
             { "twice", twice },
             { "bad-status", bad_status },
             { "greedy", greedy },
             { "long-file", long_file },
             { "fill", fill },
             { "some", some },
             { "ask", ask },
             { "code", code },
             { "lie-size", lie_size },
             { "lie-used", lie_used },
             { "lie-seed", lie_seed },
             { "lie-nothing", lie_nothing } };

int
main (int argc, char **argv)
{
  g_autofree char *name = g_path_get_basename (argv[0]);
  for (guint i = 0; i < G_N_ELEMENTS (acts); i++)
    if (strcmp (acts[i].name, name) == 0)
      acts[i].act ();
  return 0;
}

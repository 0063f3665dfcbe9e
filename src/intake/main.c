/* banger-intake: reads what strangers made (tars, ext4 files, kernels, packages), for bangerd and banger.
 * Executed by intake.c as the owner and by cp-out.c as the user, with what it reads and writes as descriptors.
 * Never opens a file: before it reads a byte, a filter of system calls takes away the means. */
#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cage-rows.h"
#include "intake/entries.h"
#include "intake/files.h"
#include "intake/image.h"
#include "intake/kernel.h"

static BangerIntakeEnds ends = { .source_fd = BANGER_INTAKE_SOURCE_FD,
                                 .target_fds = { BANGER_INTAKE_TARGET_FD, BANGER_INTAKE_TARGET_FD + 1 },
                                 .extra_fd = -1,
                                 .answer_fd = BANGER_INTAKE_ANSWER_FD };

static gboolean
take_tar (guint64 number, BangerIntakeResult *result, GError **error)
{
  return banger_intake_tar (&ends, number, result, error);
}

static gboolean
take_oci (guint64 number, BangerIntakeResult *result, GError **error)
{
  return banger_intake_oci (&ends, number, result, error);
}

static gboolean
take_ext4 (guint64 number, BangerIntakeResult *result, GError **error)
{
  return banger_intake_ext4 (&ends, result, error);
}

static gboolean
give_tar (guint64 number, BangerIntakeResult *result, GError **error)
{
  return banger_intake_export (&ends, result, error);
}

static gboolean
take_disks (guint64 number, BangerIntakeResult *result, GError **error)
{
  return banger_intake_commit (&ends, result, error);
}

static gboolean
take_kernel (guint64 number, BangerIntakeResult *result, GError **error)
{
  return banger_intake_kernel (&ends, ends.extra_fd, result, error);
}

static const struct {
  const char *word;
  gboolean (*take) (guint64 number, BangerIntakeResult *result, GError **error);
} verbs[] = { { BANGER_INTAKE_TAR, take_tar },    { BANGER_INTAKE_OCI, take_oci },
              { BANGER_INTAKE_EXT4, take_ext4 },  { BANGER_INTAKE_COMMIT, take_disks },
              { BANGER_INTAKE_EXPORT, give_tar }, { BANGER_INTAKE_KERNEL, take_kernel } };

static int
serve (const char *word, guint64 number)
{
  BangerIntakeResult result = { 0 };
  g_autoptr (GError) error = NULL;
  if (strcmp (word, BANGER_INTAKE_FILES) == 0)
    return !banger_intake_files (ends.source_fd, ends.answer_fd);
  for (guint i = 0; i < G_N_ELEMENTS (verbs); i++)
    if (strcmp (verbs[i].word, word) == 0)
      return verbs[i].take (number, &result, &error) ? !banger_intake_say_done (ends.answer_fd, &result)
                                                     : !banger_intake_say_failed (ends.answer_fd, error);
  return 2;
}

/* What opens files when it is used first is used now: the locale, in which names are bytes of UTF-8. */
static void
warm_up (void)
{
  (void)setlocale (LC_CTYPE, "C.UTF-8");
  (void)g_get_real_time ();
  (void)g_random_int ();
}

static gboolean
enter_cage (void)
{
#ifndef __SANITIZE_ADDRESS__ /* sanitizers need more, and their builds are for tests */
  static const BangerCageRow files[] = { ALLOW ("recvmsg"), END_OF_ROWS };
  static const BangerCageTable table = { .otherwise = EPERM, .rows = { banger_cage_basic, files } };
  BangerCage *cage = banger_cage_new (&table);
  if (!cage || banger_cage_enter (cage) < 0)
    return FALSE;
  banger_cage_free (cage);
#endif
  return TRUE;
}

static void
reset_signals (void)
{
  sigset_t none;
  sigemptyset (&none);
  (void)sigprocmask (SIG_SETMASK, &none, NULL);
  (void)signal (SIGPIPE, SIG_IGN); /* nobody listens: the verb fails, or the parent's end kills */
}

int
main (int argc, char **argv)
{
  struct stat st;
  if (argc < 3 || argc > 4 || isatty (BANGER_INTAKE_SOURCE_FD) || isatty (BANGER_INTAKE_ANSWER_FD)) {
    fputs ("banger-intake is started by bangerd and banger\n", stderr);
    return 2;
  }
  (void)prctl (PR_SET_DUMPABLE, 0, 0, 0, 0);
  if (fstat (BANGER_INTAKE_EXTRA_FD, &st) == 0)
    ends.extra_fd = BANGER_INTAKE_EXTRA_FD;
  ends.reference = argv[3];
  reset_signals ();
  warm_up ();
  if (!enter_cage ())
    return 1;
  _exit (serve (argv[1], g_ascii_strtoull (argv[2], NULL, 10)));
}

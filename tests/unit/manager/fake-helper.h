/* A root helper inside of the test: it remembers what it was asked, "launches" a sleeping process as VMM and plays
 * the guest behind its sockets. Stands in for helper.c.
 * Never part of an installed program. */
#pragma once

#include "manager/peer/helper-answers.h"
#include "manager/peer/helper.h"

typedef struct {
  char *run_root;         /* <runtime>/<uid> */
  GString *story;         /* method names in order */
  const char *fail;       /* method that fails, NULL none */
  const char *hangs;      /* method that is not answered, "all", NULL none */
  gboolean away;          /* every call: HelperUnavailable */
  gboolean keep_vmm;      /* whatever is said, no VMM is killed */
  gboolean rests;         /* PrepareVm: the VM holds something already, until it is released */
  gboolean no_snapshots;  /* PrepareVm: no device-mapper */
  guint busy_msec;        /* KillVmm's turn comes after so long */
  GTask *hung;            /* OpenVmm's, while it is not answered: with fail = "OpenVmm hangs" */
  gboolean fresh, disk;   /* what the last PrepareVm said of the disk, and whether it wanted one */
  gboolean deaf_guest;    /* the agent accepts and says nothing */
  gboolean old_taps;      /* leases are an older version's */
  gboolean unlisted;      /* leases cannot be read: they are in no list */
  gboolean lost;          /* nor can they otherwise: only ReleaseVm goes without one */
  gboolean no_sshd;       /* the guest has no ssh server */
  gboolean stubborn;      /* "shutdown" and "poweroff" are answered, and nothing happens */
  const char *identity;   /* how the agent answers `identity`, %s: the boot id; NULL: it is an old one */
  GBytes *told;           /* what it was told then */
  gboolean slow_shutdown; /* "shutdown" takes a fifth of a second */
  GHashTable *leases;     /* vm -> pid as pointer, 0 none */
  gboolean paused;        /* the guest */
  const char *vms_path;   /* where the VMM saves it to */
  guint launches;
  guint32 memory_mib; /* of the last launch */
  gboolean available; /* from the start */
  const char *engine; /* "qemu|problem|": what GetEngine says; NULL: it cannot be asked */
  const char *orders; /* file that sets fail or hangs, "fail ReleaseVm", as long as it is there; NULL none */
  const char *agent;  /* socket of who plays the guests' agent, and is given theirs; NULL: this one does */
  BangerHelper *helper;
} FakeHelper;

extern FakeHelper fake;

void fake_helper_up (const char *run_root);
void fake_helper_down (void);
/** fake_helper_set_available: tells those who want to know. */
void fake_helper_set_available (BangerHelper *helper, gboolean available);
/** fake_helper_resume: it answers again; what waited had no answer in time. */
void fake_helper_resume (void);
/** fake_helper_answer_late: as if a call that nobody waits for any more were answered. */
void fake_helper_answer_late (BangerHelper *helper);
/** fake_count: how often @method was called. */
guint fake_count (const char *method);

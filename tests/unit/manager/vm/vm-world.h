/* A house for VMs of the real code, with a helper and a guest that live in the test.
 * Never touches the host's network or the caller's files. */
#pragma once

#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/names.h"
#include "manager/core/fault.h"
#include "manager/vm/private.h"
#include "../fake-helper.h"

#define IMAGE "aaaaaaaaaaaa"
#define KERNEL "bbbbbbbbbbbb"

typedef struct {
  char *top, *vms_path;
  char *hang; /* says where workers hang */
  BangerInstall install;
  BangerConfig *config; /* the owner's */
  BangerHelper *helper;
  BangerWriter *writer;
  BangerVms *vms;
  BangerJobs *jobs_table;
  GSocketService *sshd;
  GString *changes;
  gboolean done, ok;
  GError *error;
  guint jobs;
} World;

extern GMutex synced_lock;
extern GHashTable *synced;
extern ino_t sync_fails;
extern ino_t sync_hangs;
extern guint syncs_waiting;
extern const char nothing_made[];

void make_file (World *world, const char *name, const char *content);
void load (World *world);
void crash (World *world);
gboolean sshd_up (World *world);
void world_up (World *world, gconstpointer data);
void world_down (World *world, gconstpointer data);
/* Returns: (transfer none): NULL: refused, with world->error. */
BangerJob *begin (World *world, BangerVm *vm, BangerVmVerb verb, const BangerVmVerbOptions *options);
gboolean on_deadline (gpointer user_data);
void run_until (gboolean *flag);
void run_until_story (const char *word);
void run_until_state (BangerVm *vm, BangerVmState state);
void verb (World *world, BangerVm *vm, BangerVmVerb which, const BangerVmVerbOptions *options);
BangerVm *make_vm (World *world, const char *name);
void assert_state (BangerVm *vm, BangerVmState state);
char *folder_listing (World *world, BangerVm *vm);
gboolean run_folder_exists (World *world, BangerVm *vm);
void assert_nothing_left (World *world, BangerVm *vm);
void run_until_settled (const BangerVm *vm);
void on_start_ended (BangerJob *job, const GError *error, gpointer user_data);
BangerJob *begin_aside (World *world, BangerVm *vm, BangerVmVerb which, BangerJobEnd end, gboolean *flag);
void on_fine (BangerJob *job, const GError *error, gpointer user_data);
void reconcile (World *world);
void run_until_count (const char *word, guint n);
void hang_at (World *world, const char *stages);
void on_given_up (BangerJob *job, const GError *error, gpointer user_data);
char *recorded_state (World *world, BangerVm *vm);

/** guest_address_of: of the VM that is @number in the network; the first is 2. */
char *guest_address_of (guint number);

/** vm_world_main: runs what @add adds. @net: a number of the program's own: programs run side by side, and each listens in
 * a loopback network of that number. */
int vm_world_main (int argc, char **argv, guint net, void (*add) (void));

#define ADD(name, func) g_test_add ("/vm/" name, World, NULL, world_up, func, world_down)

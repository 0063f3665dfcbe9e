/* Rows of the command table about snapshots and copies, apart as that is long.
 * Included by command-table.c alone, behind what EXAMPLES and the plain options are. */
#pragma once

#include "cli/option-rows.h"

/* clang-format off */
static const BangerCliOption restore_options[] = {
  { "force", 'f', BANGER_CLI_FLAG, NULL, 0, N_ ("lose what the VM has now; kill it first if it runs") },
  { "start", 0, BANGER_CLI_FLAG, NULL, 0, N_ ("have it go on at once, and wait until it is ready") },
  QUIET,
  END_OF_OPTIONS,
};
#define SNAPSHOT_OF { N_ ("NAME"), 0, BANGER_COMPLETE_VMS, N_ ("name or id of a VM") }
static const BangerCliArgument new_snapshot_arguments[] = {
  SNAPSHOT_OF,
  { N_ ("SNAPSHOT"), BANGER_ARGUMENT_OPTIONAL, BANGER_COMPLETE_NOTHING,
    N_ ("name of the snapshot, a DNS label; without it one is made of the time, and printed") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument snapshot_arguments[] = {
  SNAPSHOT_OF,
  { N_ ("SNAPSHOT"), 0, BANGER_COMPLETE_SNAPSHOTS, N_ ("name or id of one of its snapshots") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument snapshots_arguments[] = {
  SNAPSHOT_OF,
  { N_ ("SNAPSHOT"), BANGER_ARGUMENT_REPEATED, BANGER_COMPLETE_SNAPSHOTS, N_ ("names or ids of its snapshots") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument snapshot_list_arguments[] = {
  { N_ ("NAME"), BANGER_ARGUMENT_OPTIONAL, BANGER_COMPLETE_VMS, N_ ("name or id of a VM; without it those of all") },
  END_OF_ARGUMENTS,
};

static const BangerCliArgument fork_arguments[] = {
  { N_ ("NAME"), 0, BANGER_COMPLETE_VMS, N_ ("name or id of a VM that runs or is paused") },
  { N_ ("NEW"), 0, BANGER_COMPLETE_NOTHING, N_ ("name of the copy, a DNS label; with --count of what their names begin with") },
  END_OF_ARGUMENTS,
};
static const BangerCliOption fork_options[] = {
  { "count", 0, BANGER_CLI_UINT, N_ ("COUNT"), 0, N_ ("make so many, called NEW-1, NEW-2 and so on"), 1, 32 },
  JSON,
  QUIET,
  END_OF_OPTIONS,
};
#define FORK_COMMAND \
  { "vm fork", N_ ("make copies of a running VM, which run from where it is"), \
    N_ ("The copies have the memory and the disks of the VM, and what runs in it goes on in each of them. Each is a VM of its own: it has its " \
        "own name, address, machine id, boot id, ssh host keys and random numbers, and its clock is right. " \
        "Connections that the VM had to others end in the copies. The VM stands still while it is written down, and goes on; a paused one stays paused, and its " \
        "copies run.\n\n" \
        "They have the VM's size and may reach what it may, but none of its forwarded ports: `banger vm forward` " \
        "gives them some of their own. Nobody who is linked to the VM reaches a copy. Snapshots stay the VM's.\n\n" \
        "With --count all are made of one moment. If one of them cannot be started none is left. A VM that is deleted when it ends (--rm) " \
        "cannot be forked.\n\n" \
        "With --json it prints an array of the copies, as `banger vm list --json` does."), \
    fork_arguments, fork_options, BANGER_TAIL_NONE, \
    EXAMPLES ({ "banger vm fork web try", N_ ("try something in try; web is as it was") }, \
              { "banger vm fork --count 4 web test", N_ ("test-1 to test-4, all from the same moment") }, \
              { "banger vm fork --json web try", N_ ("for programs: an array of objects") }), \
    banger_vm_fork }

#define SNAPSHOT_COMMANDS \
  { "vm snapshot create", N_ ("keep a VM as it is now"), \
    N_ ("Keeps the disks of a VM and, unless it is stopped, what is in its guest's memory: `banger vm snapshot restore` has it " \
        "as it was. A running guest stands still while its memory and its disks are written, and goes on: for the time that " \
        "takes, which is longer the more of the memory is in use.\n\n" \
        "A snapshot takes the room of what is in it. It is deleted with its VM."), \
    new_snapshot_arguments, quiet_options, BANGER_TAIL_NONE, \
    EXAMPLES ({ "banger vm snapshot create web before-upgrade", N_ ("then try what may go wrong") }, \
              { "banger vm snapshot create web", N_ ("its name is the time") }), \
    banger_vm_snapshot_create }, \
  { "vm snapshot list", N_ ("list the snapshots of VMs"), N_ ("One line for each snapshot, by name."), \
    snapshot_list_arguments, json_options, BANGER_TAIL_NONE, \
    EXAMPLES ({ "banger vm snapshot list web", N_ ("those of one VM") }, \
              { "banger vm snapshot list --json", N_ ("for programs: an array of objects") }), \
    banger_vm_snapshot_list }, \
  { "vm snapshot restore", N_ ("have a VM as it was in a snapshot"), \
    N_ ("The VM has the disks that it had, its size, and, if the snapshot has its memory, its guest goes on where it was then by " \
        "`banger vm start`; else it is booted. The snapshot stays, and so do all others.\n\n" \
        "What the VM has now is lost, so that --force is needed, but for a VM that was not started since. A running VM is killed. " \
        "The snapshot is looked at first: one that is damaged, or that another banger or processor made, changes nothing."), \
    snapshot_arguments, restore_options, BANGER_TAIL_NONE, \
    EXAMPLES ({ "banger vm snapshot restore --force --start web before-upgrade", N_ ("back, and running") }, \
              { "banger vm snapshot restore web as-made", N_ ("one that was not started since") }), \
    banger_vm_snapshot_restore }, \
  { "vm snapshot delete", N_ ("delete snapshots of a VM"), N_ ("The VM and its other snapshots stay as they are."), \
    snapshots_arguments, quiet_options, BANGER_TAIL_NONE, \
    EXAMPLES ({ "banger vm snapshot delete web before-upgrade", N_ ("free its room") }), banger_vm_snapshot_delete }
/* clang-format on */

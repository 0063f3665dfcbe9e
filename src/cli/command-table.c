/* Every command of banger: words, texts, arguments, options, examples, handler.
 * Read by the parser, --help, the man pages and completion.
 * Never repeated elsewhere: a command that is not a row does not exist. */
#include "cli/commands.h"

#include <glib/gi18n.h>

#include "cli/image-rows.h"
#include "cli/option-rows.h"
#include "cli/snapshot-rows.h"
#include "common/vm-bounds.h"

static const BangerCliOption prepare_options[] = { WORKSPACE_OPTIONS, QUIET, END_OF_OPTIONS };
static const BangerCliOption run_options[] = {
  { "rm", 0, BANGER_CLI_FLAG, NULL, 0, N_ ("delete the VM and its disks when the command or the shell ends") },
  { "name", 0, BANGER_CLI_STRING, N_ ("NAME"), 0, N_ ("name of the VM, a DNS label; without it one is made up") },
  VM_SHAPE,
  WORKSPACE_OPTIONS,
  { "detach", 'd', BANGER_CLI_FLAG, NULL, 0, N_ ("return as soon as the VM is ready and print its name") },
  COMMAND_OPTIONS,
  NO_STDIN,
  QUIET,
  END_OF_OPTIONS,
};
static const BangerCliOption create_options[] = {
  VM_SHAPE,
  { "start", 0, BANGER_CLI_FLAG, NULL, 0, N_ ("start the VM too, and wait until it is ready") },
  QUIET,
  END_OF_OPTIONS,
};
static const BangerCliOption warm_options[] = {
  { "kernel", 0, BANGER_CLI_STRING, N_ ("KERNEL"), BANGER_COMPLETE_KERNELS, N_ ("guest kernel to boot") },
  VM_SIZES,
  QUIET,
  END_OF_OPTIONS,
};
static const BangerCliOption install_options[] = {
  { "owner", 0, BANGER_CLI_STRING, N_ ("USER"), 0, N_ ("the user whose VMs the root helper serves") },
  { "system-account", 0, BANGER_CLI_FLAG, NULL, 0, N_ ("the owner may be a system account (made for banger)") },
  END_OF_OPTIONS,
};
static const BangerCliOption uninstall_options[] = {
  { "purge", 0, BANGER_CLI_FLAG, NULL, 0, N_ ("delete all VMs, images and kernels too") },
  END_OF_OPTIONS,
};
static const BangerCliOption ssh_config_options[] = {
  { "install", 0, BANGER_CLI_FLAG, NULL, 0, N_ ("put the two lines at the top of ~/.ssh/config") },
  { "uninstall", 0, BANGER_CLI_FLAG, NULL, 0, N_ ("take them away") },
  QUIET,
  END_OF_OPTIONS,
};
static const BangerCliOption start_options[] = {
  { "discard", 0, BANGER_CLI_FLAG, NULL, 0, N_ ("boot a suspended VM anew; what was in its memory is lost") },
  QUIET,
  END_OF_OPTIONS,
};
static const BangerCliOption prune_options[] = {
  { "force", 'f', BANGER_CLI_FLAG, NULL, 0, N_ ("ask nobody") },
  { "dry-run", 0, BANGER_CLI_FLAG, NULL, 0, N_ ("only show what would be deleted") },
  JSON,
  QUIET,
  END_OF_OPTIONS,
};
static const BangerCliOption kill_options[] = {
  { "signal", 's', BANGER_CLI_STRING, N_ ("SIGNAL"), BANGER_COMPLETE_SIGNALS,
    N_ ("send the VMM this one instead of KILL: TERM, INT, HUP, QUIT, USR1, USR2, ABRT") },
  QUIET,
  END_OF_OPTIONS,
};
static const BangerCliOption set_options[] = {
  { "name", 0, BANGER_CLI_STRING, N_ ("NEW"), 0, N_ ("call it NEW, a DNS label, from here on") },
  VM_SIZES,
  { "nat", 0, BANGER_CLI_FLAG, NULL, 0, N_ ("give the VM a way out of the host") },
  { "no-nat", 0, BANGER_CLI_FLAG, NULL, 0, N_ ("give the VM no way out of the host") },
  { "link", 0, BANGER_CLI_STRV, N_ ("OTHER"), BANGER_COMPLETE_VMS, N_ ("let it reach the VM OTHER") },
  { "unlink", 0, BANGER_CLI_STRV, N_ ("OTHER"), BANGER_COMPLETE_VMS, N_ ("let it reach the VM OTHER no more") },
  { "allow-host", 0, BANGER_CLI_STRV, N_ ("PORT"), 0, N_ ("let it reach that TCP port of the host, as host.vm") },
  { "deny-host", 0, BANGER_CLI_STRV, N_ ("PORT"), 0, N_ ("let it reach that port of the host no more") },
  { "setup", 0, BANGER_CLI_STRING, N_ ("FILE"), BANGER_COMPLETE_FILES,
    N_ ("that script in the place of the one that has not run well yet") },
  QUIET,
  END_OF_OPTIONS,
};
static const BangerCliOption delete_options[] = {
  { "force", 'f', BANGER_CLI_FLAG, NULL, 0, N_ ("kill the VM first if it runs") },
  QUIET,
  END_OF_OPTIONS,
};
static const BangerCliOption exec_options[] = {
  { "cwd", 0, BANGER_CLI_STRING, N_ ("DIRECTORY"), BANGER_COMPLETE_GUEST_FILES,
    N_ ("directory in the guest where the command starts; default the copy of a work tree, else the image's, or the user's "
        "home, from which a relative one is seen") },
  { "sync", 0, BANGER_CLI_FLAG, NULL, 0,
    N_ ("first send the work tree again, as `banger vm workspace prepare NAME`: what the guest changed in its files is lost") },
  COMMAND_OPTIONS,
  NO_STDIN,
  QUIET,
  END_OF_OPTIONS,
};
#define MAX_SIZE                                                                                                       \
  {                                                                                                                    \
    "max-size", 0, BANGER_CLI_SIZE, N_ ("SIZE"), 0, N_ ("take no more than that from the guest; default 1G"), 1,       \
        G_MAXINT64                                                                                                     \
  }
static const BangerCliOption export_options[] = {
  { "output", 'o', BANGER_CLI_STRING, N_ ("FILE"), BANGER_COMPLETE_FILES,
    N_ ("write to FILE, which is there when it is whole; without it to stdout") },
  { "commits", 0, BANGER_CLI_FLAG, NULL, 0,
    N_ ("the commits that were made in the guest, as a mailbox for git am; what is not committed stays behind") },
  { "apply", 0, BANGER_CLI_FLAG, NULL, 0,
    N_ ("put it into the work tree on this host that was sent: all of it, or nothing") },
  { "3way", 0, BANGER_CLI_FLAG, NULL, 0,
    N_ ("with --apply: merge it with what was changed there since; what cannot be merged changes nothing") },
  MAX_SIZE,
  QUIET,
  END_OF_OPTIONS,
};
static const BangerCliOption diff_options[] = { MAX_SIZE, END_OF_OPTIONS };
static const BangerCliOption logs_options[] = {
  { "follow", 'f', BANGER_CLI_FLAG, NULL, 0, N_ ("go on as the log grows, until the VM stops") },
  { "setup", 0, BANGER_CLI_FLAG, NULL, 0, N_ ("what the setup of the new guest has written, in place of the console") },
  END_OF_OPTIONS,
};
static const BangerCliOption forward_options[] = {
  { "remove", 0, BANGER_CLI_FLAG, NULL, 0, N_ ("forward no longer what is named; connections that are open stay") },
  JSON,
  QUIET,
  END_OF_OPTIONS,
};
static const BangerCliOption ps_options[] = {
  { "all", 'a', BANGER_CLI_FLAG, NULL, 0, N_ ("list VMs that do not run, too") },
  JSON,
  END_OF_OPTIONS,
};
static const BangerCliOption build_options[] = {
  { "file", 'f', BANGER_CLI_STRING, N_ ("CONTAINERFILE"), BANGER_COMPLETE_FILES,
    N_ ("build that with buildah instead of a Debian; what it runs, it runs on this host") },
  { "suite", 0, BANGER_CLI_STRING, N_ ("SUITE"), 0, N_ ("Debian release to build from: bookworm") },
  { "mirror", 0, BANGER_CLI_STRING, N_ ("URL"), 0, N_ ("Debian mirror to fetch from") },
  { "package", 0, BANGER_CLI_STRV, N_ ("PACKAGE"), 0, N_ ("Debian package to add; may be given several times") },
  { "size", 0, BANGER_CLI_SIZE, N_ ("SIZE"), 0, N_ ("size of the root filesystem; without it what fits"),
    BANGER_IMAGE_MIN_BYTES, BANGER_IMAGE_MAX_BYTES },
  QUIET,
  END_OF_OPTIONS,
};
static const BangerCliOption image_import_options[] = {
  { "size", 0, BANGER_CLI_SIZE, N_ ("SIZE"), 0, N_ ("size of the root filesystem; without it what fits"),
    BANGER_IMAGE_MIN_BYTES, BANGER_IMAGE_MAX_BYTES },
  QUIET,
  END_OF_OPTIONS,
};
static const BangerCliOption kernel_import_options[] = {
  { "modules", 0, BANGER_CLI_STRING, N_ ("DIRECTORY"), BANGER_COMPLETE_DIRECTORIES,
    N_ ("modules of an ELF vmlinux or bzImage; a Debian package brings its own") },
  QUIET,
  END_OF_OPTIONS,
};
static const BangerCliOption quiet_options[] = { QUIET, END_OF_OPTIONS };
static const BangerCliOption json_options[] = { JSON, END_OF_OPTIONS };
static const BangerCliOption stats_options[] = {
  JSON,
  { "watch", 'w', BANGER_CLI_FLAG, NULL, 0, N_ ("go on, every two seconds, until it is interrupted") },
  END_OF_OPTIONS,
};
static const BangerCliOption assets_options[] = {
  { "available", 0, BANGER_CLI_FLAG, NULL, 0, N_ ("list what the catalogs have, and what of it is here") },
  JSON,
  END_OF_OPTIONS,
};

static const BangerCliArgument path_argument[] = {
  { N_ ("PATH"), BANGER_ARGUMENT_OPTIONAL, BANGER_COMPLETE_DIRECTORIES,
    N_ ("a git work tree or a directory in one; its tracked and its untracked, not ignored files and its history are "
        "copied to /root/<name of its top>") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument new_name_argument[] = {
  { N_ ("NAME"), 0, 0, N_ ("name of the new VM: 1 to 63 of a-z, 0-9 and -, no - at either end") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument vm_argument[] = {
  { N_ ("NAME"), 0, BANGER_COMPLETE_VMS, N_ ("name or id of a VM") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument prepare_arguments[] = {
  { N_ ("NAME"), 0, BANGER_COMPLETE_RUNNING_VMS, N_ ("name or id of a running VM") },
  { N_ ("PATH"), BANGER_ARGUMENT_OPTIONAL, BANGER_COMPLETE_DIRECTORIES,
    N_ ("a git work tree or a directory in one; without it the one that was sent last") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument vms_argument[] = {
  { N_ ("NAME"), BANGER_ARGUMENT_REPEATED, BANGER_COMPLETE_VMS, N_ ("names or ids of VMs") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument running_vm_argument[] = {
  { N_ ("NAME"), 0, BANGER_COMPLETE_RUNNING_VMS, N_ ("name or id of a running VM") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument running_vms_argument[] = {
  { N_ ("NAME"), BANGER_ARGUMENT_REPEATED, BANGER_COMPLETE_RUNNING_VMS, N_ ("names or ids of running VMs") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument any_running_vms_argument[] = {
  { N_ ("NAME"), BANGER_ARGUMENT_OPTIONAL | BANGER_ARGUMENT_REPEATED, BANGER_COMPLETE_RUNNING_VMS,
    N_ ("names or ids of running VMs; without one all that run") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument stopped_vms_argument[] = {
  { N_ ("NAME"), BANGER_ARGUMENT_REPEATED, BANGER_COMPLETE_STOPPED_VMS, N_ ("names or ids of stopped VMs") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument paused_vms_argument[] = {
  { N_ ("NAME"), BANGER_ARGUMENT_REPEATED, BANGER_COMPLETE_PAUSED_VMS, N_ ("names or ids of paused VMs") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument cp_arguments[] = {
  { N_ ("SRC"), 0, BANGER_COMPLETE_COPIES,
    N_ ("what is copied: a path of this host, NAME:PATH in a running VM, or - for a tar from stdin; a path that ends in /. "
        "means what is in the folder") },
  { N_ ("DST"), 0, BANGER_COMPLETE_COPIES,
    N_ ("where to: into a folder that is there, else what it becomes; - for a tar on stdout") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument forward_arguments[] = {
  { N_ ("NAME"), 0, BANGER_COMPLETE_VMS, N_ ("name or id of a VM") },
  { N_ ("[ADDRESS:]PORT:PORT"), BANGER_ARGUMENT_OPTIONAL | BANGER_ARGUMENT_REPEATED, 0,
    N_ ("a port of this host, and the one of the guest that it leads to; ADDRESS is one of this host's, without it "
        "127.0.0.1, which nobody outside this host reaches") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument images_argument[] = {
  { N_ ("NAME"), BANGER_ARGUMENT_REPEATED, BANGER_COMPLETE_IMAGES, N_ ("names or ids of images") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument kernel_import_arguments[] = {
  { N_ ("NAME"), BANGER_ARGUMENT_OPTIONAL, 0,
    N_ ("name of the new kernel: 1 to 63 of a-z, 0-9 and -, no - at either end; without it \"default\"") },
  { N_ ("SOURCE"), BANGER_ARGUMENT_OPTIONAL, BANGER_COMPLETE_FILES,
    N_ ("file of a Debian linux-image package, an ELF vmlinux or a bzImage, apt:PACKAGE or catalog:NAME; default "
        "apt:linux-image-cloud-amd64") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument kernel_pull_arguments[] = {
  { N_ ("ENTRY"), 0, BANGER_COMPLETE_AVAILABLE_KERNELS, N_ ("a name that a catalog has") },
  { N_ ("NAME"), BANGER_ARGUMENT_OPTIONAL, 0, N_ ("name of the new kernel; without it that of the catalog") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument kernel_argument[] = {
  { N_ ("NAME"), 0, BANGER_COMPLETE_KERNELS, N_ ("name or id of a kernel") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument kernels_argument[] = {
  { N_ ("NAME"), BANGER_ARGUMENT_REPEATED, BANGER_COMPLETE_KERNELS, N_ ("names or ids of kernels") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument shell_argument[] = {
  { N_ ("SHELL"), 0, BANGER_COMPLETE_SHELLS, N_ ("bash, zsh or fish") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument config_file_argument[] = {
  { N_ ("FILE"), BANGER_ARGUMENT_OPTIONAL, BANGER_COMPLETE_FILES,
    N_ ("file to check; without it ~/.config/banger/config.toml") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument command_argument[] = {
  { N_ ("COMMAND"), BANGER_ARGUMENT_OPTIONAL | BANGER_ARGUMENT_REPEATED, BANGER_COMPLETE_COMMANDS,
    N_ ("words of a command, or of the beginning of one") },
  END_OF_ARGUMENTS,
};

#define EXAMPLES(...) ((const BangerCliExample[]){ __VA_ARGS__, END_OF_EXAMPLES })

static const BangerGroup groups[] = {
  { "vm", N_ ("make, run and throw away VMs") },
  { "image", N_ ("golden images, which root disks start from") },
  { "kernel", N_ ("guest kernels with their modules") },
  { "config", N_ ("your own defaults, see banger-config(5)") },
  { "system", N_ ("install banger's services on this host, for one owner") },
  { "", N_ ("disposable Linux machines in one command") },
  { NULL },
};

static const BangerGroup subgroups[] = {
  { "vm snapshot", N_ ("VMs as they were once, and how they are that again") },
  { "vm workspace", N_ ("the copy of a work tree in a VM, and what became of it") },
  { NULL },
};

static const BangerCommand commands[] = {
  { "vm run", N_ ("boot a new VM and run a shell or a command in it"),
    N_ ("Makes a VM, boots it and waits until it is ready. With a command it is run: its arguments arrive as given, no "
        "shell splits them, its stdout and stderr stay apart, and its exit status is that of banger (128 and the number "
        "of the signal if one ended it). Without one the image's own is run, if the image is one of layers (OCI, Docker) "
        "that has an entry point or a command, else a shell in the guest is opened.\n\n"
        "A command starts with the environment, in the directory and as the user that such an image names, where --env, "
        "PATH and --user do not say otherwise. In a copy of PATH it is root.\n\n"
        "With PATH, in a git work tree, its files are copied into the guest first and the shell or command starts in "
        "the copy of PATH. What cannot be copied is said before a VM is made. What the guest changes there comes "
        "back by `banger vm workspace export --apply` alone. Of a history of more than 50 generations of commits those go along, with "
        "the branch that is checked out and the tags of what goes along (a line says how many do not); --depth all takes all of it.\n\n"
        "Scripts run once in the new guest, before PATH is there: those of [[setup]] in config.toml, then that of --setup. One "
        "that fails ends banger with its last lines; a VM that is kept runs on, and its next start tries again.\n\n"
        "Without --rm the VM goes on running afterwards and is kept until `banger vm delete`. With --rm it is gone "
        "when banger ends, also when banger is interrupted or the VM did not come up."),
    path_argument, run_options, BANGER_TAIL_OPTIONAL,
    EXAMPLES (
        { "banger vm run --rm", N_ ("a shell in a machine that is gone afterwards") },
        { "banger vm run --rm -- uname -a", N_ ("one command; banger exits with its status") },
        { "banger vm run --rm . -- make check", N_ ("test the git repository you are in") },
        { "banger vm run . --branch try --from v1.0",
          N_ ("its history in the guest, on a branch that begins at a tag") },
        { "banger vm run . --depth 1 -- make check", N_ ("the last commit of a large history alone") },
        { "banger vm run . --depth all -- git describe", N_ ("the whole history, with its tags") },
        { "banger vm run ~/Downloads/data --no-git", N_ ("a folder that is no repository") },
        { "banger vm run . --dry-run", N_ ("which files would be copied") },
        { "banger vm run --rm --image redis --publish 6379:6379", N_ ("what the image redis starts with") },
        { "banger vm run --setup tools.sh .", N_ ("a script of yours runs in the new guest first") },
        { "banger vm run --name web --memory 2G --vcpu 4 --detach", N_ ("a machine that stays") },
        { "banger vm run --rm --publish 8080:80 . -- make serve", N_ ("a server, seen at http://127.0.0.1:8080") },
        { "banger vm run --no-publish", N_ ("no ports that config.toml publishes") },
        { "banger vm run --name app --link db --allow-host 8000 --detach",
          N_ ("it reaches the VM db, as db.vm, and port 8000 of the host, as host.vm") }),
    banger_vm_run },
  { "vm create", N_ ("make a VM without starting it"),
    N_ ("Makes the record and the disks of a VM. Options that are not given have the defaults of the manager."),
    new_name_argument, create_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger vm create web", N_ ("all defaults") },
              { "banger vm create web --disk-size 20G --start", N_ ("a large work disk, and boot it") }),
    banger_vm_create },
  { "vm start", N_ ("start VMs and wait until they are ready"),
    N_ ("Boots stopped VMs. A VM is ready when its ssh server accepts connections. What the work disk (/root) holds is "
        "what the last run left there. A suspended VM goes on where it was, and its clock is set. If it cannot, because "
        "banger, the engine or the processor is another one since, or a file is damaged, it stays suspended."),
    stopped_vms_argument, start_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger vm start web", N_ ("boot one VM") },
              { "banger vm start web db", N_ ("boot two, one after the other") },
              { "banger vm start --discard web", N_ ("boot one that was suspended, as after a loss of power") }),
    banger_vm_start },
  { "vm stop", N_ ("shut VMs down"),
    N_ ("Asks the guest to shut down, so that it writes out all data, and falls back to harder means when it does not, "
        "each bounded in time."),
    running_vms_argument, quiet_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger vm stop web", N_ ("an orderly shutdown") }), banger_vm_stop },
  { "vm kill", N_ ("end VMs at once"),
    N_ ("Ends the VMM without asking the guest: as if its power was cut. Data that the guest had not written out is "
        "lost.\n\n"
        "With --signal the VMM gets that signal, and nobody waits for what it does with it; most end it. It is a signal for "
        "the VMM, which is a process of this host: a process in the guest is signalled by `banger vm exec web -- pkill -HUP nginx`."),
    running_vms_argument, kill_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger vm kill web", N_ ("when stop takes too long") },
              { "banger vm kill --signal ABRT web", N_ ("a core of the VMM, where the host keeps cores") }),
    banger_vm_kill },
  { "vm restart", N_ ("stop and start VMs"), N_ ("An orderly stop, then a start; the disks are kept."),
    running_vms_argument, quiet_options, BANGER_TAIL_NONE, EXAMPLES ({ "banger vm restart web", N_ ("boot it anew") }),
    banger_vm_restart },
  { "vm pause", N_ ("have VMs stand still"),
    N_ ("The guest stands still, as it is; its memory stays in that of the host, and it takes no processor time. It is "
        "not reached until `banger vm resume`, also not after a restart of bangerd."),
    running_vms_argument, quiet_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger vm pause web", N_ ("keep it, and its share of the processors for others") }), banger_vm_pause },
  { "vm resume", N_ ("have paused VMs go on"),
    N_ ("The guest goes on where it stood, and its clock is set to the time that it is now."), paused_vms_argument,
    quiet_options, BANGER_TAIL_NONE, EXAMPLES ({ "banger vm resume web", N_ ("after `banger vm pause web`") }),
    banger_vm_resume },
  { "vm suspend", N_ ("write VMs to the disk, so that nothing of them runs"),
    N_ ("What the guest has in its memory is written into the VM's folder, and its VMM ends: it takes neither memory nor "
        "processor time, and is still there after a restart of the host. `banger vm start` has it go on where it was. "
        "A VM that is deleted when it ends (--rm) cannot be suspended."),
    running_vms_argument, quiet_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger vm suspend web", N_ ("free its memory") }), banger_vm_suspend },
  FORK_COMMAND,
  SNAPSHOT_COMMANDS,
  { "vm delete", N_ ("delete VMs with their disks"),
    N_ ("Deletes stopped VMs and everything they hold, their snapshots too. There is no way back. A running VM is refused "
        "unless --force is given."),
    vms_argument, delete_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger vm delete web", N_ ("a stopped VM") },
              { "banger vm delete --force web db", N_ ("whatever they do") }),
    banger_vm_delete },
  { "vm prune", N_ ("delete all VMs that are stopped"),
    N_ ("Shows the VMs that are stopped, asks, and deletes them with everything they hold, their snapshots too. There is no "
        "way back. What runs, is paused or suspended stays, and so does what is started before its turn comes. Without a terminal to ask at "
        "nothing is deleted unless --force is given. The exit status is 1 if the answer was no.\n\n"
        "With --json it prints those that were deleted, or with --dry-run those that would be."),
    NULL, prune_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger vm prune", N_ ("look, then say yes") }, { "banger vm prune --dry-run", N_ ("only look") },
              { "banger vm prune --force --json", N_ ("for programs: an array of what is gone") }),
    banger_vm_prune },
  { "vm set", N_ ("change what a VM has: CPUs, memory, disk, name, whom it reaches"),
    N_ ("What is not named stays as it is. A stopped VM can be given all of it, and has it from its next start on. The "
        "work disk only grows; the guest makes its file system larger when it boots, and keeps what is in it.\n\n"
        "The name can be changed at any time: `NAME.vm`, ssh and all commands know the VM by its new one at once, and by "
        "the old one no more. The guest itself calls itself so when it is booted. A suspended VM goes on with what it has, so "
        "of the rest it takes --nat and --no-nat alone; a running one takes none.\n\n"
        "--setup puts another script in the place of one that has not run well; it can at any time, and the next start runs "
        "it.\n\n"
        "What it may reach, other VMs and ports of the host, changes at once. A link is of one direction: OTHER answers, and "
        "begins nothing. It stays when either is renamed, and goes when OTHER is deleted. The host is the address of "
        "the guest's gateway there."),
    vm_argument, set_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger vm set web --memory 4G --vcpu 4", N_ ("from its next start on") },
              { "banger vm set web --disk-size 40G", N_ ("a larger /root") },
              { "banger vm set web --name shop", N_ ("then: banger vm ssh shop") },
              { "banger vm set web --no-nat", N_ ("shut in") },
              { "banger vm set web --link db", N_ ("web reaches the VM db, as db.vm, and db does not reach web") },
              { "banger vm set web --unlink db --allow-host 5432", N_ ("not that VM, but a port of the host") },
              { "banger vm set web --setup mended.sh", N_ ("its script failed: its next start runs this one") }),
    banger_vm_set },
  { "vm list", N_ ("list all VMs"), N_ ("One line for each VM, by name. An empty cell is -."), NULL, json_options,
    BANGER_TAIL_NONE,
    EXAMPLES ({ "banger vm list", N_ ("for people") },
              { "banger vm list --json", N_ ("for programs: an array of objects") }),
    banger_vm_list },
  { "vm show", N_ ("show all there is to know about a VM"), N_ ("Every property of a VM, one on a line."), vm_argument,
    json_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger vm show web", N_ ("for people") },
              { "banger vm show web --json", N_ ("for programs: one object") }),
    banger_vm_show },
  { "vm ssh", N_ ("open a shell in a running VM, or run a command there"),
    N_ ("Connects as root with the key and the host key that the manager made: nothing is asked, nothing is trusted on "
        "first use, your own ssh configuration is not read. A command is run as by `banger vm exec`, but as root in its home, "
        "whatever the image says."),
    running_vm_argument, quiet_options, BANGER_TAIL_OPTIONAL,
    EXAMPLES ({ "banger vm ssh web", N_ ("a shell") }, { "banger vm ssh web -- journalctl -b", N_ ("a command") }),
    banger_vm_ssh },
  { "vm exec", N_ ("run a command in a running VM"),
    N_ ("The command gets its arguments as given, no shell splits them; stdin, stdout and stderr are those of banger, "
        "and so is the exit status (128 and the number of the signal if one ended it). A terminal is made in the guest "
        "when stdin and stdout are terminals.\n\n"
        "If a work tree was sent into the VM (`banger vm run PATH`) the command starts in its copy, as root, and it is said if HEAD "
        "has moved here since; with --cwd or --user it starts as these say. Where the copy is gone nothing is run in its place.\n\n"
        "It is run by the guest's agent: no ssh, no start-up file and no login is between. The environment is what a "
        "login has: PATH, what the guest's /etc/environment and /etc/default/locale or /etc/locale.conf say, HOME, "
        "USER, LOGNAME and SHELL of its user; over it that of the image, if it is one of layers that has one, whose "
        "directory and user hold, too; and over it what --env says. A guest that an older banger started is "
        "reached by ssh.\n\n"
        "stdin is read as far as it goes, whether the command wants it or not: `while read vm; do banger vm exec $vm -- id; "
        "done` gives the rest of its input to the first command; --no-stdin keeps it. Whatever ends banger ends the "
        "command with its children, too."),
    running_vm_argument, exec_options, BANGER_TAIL_REQUIRED,
    EXAMPLES ({ "banger vm exec web -- systemctl --failed", N_ ("one command") },
              { "banger vm exec web --sync -- make check", N_ ("of the work tree as it is here now, in its copy") },
              { "banger vm exec web --cwd /srv -- sh -c 'make && make check'", N_ ("a shell line needs a shell") }),
    banger_vm_exec },
  { "vm cp", N_ ("copy files and folders into a VM or out of it"),
    N_ ("As `cp -a` does, between this host and a running VM, through its agent: the guest needs neither ssh nor tar. Modes, times, "
        "symbolic and hard links and holes are kept; what arrives belongs to who writes it: root in the guest, you here. "
        "Bits that change who a program runs as are dropped, devices, sockets and pipes are passed over. What is there "
        "is replaced; folders are merged. What cannot be read, or not be written here, is named and counted, and all else copied. A path in the guest that does not begin with / begins in root's home.\n\n"
        "If DST is a folder, SRC goes into it under its own name; else it becomes DST, whose parent has to be there. DST with "
        "a / at its end is a folder. - as DST writes a tar to stdout, as SRC it reads one and unpacks it into a folder "
        "that is there.\n\n"
        "A guest is not trusted: whatever it sends, nothing is written outside of what you named, no link is followed there, and "
        "nothing runs. What is in the files is the guest's."),
    cp_arguments, quiet_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger vm cp web:/var/log/syslog .", N_ ("a file, into the folder you are in") },
              { "banger vm cp site web:/srv", N_ ("a folder, to /srv/site") },
              { "banger vm cp site/. web:/srv", N_ ("what is in it, to /srv") },
              { "banger vm cp web:/etc -", N_ ("a tar, into a pipe: banger vm cp web:/etc - | tar -tv") },
              { "tar -c src | banger vm cp - web:/root", N_ ("a tar, made as you like") }),
    banger_vm_cp },
  { "vm workspace export", N_ ("write what changed in a VM's copy of a work tree as a patch"),
    N_ ("What was changed since the tree was sent: commits, staged, unstaged and new files, modes, renames and "
        "deletions, binary files too, as one patch for `git apply` that begins where the host's files were, changed ones "
        "included. What .gitignore names stays behind, and so does what is in submodules and nested repositories. The "
        "guest's index and files are left as they are.\n\n"
        "With --apply the patch is put into the work tree that was sent, if it fits in all of its files; nothing else is "
        "touched, also not what is staged, and nothing runs that the repository names: no hook, no filter. The next "
        "--apply begins where that one ended. If banger is "
        "killed in that moment, the next --apply, of any VM's, first takes back what that one had changed; until then the "
        "old files are in a folder .banger-apply-... at the top of the tree.\n\n"
        "A patch comes from the guest: read it before it is applied, as any stranger's (`banger vm workspace diff`), and what "
        "it changed before it is run. It needs git in the guest, when the tree was sent, too."),
    running_vm_argument, export_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger vm workspace export web --apply", N_ ("the changed files back into the tree") },
              { "banger vm workspace export web --apply --3way", N_ ("where you went on working, too") },
              { "banger vm workspace export web -o web.patch", N_ ("then: git apply web.patch") },
              { "banger vm workspace export web --commits -o web.mbox",
                N_ ("its commits, with their messages; then: git am web.mbox") }),
    banger_vm_workspace_export },
  { "vm workspace diff", N_ ("show what changed in a VM's copy of a work tree"),
    N_ ("As `banger vm workspace export`, to be read: coloured on a terminal, where control characters are shown as \\x1b "
        "and the like."),
    running_vm_argument, diff_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger vm workspace diff web", N_ ("what the VM web changed") }), banger_vm_workspace_diff },
  { "vm workspace prepare", N_ ("copy a work tree into a running VM, anew or for the first time"),
    N_ ("As `banger vm run PATH` does it; without PATH the tree that was sent last, with the --depth, --tracked-only or --no-git that it "
        "was sent with. Files that the guest changed are overwritten, and what was sent before and is no "
        "more is gone; what only the guest has stays, but not its branches: export its changes first. The name and "
        "address of your git are those of the copy's."),
    prepare_arguments, prepare_options, BANGER_TAIL_NONE,
    EXAMPLES (
        { "banger vm workspace prepare web", N_ ("what changed here since") },
        { "banger vm workspace prepare web --depth all", N_ ("its whole history, now and from here on") },
        { "banger vm workspace prepare web ~/src/other --branch try", N_ ("another tree, on a branch of its own") },
        { "banger vm workspace prepare web --dry-run", N_ ("which files that would be") }),
    banger_vm_workspace_prepare },
  { "vm workspace status", N_ ("say what changed in a VM's copy of a work tree, and what here"),
    N_ ("Both since the tree was sent, or since `banger vm workspace export --apply`: files that are new (A), were changed (M), "
        "deleted (D), renamed (R) or became something else (T), and commits. What is named on both sides needs --3way. A "
        "file of Git LFS counts as changed here."),
    running_vm_argument, json_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger vm workspace status web", N_ ("for people") },
              { "banger vm workspace status web --json", N_ ("for programs: one object") }),
    banger_vm_workspace_status },
  { "vm logs", N_ ("print the console log of a VM"),
    N_ ("What the guest wrote to its serial console since it was last started: the kernel's and the init's messages. A "
        "log that grows too long is cut to its last part. A terminal is shown control characters as \\x1b and the like; "
        "a file or a pipe has what the guest wrote."),
    vm_argument, logs_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger vm logs -f web", N_ ("what there is, and what comes") },
              { "banger vm logs --setup web", N_ ("why a script of --setup failed") }),
    banger_vm_logs },
  { "vm forward", N_ ("have a port of this host lead into a VM"),
    N_ ("Whoever connects to the port is connected to that TCP port in the guest, through its agent: the guest needs no "
        "network, and it does not matter on which of its addresses a server listens. Without a port those that there "
        "are are listed.\n\n"
        "A port belongs to its VM: it is listened on while the VM runs, again after a restart of bangerd or of the VM, and "
        "is gone with the VM. Every user of this host can connect to a port of 127.0.0.1. Ports below 1024 need rights "
        "that bangerd does not have."),
    forward_arguments, forward_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger vm forward web 8080:80", N_ ("then: curl http://127.0.0.1:8080") },
              { "banger vm forward web 0.0.0.0:8080:80", N_ ("for the whole network") },
              { "banger vm forward web", N_ ("which there are") },
              { "banger vm forward web --remove 8080:80", N_ ("no longer") }),
    banger_vm_forward },
  { "vm ports", N_ ("list who listens in VMs"),
    N_ ("One line for each TCP and UDP port on which something waits in the guest: where, which process, how this host reaches it "
        "by the VM's name, and a URL where the port is one of HTTP's (80, 443, 8000, 8080 and the like: no server is asked). What "
        "listens on the guest's own 127.0.0.1 is reached by `banger vm forward` alone.\n\n"
        "All of it is what the guest says. Containers in it that have a network of their own are not seen."),
    any_running_vms_argument, json_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger vm ports web", N_ ("of one") }, { "banger vm ports", N_ ("of all that run") },
              { "banger vm ports web --json", N_ ("for programs: an array of objects") }),
    banger_vm_ports },
  { "vm stats", N_ ("show what VMs use"),
    N_ ("CPU is a share of one processor of this host, of the VM and its guest together, over half a second, or since the line before. VMM MEMORY is that of the VMM's cgroup: what this host holds for it. "
        "GUEST MEMORY (used, of what the guest has) and LOAD (of a minute) are what the guest says. ROOT and WORK are what the disks have allocated, RECEIVED and SENT what the guest did since it was started. "
        "What is not known is -: of a VM with a snapshot its root disk, of a guest that does not answer what it would say. A guest is asked once for each line, and one that is paused is not."),
    any_running_vms_argument, stats_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger vm stats", N_ ("of all that run") },
              { "banger vm stats web --watch", N_ ("anew every two seconds") },
              { "banger vm stats --json --watch", N_ ("for programs: an array on a line of its own each time") }),
    banger_vm_stats },
  { "ps", N_ ("list running VMs"), N_ ("As `banger vm list`, but only VMs that run or are about to."), NULL, ps_options,
    BANGER_TAIL_NONE, EXAMPLES ({ "banger ps", N_ ("what runs") }, { "banger ps --all", N_ ("what there is") }),
    banger_ps },
  { "image build", N_ ("build a golden image from Debian packages, or a Containerfile"),
    N_ ("Makes a Debian root filesystem with mmdebstrap, without root, and writes it to an ext4 file. systemd and an "
        "ssh server are always part of it. With --file buildah, which has to be installed, builds a Containerfile "
        "(Dockerfile): its instructions run on this host, without root, and not in a VM."),
    image_build_arguments, build_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger image build", N_ ("the image that VMs use unless told otherwise") },
              { "banger image build rust --package cargo --package gcc --size 6G", N_ ("with a tool chain") },
              { "banger image build box ./box -f box/Containerfile",
                N_ ("what it describes, with files of the folder box") }),
    banger_image_build_command },
  { "image import", N_ ("make a golden image from an archive, a folder, layers or an ext4 file"),
    N_ ("The archive holds a root filesystem, or an image of layers as docker save writes it. It may be compressed. In a "
        "folder what is yours becomes root's, and all of it has to be readable. "
        "Without an init in it a VM runs with banger's own; without an ssh server `vm ssh` does not get in."),
    image_import_arguments, image_import_options, BANGER_TAIL_NONE,
    EXAMPLES (
        { "banger image import mine rootfs.tar", N_ ("from a file") },
        { "banger image import mine oci:layout:latest", N_ ("from a folder that skopeo or buildah wrote") },
        { "banger image import mine rootfs/", N_ ("from a folder that is a root filesystem") },
        { "banger image import mine containers-storage:localhost/box:latest", N_ ("what podman or buildah has") },
        { "docker save box | banger image import mine -", N_ ("what docker has") },
        { "banger image import mine - --size 4G", N_ ("from a pipe: docker export box | banger image import mine -") }),
    banger_image_import_command },
  { "image pull", N_ ("make a golden image that a catalog or a registry has"),
    N_ ("What a catalog calls by that name (see `banger image list --available`), of your own first: a Debian suite, which is "
        "built, or a registry's image. Catalogs of your own are named in config.toml, see banger-config(5).\n\n"
        "From a registry it fetches an image of layers (OCI, Docker) with skopeo: signing in, mirrors, certificates and which signatures are "
        "asked for are set as for skopeo and podman. What was fetched is kept by digest and not fetched again. Without "
        "NAME the last part of the reference is the image's name."),
    image_pull_arguments, image_import_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger image pull trixie", N_ ("what the catalog calls so: Debian 13") },
              { "banger image pull debian:bookworm", N_ ("from Docker Hub; the image is called debian-bookworm") },
              { "banger image pull ghcr.io/owner/box@sha256:... box", N_ ("exactly that one, as box") }),
    banger_image_pull_command },
  { "image commit", N_ ("make a golden image of a VM's disks"),
    N_ ("What is on the disks of a stopped VM becomes an image: what lies in /root too, of which new VMs get a copy. Its "
        "host name, machine id, ssh host keys and the keys that let its owner in stay behind, and so do random seeds, "
        "leases, what `[[file_sync]]` brought from your home folder, histories of shells, the journal and the lists of logins. "
        "What else is secret in there goes along. Until it is done the VM cannot be started."),
    image_commit_arguments, quiet_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger image commit web ready", N_ ("after banger vm stop web; then: banger vm run --image ready") }),
    banger_image_commit_command },
  { "image cache", N_ ("remove what was pulled and is kept for the next pull"),
    N_ ("Images do not need it. Refused while an image is pulled."), image_cache_arguments, image_cache_options,
    BANGER_TAIL_NONE,
    EXAMPLES ({ "banger image cache prune --dry-run", N_ ("how much that would be") },
              { "banger image cache prune", N_ ("remove it") }),
    banger_image_cache_command },
  { "image verify", N_ ("check that images are as they were made"),
    N_ ("Reads an image's files and compares them with what was written down when it was made."), images_argument,
    quiet_options, BANGER_TAIL_NONE, EXAMPLES ({ "banger image verify default", N_ ("after trouble with a disk") }),
    banger_image_verify_command },
  { "image warm", N_ ("boot an image once, and keep the guest"),
    N_ ("Boots a VM of an image, saves what is in its memory and on its disks as a template, and deletes it. It takes "
        "as long as a start. New VMs of the same shape are restored from it, which takes a moment: each with a name, "
        "keys and random bytes of its own. What a template is made from is all of image, kernel, virtual CPUs, memory and work disk; "
        "options that are not given have the defaults of the manager. `banger image show` has the templates; those that "
        "were not used for longest go when all together are over templates.budget, see banger-config(5). Unless "
        "templates.warm is \"off\" there, one is made by itself after the first start that had to boot its VM."),
    image_argument, warm_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger image warm default", N_ ("for VMs with the defaults") },
              { "banger image warm default --memory 2G --vcpu 4", N_ ("for larger ones") }),
    banger_image_warm_command },
  { "image export", N_ ("write an image to a file"),
    N_ ("Its root filesystem: as a tar archive (owners, modes, times, links, holes and extended attributes are kept), or as "
        "the ext4 file that it is, or as an image of one layer (OCI) that podman and skopeo take, too. Each can be imported again. FILE is there when it is whole; one that was there is "
        "replaced then, and left as it is if that fails."),
    image_argument, image_export_options, BANGER_TAIL_NONE,
    EXAMPLES (
        { "banger image export default -o default.tar",
          N_ ("then, elsewhere: banger image import default default.tar") },
        { "banger image export default --format ext4 -o rootfs.ext4", N_ ("to mount it, or to boot it elsewhere") }),
    banger_image_export_command },
  { "image tag", N_ ("give an image another name"),
    N_ ("Every command takes the image by either name; VMs without --image are made from the one that is called \"default\". "
        "It is stored once. `banger image delete` of such a name takes only the name away, and an image that has others "
        "is not deleted."),
    image_tag_arguments, quiet_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger image tag debian-bookworm stable", N_ ("then: banger vm run --image stable") },
              { "banger image tag debian-bookworm default", N_ ("for VMs that are not told otherwise") }),
    banger_image_tag_command },
  { "image promote", N_ ("make new VMs start from an image"),
    N_ ("VMs without --image are made from the image that is called \"default\": this gives an image that name, beside its "
        "own. An image that has it as its own name is called \"default-old\" from then on; VMs that there are rest on what "
        "they rested on. Where config.toml says another name (vm_defaults.image), say the image's there."),
    image_argument, quiet_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger image promote rust", N_ ("then: banger vm run") }), banger_image_promote_command },
  { "image register", N_ ("make a golden image of an ext4 file, without a copy"),
    N_ ("The file becomes the image: it is checked and read once, goes from where it is, and takes no room twice. `banger image "
        "import` leaves the file, and shares its blocks where the file system can. It has to have one name, and nobody may "
        "write to it: unmount it first. If anything fails it stays as it is."),
    image_register_arguments, quiet_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger image register mine rootfs.ext4", N_ ("rootfs.ext4 is gone then") }),
    banger_image_register_command },
  { "image list", N_ ("list golden images"), N_ ("One line for each image, by name. An empty cell is -."), NULL,
    assets_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger image list", N_ ("for people") },
              { "banger image list --available", N_ ("what there is for `banger image pull`") },
              { "banger image list --json", N_ ("for programs: an array of objects") }),
    banger_image_list },
  { "image show", N_ ("show all there is to know about an image"), N_ ("Every property of an image, one on a line."),
    image_argument, json_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger image show default", N_ ("size, source, digest") }), banger_image_show },
  { "image delete", N_ ("delete golden images"),
    N_ ("An image that a VM rests on is refused, and one that has other names (see `banger image tag`); of these the name "
        "goes."),
    images_argument, quiet_options, BANGER_TAIL_NONE, EXAMPLES ({ "banger image delete rust", N_ ("one image") }),
    banger_image_delete_command },
  { "kernel import", N_ ("make a guest kernel from a package or a file"),
    N_ ("Takes the kernel and the modules that a microVM needs. apt:PACKAGE is fetched with apt, without root."),
    kernel_import_arguments, kernel_import_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger kernel import", N_ ("Debian's kernel for clouds, for VMs that are not told otherwise") },
              { "banger kernel import mine ./linux-image.deb", N_ ("from a file") },
              { "banger kernel import own vmlinux --modules ./modules", N_ ("a kernel that you built") }),
    banger_kernel_import_command },
  { "kernel pull", N_ ("make a guest kernel that a catalog has"),
    N_ ("Fetches the Debian package that the catalog names, with apt, without root; apt checks its signatures."),
    kernel_pull_arguments, quiet_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger kernel pull cloud", N_ ("Debian's kernel for clouds") },
              { "banger kernel pull amd64 default", N_ ("for VMs that are not told otherwise") }),
    banger_kernel_pull_command },
  { "kernel list", N_ ("list guest kernels"), N_ ("One line for each kernel, by name. An empty cell is -."), NULL,
    assets_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger kernel list", N_ ("for people") },
              { "banger kernel list --available", N_ ("what there is for `banger kernel pull`") },
              { "banger kernel list --json", N_ ("for programs: an array of objects") }),
    banger_kernel_list },
  { "kernel show", N_ ("show all there is to know about a kernel"), N_ ("Every property of a kernel, one on a line."),
    kernel_argument, json_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger kernel show default", N_ ("version, source, digest") }), banger_kernel_show },
  { "kernel delete", N_ ("delete guest kernels"), N_ ("A kernel that a VM rests on is refused."), kernels_argument,
    quiet_options, BANGER_TAIL_NONE, EXAMPLES ({ "banger kernel delete mine", N_ ("one kernel") }),
    banger_kernel_delete_command },
  { "config show", N_ ("show the settings in use, and where each comes from"),
    N_ ("What the manager goes by now: its own default, or a line of ~/.config/banger/config.toml as it was last read. "
        "The keys are explained in banger-config(5)."),
    NULL, json_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger config show", N_ ("for people") },
              { "banger config show --json", N_ ("for programs: an array of objects") }),
    banger_config_show },
  { "config check", N_ ("say what is wrong in a config.toml"),
    N_ ("Names each unknown key and each wrong value with its line. The exit status is 1 if there is one. The manager is "
        "not asked, and goes on with what it has read: `banger config reload`."),
    config_file_argument, json_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger config check", N_ ("before a reload") },
              { "banger config check new.toml", N_ ("another file") }),
    banger_config_check },
  { "config reload", N_ ("have the manager read config.toml again"),
    N_ ("What is wrong in it is named with its line, and the default holds in its place; of a file that is not TOML "
        "nothing is used, and what was read before holds on. The exit status is 1 then. No VM is touched: defaults are "
        "for VMs that are made from here on."),
    NULL, quiet_options, BANGER_TAIL_NONE, EXAMPLES ({ "banger config reload", N_ ("after a change") }),
    banger_config_reload },
  { "system install", N_ ("set up the root helper for its owner (root only)"),
    N_ ("Writes /etc/banger/install.toml and a polkit rule for the owner, makes the state folders and, where systemd "
        "runs, starts the helper and lets the owner's services run without a session. firewalld and ufw, where they are "
        "in use, are told that guests may get out. Doing it again mends what is missing and changes nothing else."),
    NULL, install_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "sudo banger system install --owner ann", N_ ("ann needs no sudo from here on") }),
    banger_system_install },
  { "system status", N_ ("show whom the services serve and whether they answer"),
    N_ ("The exit status is 1 if the root helper does not answer."), NULL, json_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger system status", N_ ("owner, folders, units") },
              { "banger system status --json", N_ ("for programs: one object") }),
    banger_system_status },
  { "system restart", N_ ("restart both services (root only)"), N_ ("Running VMs are not touched."), NULL, NULL,
    BANGER_TAIL_NONE, EXAMPLES ({ "sudo banger system restart", N_ ("after an update") }), banger_system_restart },
  { "system stop", N_ ("shut every VM down and stop both services (root only)"),
    N_ ("Guests shut down in order; what does not answer is ended. Disks and the installation are kept; the next use "
        "starts the services again."),
    NULL, NULL, BANGER_TAIL_NONE, EXAMPLES ({ "sudo banger system stop", N_ ("before work on the host") }),
    banger_system_stop },
  { "system uninstall", N_ ("take back what install made (root only)"),
    N_ ("Shuts every VM down first, then removes units' state, metadata, the polkit rule and the runtime folder. VMs, "
        "images and kernels stay unless --purge is given."),
    NULL, uninstall_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "sudo banger system uninstall", N_ ("keep the owner's VMs and images") },
              { "sudo banger system uninstall --purge", N_ ("leave nothing") }),
    banger_system_uninstall },
  { "doctor", N_ ("check that this host can run VMs"),
    N_ ("Checks what banger needs from the host and says how to mend what is wrong. Works also when the manager cannot "
        "be reached. The exit status is 1 if a check found an error, 0 if there are warnings at most."),
    NULL, json_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger doctor", N_ ("for people") },
              { "banger doctor --json", N_ ("for programs: an array of objects") }),
    banger_doctor },
  { "ssh-config", N_ ("have your own ssh know the VMs by their names"),
    N_ ("For `ssh web.vm`, scp, rsync, git and editors. Prints the two lines for ~/.ssh/config, or with --install puts them "
        "there: a remark, and an Include of a file that the manager keeps as your VMs are. Each has its address in it, "
        "so that no DNS is needed, the key that guests accept, and its host key, so that nothing is trusted on first "
        "use; a VM that was deleted and made again under the same name is known as what it is.\n\n"
        "Nothing else of your ssh files is touched, now or later. Doing it again changes nothing."),
    NULL, ssh_config_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger ssh-config --install", N_ ("once; then: ssh web.vm, rsync -a web.vm:repo/ repo/") },
              { "banger ssh-config", N_ ("print the lines, to put them where you like") },
              { "banger ssh-config --uninstall", N_ ("as it was before") }),
    banger_ssh_config },
  { "version", N_ ("print the version"), N_ ("Prints the version of banger and, if it runs, that of the manager."),
    NULL, json_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger version", N_ ("for people") }, { "banger version --json", N_ ("for programs") }),
    banger_version },
  { "completion", N_ ("print the completion script of a shell"),
    N_ ("Packages install these scripts. This prints them for a shell that does not find them."), shell_argument, NULL,
    BANGER_TAIL_NONE, EXAMPLES ({ "banger completion bash", N_ ("in ~/.bashrc: source <(banger completion bash)") }),
    banger_completion },
  { "help", N_ ("print help on a command"), N_ ("The same as --help behind the command."), command_argument, NULL,
    BANGER_TAIL_NONE, EXAMPLES ({ "banger help", N_ ("all commands") }, { "banger help vm run", N_ ("one command") }),
    banger_help },
  { NULL },
};

const BangerCommandTable banger_command_table = { commands, groups, subgroups };

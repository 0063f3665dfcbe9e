/* Every command of banger: words, texts, arguments, options, examples, handler.
 * Read by the parser, --help, the man pages and completion.
 * Never repeated elsewhere: a command that is not a row does not exist. */
#include "cli/commands.h"

#include <glib/gi18n.h>

#define END_OF_OPTIONS                                                                                                 \
  {                                                                                                                    \
    .name = NULL                                                                                                       \
  }
#define END_OF_ARGUMENTS                                                                                               \
  {                                                                                                                    \
    .name = NULL                                                                                                       \
  }
#define END_OF_EXAMPLES                                                                                                \
  {                                                                                                                    \
    .line = NULL                                                                                                       \
  }

#define QUIET                                                                                                          \
  {                                                                                                                    \
    "quiet", 'q', BANGER_CLI_FLAG, NULL, 0, N_ ("print no progress and no hints")                                      \
  }
#define JSON                                                                                                           \
  {                                                                                                                    \
    "json", 0, BANGER_CLI_FLAG, NULL, 0, N_ ("print JSON instead of text")                                             \
  }

#define VM_SHAPE                                                                                                       \
  { "image",                                                                                                           \
    0,                                                                                                                 \
    BANGER_CLI_STRING,                                                                                                 \
    N_ ("IMAGE"),                                                                                                      \
    BANGER_COMPLETE_IMAGES,                                                                                            \
    N_ ("golden image that the root disk starts from") },                                                              \
      { "kernel", 0, BANGER_CLI_STRING, N_ ("KERNEL"), BANGER_COMPLETE_KERNELS, N_ ("guest kernel to boot") },         \
      { "vcpu", 0, BANGER_CLI_UINT, N_ ("COUNT"), 0, N_ ("number of virtual CPUs") },                                  \
      { "memory", 0, BANGER_CLI_SIZE, N_ ("SIZE"), 0, N_ ("memory of the guest, in whole MiB: 512M, 2G") },            \
      { "disk-size", 0, BANGER_CLI_SIZE, N_ ("SIZE"), 0, N_ ("size of the work disk, which is /root: 8G, 1.5G") },     \
  {                                                                                                                    \
    "no-nat", 0, BANGER_CLI_FLAG, NULL, 0, N_ ("give the VM no way out of the host")                                   \
  }

static const BangerCliOption run_options[] = {
  { "rm", 0, BANGER_CLI_FLAG, NULL, 0, N_ ("delete the VM and its disks when the command or the shell ends") },
  { "name", 0, BANGER_CLI_STRING, N_ ("NAME"), 0, N_ ("name of the VM, a DNS label; without it one is made up") },
  VM_SHAPE,
  { "detach", 'd', BANGER_CLI_FLAG, NULL, 0, N_ ("return as soon as the VM is ready and print its name") },
  QUIET,
  END_OF_OPTIONS,
};
static const BangerCliOption create_options[] = {
  VM_SHAPE,
  { "start", 0, BANGER_CLI_FLAG, NULL, 0, N_ ("start the VM too, and wait until it is ready") },
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
static const BangerCliOption delete_options[] = {
  { "force", 'f', BANGER_CLI_FLAG, NULL, 0, N_ ("kill the VM first if it runs") },
  QUIET,
  END_OF_OPTIONS,
};
static const BangerCliOption exec_options[] = {
  { "cwd", 0, BANGER_CLI_STRING, N_ ("DIRECTORY"), 0,
    N_ ("directory in the guest where the command starts; default /root") },
  QUIET,
  END_OF_OPTIONS,
};
static const BangerCliOption logs_options[] = {
  { "follow", 'f', BANGER_CLI_FLAG, NULL, 0, N_ ("go on as the log grows, until the VM stops") },
  END_OF_OPTIONS,
};
static const BangerCliOption ps_options[] = {
  { "all", 'a', BANGER_CLI_FLAG, NULL, 0, N_ ("list VMs that do not run, too") },
  JSON,
  END_OF_OPTIONS,
};
static const BangerCliOption build_options[] = {
  { "suite", 0, BANGER_CLI_STRING, N_ ("SUITE"), 0, N_ ("Debian release to build from: bookworm") },
  { "mirror", 0, BANGER_CLI_STRING, N_ ("URL"), 0, N_ ("Debian mirror to fetch from") },
  { "package", 0, BANGER_CLI_STRV, N_ ("PACKAGE"), 0, N_ ("Debian package to add; may be given several times") },
  { "size", 0, BANGER_CLI_SIZE, N_ ("SIZE"), 0, N_ ("size of the root filesystem; without it what fits") },
  QUIET,
  END_OF_OPTIONS,
};
static const BangerCliOption image_import_options[] = {
  { "size", 0, BANGER_CLI_SIZE, N_ ("SIZE"), 0, N_ ("size of the root filesystem; without it what fits") },
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

static const BangerCliArgument path_argument[] = {
  { N_ ("PATH"), BANGER_ARGUMENT_OPTIONAL, BANGER_COMPLETE_DIRECTORIES,
    N_ ("top of a git work tree; its tracked and its untracked, not ignored files are copied to /root/<name of "
        "PATH>") },
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
static const BangerCliArgument stopped_vms_argument[] = {
  { N_ ("NAME"), BANGER_ARGUMENT_REPEATED, BANGER_COMPLETE_STOPPED_VMS, N_ ("names or ids of stopped VMs") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument new_image_argument[] = {
  { N_ ("NAME"), BANGER_ARGUMENT_OPTIONAL, 0,
    N_ ("name of the new image: 1 to 63 of a-z, 0-9 and -, no - at either end; without it \"default\"") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument image_import_arguments[] = {
  { N_ ("NAME"), 0, 0, N_ ("name of the new image: 1 to 63 of a-z, 0-9 and -, no - at either end") },
  { N_ ("FILE"), 0, BANGER_COMPLETE_FILES,
    N_ ("tar archive of a root filesystem or an ext4 file; - reads a tar archive from stdin") },
  END_OF_ARGUMENTS,
};
static const BangerCliArgument image_argument[] = {
  { N_ ("NAME"), 0, BANGER_COMPLETE_IMAGES, N_ ("name or id of an image") },
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
    N_ ("file of a Debian linux-image package, an ELF vmlinux or a bzImage, or apt:PACKAGE; default "
        "apt:linux-image-cloud-amd64") },
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
static const BangerCliArgument command_argument[] = {
  { N_ ("COMMAND"), BANGER_ARGUMENT_OPTIONAL | BANGER_ARGUMENT_REPEATED, BANGER_COMPLETE_COMMANDS,
    N_ ("words of a command, or of the beginning of one") },
  END_OF_ARGUMENTS,
};

#define EXAMPLES(...) ((const BangerCliExample[]){ __VA_ARGS__, END_OF_EXAMPLES })

const BangerGroup banger_groups[] = {
  { "vm", N_ ("make, run and throw away VMs") },
  { "image", N_ ("golden images, which root disks start from") },
  { "kernel", N_ ("guest kernels with their modules") },
  { "system", N_ ("install banger's services on this host, for one owner") },
  { "", N_ ("disposable Linux machines in one command") },
  { NULL },
};

const BangerCommand banger_commands[] = {
  { "vm run", N_ ("boot a new VM and run a shell or a command in it"),
    N_ ("Makes a VM, boots it and waits until it is ready. Without a command a shell in the guest is opened, with one "
        "the command is run: its arguments arrive as given, no shell splits them, its stdout and stderr stay apart, "
        "and "
        "its exit status is that of banger (128 and the number of the signal if one ended it).\n\n"
        "With PATH, a git work tree, its files are copied into the guest first and the shell or command starts in the "
        "copy. What the guest changes there is not copied back.\n\n"
        "Without --rm the VM goes on running afterwards and is kept until `banger vm delete`. With --rm it is gone "
        "when "
        "banger ends, also when banger is interrupted or the VM did not come up."),
    path_argument, run_options, BANGER_TAIL_OPTIONAL,
    EXAMPLES ({ "banger vm run --rm", N_ ("a shell in a machine that is gone afterwards") },
              { "banger vm run --rm -- uname -a", N_ ("one command; banger exits with its status") },
              { "banger vm run --rm . -- make check", N_ ("test the git repository you are in") },
              { "banger vm run --name web --memory 2G --vcpu 4 --detach", N_ ("a machine that stays") }),
    banger_vm_run },
  { "vm create", N_ ("make a VM without starting it"),
    N_ ("Makes the record and the disks of a VM. Options that are not given have the defaults of the manager."),
    new_name_argument, create_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger vm create web", N_ ("all defaults") },
              { "banger vm create web --disk-size 20G --start", N_ ("a large work disk, and boot it") }),
    banger_vm_create },
  { "vm start", N_ ("start VMs and wait until they are ready"),
    N_ ("Boots stopped VMs. A VM is ready when its ssh server accepts connections. What the work disk (/root) holds is "
        "what the last run left there."),
    stopped_vms_argument, quiet_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger vm start web", N_ ("boot one VM") },
              { "banger vm start web db", N_ ("boot two, one after the other") }),
    banger_vm_start },
  { "vm stop", N_ ("shut VMs down"),
    N_ ("Asks the guest to shut down, so that it writes out all data, and falls back to harder means when it does not, "
        "each bounded in time."),
    running_vms_argument, quiet_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger vm stop web", N_ ("an orderly shutdown") }), banger_vm_stop },
  { "vm kill", N_ ("end VMs at once"),
    N_ ("Ends the VMM without asking the guest: as if its power was cut. Data that the guest had not written out is "
        "lost."),
    running_vms_argument, quiet_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger vm kill web", N_ ("when stop takes too long") }), banger_vm_kill },
  { "vm restart", N_ ("stop and start VMs"), N_ ("An orderly stop, then a start; the disks are kept."),
    running_vms_argument, quiet_options, BANGER_TAIL_NONE, EXAMPLES ({ "banger vm restart web", N_ ("boot it anew") }),
    banger_vm_restart },
  { "vm delete", N_ ("delete VMs with their disks"),
    N_ ("Deletes stopped VMs and everything they hold. There is no way back. A running VM is refused unless --force is "
        "given."),
    vms_argument, delete_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger vm delete web", N_ ("a stopped VM") },
              { "banger vm delete --force web db", N_ ("whatever they do") }),
    banger_vm_delete },
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
        "first use, your own ssh configuration is not read. A command is run as by `banger vm exec`."),
    running_vm_argument, quiet_options, BANGER_TAIL_OPTIONAL,
    EXAMPLES ({ "banger vm ssh web", N_ ("a shell") }, { "banger vm ssh web -- journalctl -b", N_ ("a command") }),
    banger_vm_ssh },
  { "vm exec", N_ ("run a command in a running VM"),
    N_ ("The command gets its arguments as given, no shell splits them; stdin, stdout and stderr are those of banger, "
        "and "
        "so is the exit status (128 and the number of the signal if one ended it). A terminal is made in the guest "
        "when "
        "stdin and stdout are terminals."),
    running_vm_argument, exec_options, BANGER_TAIL_REQUIRED,
    EXAMPLES (
        { "banger vm exec web -- systemctl --failed", N_ ("one command") },
        { "banger vm exec web --cwd /root/repo -- sh -c 'make && make check'", N_ ("a shell line needs a shell") }),
    banger_vm_exec },
  { "vm logs", N_ ("print the console log of a VM"),
    N_ ("What the guest wrote to its serial console since it was last started: the kernel's and the init's messages. A "
        "log "
        "that grows too long is cut to its last part."),
    vm_argument, logs_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger vm logs web", N_ ("what there is") }, { "banger vm logs -f web", N_ ("and what comes") }),
    banger_vm_logs },
  { "ps", N_ ("list running VMs"), N_ ("As `banger vm list`, but only VMs that run or are about to."), NULL, ps_options,
    BANGER_TAIL_NONE, EXAMPLES ({ "banger ps", N_ ("what runs") }, { "banger ps --all", N_ ("what there is") }),
    banger_ps },
  { "image build", N_ ("build a golden image from Debian packages"),
    N_ ("Makes a Debian root filesystem with mmdebstrap, without root, and writes it to an ext4 file. systemd and an "
        "ssh "
        "server are always part of it."),
    new_image_argument, build_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger image build", N_ ("the image that VMs use unless told otherwise") },
              { "banger image build rust --package cargo --package gcc --size 6G", N_ ("with a tool chain") }),
    banger_image_build_command },
  { "image import", N_ ("make a golden image from a tar archive or an ext4 file"),
    N_ ("The archive holds a root filesystem with an init and an ssh server. It may be compressed."),
    image_import_arguments, image_import_options, BANGER_TAIL_NONE,
    EXAMPLES (
        { "banger image import mine rootfs.tar", N_ ("from a file") },
        { "banger image import mine - --size 4G", N_ ("from a pipe: docker export box | banger image import mine -") }),
    banger_image_import_command },
  { "image list", N_ ("list golden images"), N_ ("One line for each image, by name. An empty cell is -."), NULL,
    json_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger image list", N_ ("for people") },
              { "banger image list --json", N_ ("for programs: an array of objects") }),
    banger_image_list },
  { "image show", N_ ("show all there is to know about an image"), N_ ("Every property of an image, one on a line."),
    image_argument, json_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger image show default", N_ ("size, source, digest") }), banger_image_show },
  { "image delete", N_ ("delete golden images"), N_ ("An image that a VM rests on is refused."), images_argument,
    quiet_options, BANGER_TAIL_NONE, EXAMPLES ({ "banger image delete rust", N_ ("one image") }),
    banger_image_delete_command },
  { "kernel import", N_ ("make a guest kernel from a package or a file"),
    N_ ("Takes the kernel and the modules that a microVM needs. apt:PACKAGE is fetched with apt, without root."),
    kernel_import_arguments, kernel_import_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger kernel import", N_ ("Debian's kernel for clouds, for VMs that are not told otherwise") },
              { "banger kernel import mine ./linux-image.deb", N_ ("from a file") },
              { "banger kernel import own vmlinux --modules ./modules", N_ ("a kernel that you built") }),
    banger_kernel_import_command },
  { "kernel list", N_ ("list guest kernels"), N_ ("One line for each kernel, by name. An empty cell is -."), NULL,
    json_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger kernel list", N_ ("for people") },
              { "banger kernel list --json", N_ ("for programs: an array of objects") }),
    banger_kernel_list },
  { "kernel show", N_ ("show all there is to know about a kernel"), N_ ("Every property of a kernel, one on a line."),
    kernel_argument, json_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger kernel show default", N_ ("version, source, digest") }), banger_kernel_show },
  { "kernel delete", N_ ("delete guest kernels"), N_ ("A kernel that a VM rests on is refused."), kernels_argument,
    quiet_options, BANGER_TAIL_NONE, EXAMPLES ({ "banger kernel delete mine", N_ ("one kernel") }),
    banger_kernel_delete_command },
  { "system install", N_ ("set up the root helper for its owner (root only)"),
    N_ ("Writes /etc/banger/install.toml and a polkit rule for the owner, makes the state folders and, where systemd "
        "runs, starts the helper and lets the owner's services run without a session. Doing it again mends what is "
        "missing and changes nothing else."),
    NULL, install_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "sudo banger system install --owner ann", N_ ("ann needs no sudo from here on") }),
    banger_system_install },
  { "system status", N_ ("show whom the services serve and whether they answer"),
    N_ ("The exit status is 1 if the root helper does not answer."), NULL, NULL, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger system status", N_ ("owner, folders, units") }), banger_system_status },
  { "system restart", N_ ("restart both services (root only)"), N_ ("Running VMs are not touched."), NULL, NULL,
    BANGER_TAIL_NONE, EXAMPLES ({ "sudo banger system restart", N_ ("after an update") }), banger_system_restart },
  { "system stop", N_ ("shut every VM down and stop both services (root only)"),
    N_ ("Guests shut down in order; what does not answer is ended. Disks and the installation are kept; the next use "
        "starts the services again."),
    NULL, NULL, BANGER_TAIL_NONE, EXAMPLES ({ "sudo banger system stop", N_ ("before work on the host") }),
    banger_system_stop },
  { "system uninstall", N_ ("take back what install made (root only)"),
    N_ ("Shuts every VM down first, then removes units' state, metadata, the polkit rule and the runtime folder. VMs, "
        "images "
        "and kernels stay unless --purge is given."),
    NULL, uninstall_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "sudo banger system uninstall", N_ ("keep the owner's VMs and images") },
              { "sudo banger system uninstall --purge", N_ ("leave nothing") }),
    banger_system_uninstall },
  { "doctor", N_ ("check that this host can run VMs"),
    N_ ("Checks what banger needs from the host and says how to mend what is wrong. Works also when the manager cannot "
        "be "
        "reached. The exit status is 1 if a check found an error, 0 if there are warnings at most."),
    NULL, json_options, BANGER_TAIL_NONE,
    EXAMPLES ({ "banger doctor", N_ ("for people") },
              { "banger doctor --json", N_ ("for programs: an array of objects") }),
    banger_doctor },
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

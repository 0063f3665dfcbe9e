/* Rows of options that several commands have.
 * Read by command-table.c alone. */
#pragma once

#include <glib/gi18n.h>

#include "cli/command.h"
#include "common/vm-bounds.h"

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
#define NO_STDIN                                                                                                       \
  {                                                                                                                    \
    "no-stdin", 'n', BANGER_CLI_FLAG, NULL, 0,                                                                         \
        N_ ("give the command an empty stdin: in a loop that reads its own, for one")                                  \
  }
/* Of a command in the guest. */
#define COMMAND_OPTIONS                                                                                                \
  {                                                                                                                    \
    "env", 0, BANGER_CLI_STRV, N_ ("NAME=VALUE"), 0, N_ ("set a variable for the command; NAME alone: as it is here")  \
  },                                                                                                                   \
      { "user",                                                                                                        \
        0,                                                                                                             \
        BANGER_CLI_STRING,                                                                                             \
        N_ ("USER"),                                                                                                   \
        0,                                                                                                             \
        N_ ("run the command as USER or USER:GROUP of the guest, names or numbers; default the image's, or root") },   \
      { "tty", 't', BANGER_CLI_FLAG, NULL, 0, N_ ("give the command a terminal, whatever stdin and stdout are") },     \
  {                                                                                                                    \
    "interactive", 'i', BANGER_CLI_FLAG, NULL, 0, N_ ("give the command our stdin, as is done without it")             \
  }
#define MIB (G_GUINT64_CONSTANT (1) << 20)

#define JSON                                                                                                           \
  {                                                                                                                    \
    "json", 0, BANGER_CLI_FLAG, NULL, 0, N_ ("print JSON instead of text")                                             \
  }

#define VM_SIZES                                                                                                       \
  { "vcpu", 0, BANGER_CLI_UINT, N_ ("COUNT"), 0, N_ ("number of virtual CPUs"), 1, BANGER_VM_MAX_VCPUS },              \
      { "memory",                                                                                                      \
        0,                                                                                                             \
        BANGER_CLI_SIZE,                                                                                               \
        N_ ("SIZE"),                                                                                                   \
        0,                                                                                                             \
        N_ ("memory of the guest, in whole MiB: 512M, 2G"),                                                            \
        BANGER_VM_MIN_MEMORY_MIB * MIB,                                                                                \
        BANGER_VM_MAX_MEMORY_MIB * MIB },                                                                              \
  {                                                                                                                    \
    "disk-size", 0, BANGER_CLI_SIZE, N_ ("SIZE"), 0, N_ ("size of the work disk, which is /root: 8G, 1.5G"),           \
        BANGER_VM_MIN_DISK_BYTES, BANGER_VM_MAX_DISK_BYTES                                                             \
  }
#define VM_SHAPE                                                                                                       \
  { "image",                                                                                                           \
    0,                                                                                                                 \
    BANGER_CLI_STRING,                                                                                                 \
    N_ ("IMAGE"),                                                                                                      \
    BANGER_COMPLETE_IMAGES,                                                                                            \
    N_ ("golden image that the root disk starts from") },                                                              \
      { "kernel", 0, BANGER_CLI_STRING, N_ ("KERNEL"), BANGER_COMPLETE_KERNELS, N_ ("guest kernel to boot") },         \
      { "init", 0, BANGER_CLI_STRING, N_ ("PATH"), 0, N_ ("program in the image to be its init") }, VM_SIZES,          \
      { "setup",                                                                                                       \
        0,                                                                                                             \
        BANGER_CLI_STRING,                                                                                             \
        N_ ("FILE"),                                                                                                   \
        BANGER_COMPLETE_FILES,                                                                                         \
        N_ ("run that script of yours once in the new guest, as root, before anything else") },                        \
      { "publish",                                                                                                     \
        0,                                                                                                             \
        BANGER_CLI_STRV,                                                                                               \
        N_ ("[ADDRESS:]PORT:PORT"),                                                                                    \
        0,                                                                                                             \
        N_ ("have a port of this host lead to one of the guest, as `banger vm forward` does") },                       \
      { "no-publish", 0, BANGER_CLI_FLAG, NULL, 0, N_ ("without what [[publish]] of config.toml says") },              \
      { "link",                                                                                                        \
        0,                                                                                                             \
        BANGER_CLI_STRV,                                                                                               \
        N_ ("NAME"),                                                                                                   \
        BANGER_COMPLETE_VMS,                                                                                           \
        N_ ("let the VM reach the VM NAME, which does not reach it by that") },                                        \
      { "allow-host", 0, BANGER_CLI_STRV, N_ ("PORT"), 0, N_ ("let the VM reach that TCP port of the host") },         \
      { "nat", 0, BANGER_CLI_FLAG, NULL, 0, N_ ("give the VM a way out of the host, where config.toml says not to") }, \
  {                                                                                                                    \
    "no-nat", 0, BANGER_CLI_FLAG, NULL, 0, N_ ("give the VM no way out of the host")                                   \
  }

#define WORKSPACE_OPTIONS                                                                                              \
  { "branch", 0, BANGER_CLI_STRING, N_ ("BRANCH"), 0, N_ ("have the guest's copy on a new branch of that name") },     \
      { "from",     0, BANGER_CLI_STRING,                                                                              \
        N_ ("REF"), 0, N_ ("commit, branch or tag where the branch of --branch begins, only with it; default HEAD") }, \
      { "tracked-only", 0, BANGER_CLI_FLAG, NULL, 0, N_ ("leave files behind that git does not track") },              \
      { "depth",  0, BANGER_CLI_STRING,                                                                                \
        N_ ("N"), 0, N_ ("how many generations of commits go along; 0 or all: the whole history; default 50") },       \
      { "no-git", 0, BANGER_CLI_FLAG,                                                                                  \
        NULL,     0, N_ ("copy PATH as a plain folder: all files in it, ignored ones, too, and nothing of git") },     \
  {                                                                                                                    \
    "dry-run", 0, BANGER_CLI_FLAG, NULL, 0, N_ ("only list the files that would be copied")                            \
  }

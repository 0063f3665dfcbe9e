/* Filters of system calls, seccomp(2): tables of rows, compiled with libseccomp.
 * Never knows a program: what one may do stands in its own table; no GLib here. */
#pragma once

#include <seccomp.h>
#include <stddef.h>

/* What happens to a system call: @error is what it answers, 0: it is let through. Rows of the same call are
 * alternatives; one whose conditions all hold decides. Compare the value of an int with SCMP_CMP_MASKED_EQ and
 * BANGER_CAGE_INT where a match forbids: a program can set the upper half of its register. */
typedef struct {
  const char *call;
  int error;
  unsigned n_when;
  struct scmp_arg_cmp when[3];
} BangerCageRow;

#define BANGER_CAGE_INT 0xffffffffu
/* As the error of a row: the call answers 0, and nothing was done. */
#define BANGER_CAGE_NOTHING 0x10000

/* @otherwise: what a call without a matching row answers, 0: it is let through. Calls that are newer than the ones
 * that this code knows answer ENOSYS in any case, as on an older kernel, so that libraries do without them. */
typedef struct {
  int otherwise;
  const BangerCageRow *rows[4]; /* arrays that end with a row without a call; NULL: no more */
} BangerCageTable;

/* For tables with an @otherwise: what every program needs that works on descriptors which it has already and on its
 * own memory, without threads: malloc, stdio, clocks, the end. Nothing that opens, names, connects, starts or signals
 * anything; fcntl(2) without owners of signals. */
extern const BangerCageRow banger_cage_basic[];
/* Beside it: threads, and no processes. */
extern const BangerCageRow banger_cage_threads[];
/* Beside it: what execveat(2) and the dynamic linker need: files that are read and mapped, once the program has
 * been started. For programs in a root of their own. */
extern const BangerCageRow banger_cage_exec[];

typedef struct BangerCage BangerCage;

/** banger_cage_new: compiles @table; allocates. Returns: %NULL with errno; ENOSYS: a row names an unknown call. */
BangerCage *banger_cage_new (const BangerCageTable *table);
void banger_cage_free (BangerCage *cage);

/**
 * banger_cage_enter:
 * Forbids new privileges and puts this thread, and what it starts from now on, below the filter, for good. Only system
 * calls: may be called after fork(2). Returns: 0, or -1 with errno.
 */
int banger_cage_enter (const BangerCage *cage);

/* Files below one folder, as a stream of somebody else's names them.
 * Used by banger for what comes out of a guest, by the agent for what goes into one: no GLib.
 * Never leaves that folder, follows a link in it, or writes into a file that was there. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* What the names of a stream mean. */
typedef enum {
  BANGER_TREE_NAMED,    /* one file or folder, and what is in it: it gets a name of ours */
  BANGER_TREE_CONTENTS, /* one folder, whose contents are meant */
  BANGER_TREE_STREAM,   /* any number, by the names that they bring */
} BangerTreeKind;

typedef struct {
  BangerTreeKind kind;
  int root;    /* the folder; nothing outside of it is touched */
  char *leaf;  /* what the one becomes in there; NULL: nothing, it is @root itself */
  char *shown; /* how @root was named, with a slash at its end; "": it is the current one */
  int folder;  /* it has to be one: that is how it was named */
  int replace; /* what is in the way goes, whatever it is; else a folder never does, and nothing for a folder */
} BangerTreePlace;

/**
 * banger_tree_place:
 * Where what is called @name goes if the user says @path, as with `cp -a`: into a folder that is there, else it becomes
 * @path, whose parent has to be there. @name: not used unless @kind is %BANGER_TREE_NAMED.
 * Returns: 0; -1 with errno, and @ret_missing: which folder it is that cannot be had, of malloc(3).
 */
int banger_tree_place (const char *path, BangerTreeKind kind, const char *name, BangerTreePlace *ret,
                       char **ret_missing);
void banger_tree_place_clear (BangerTreePlace *place);

/* @type as in tar(5): '0' file, '1' hard link, '2' symbolic link, '5' folder; anything else is passed over. */
typedef struct {
  char type;
  unsigned mode;
  int64_t mtime;
  unsigned nsec;
  uint64_t size;           /* of a file, holes included */
  const char *path, *link; /* bytes */
} BangerTreeEntry;

/** banger_tree_remove: with all that is below it; what is not there is none. Returns: 0; -1 with errno. */
int banger_tree_remove (int folder, const char *name);

typedef struct BangerTreeWriter BangerTreeWriter;

/** banger_tree_writer_new: @place: (transfer full). Returns: NULL without memory. */
BangerTreeWriter *banger_tree_writer_new (BangerTreePlace *place);
/** banger_tree_mark: each file and link gets the extended attribute @name (static) where that can be; whoever writes one anew leaves it out. */
void banger_tree_mark (BangerTreeWriter *writer, const char *name);
/** banger_tree_writer_free: closes; a file that is not whole stays as it is. */
void banger_tree_writer_free (BangerTreeWriter *writer);

/* Each of these: 0, or -1, after which banger_tree_problem() knows why, and none is called any more but
 * banger_tree_skip(). */

/** banger_tree_entry: the next one; that before is finished. Bits that change who a program runs as are dropped. */
int banger_tree_entry (BangerTreeWriter *writer, const BangerTreeEntry *entry);
/** banger_tree_data: of the entry, if it is a file; ignored otherwise. */
int banger_tree_data (BangerTreeWriter *writer, const void *bytes, size_t length, uint64_t offset);
/** banger_tree_finish: the last one is finished; times and modes of folders are set. */
int banger_tree_finish (BangerTreeWriter *writer);

/**
 * banger_tree_skip: after banger_tree_entry() or banger_tree_finish() failed: whether the stream can go on.
 * Returns: 0: without that entry; 1: call the same again, what failed came before it; -1: it cannot, it is not what was
 * asked for or the disk takes no more.
 */
int banger_tree_skip (BangerTreeWriter *writer);

typedef struct {
  const char *text; /* N_(); NULL: what errno says */
  int number;       /* errno */
  const char *path; /* of what, as raw as the stream has it; with the place's name before it */
} BangerTreeProblem;

const BangerTreeProblem *banger_tree_problem (const BangerTreeWriter *writer);
/** banger_tree_unfinished: Returns: the file that is being written, NULL: none. */
const char *banger_tree_unfinished (const BangerTreeWriter *writer);

typedef struct {
  uint64_t entries;
  uint64_t passed_over; /* devices, sockets, pipes */
  uint64_t stripped;    /* had bits that were dropped */
} BangerTreeCounts;

BangerTreeCounts banger_tree_counts (const BangerTreeWriter *writer);

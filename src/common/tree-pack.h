/* A file or a folder as a tar, pax(1): modes, times to the nanosecond, links, holes, names of any bytes.
 * Used by banger for what goes into a guest, by the agent for what comes out of one: no GLib.
 * Never follows a link, never leaves a folder for /proc and its like. */
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef struct {
  int (*write) (const void *bytes, size_t length, void *data); /* 0, or -1: nobody wants more */
  /* What was left out, or cut: its path, and why: N_(), or NULL: what errno @number says. */
  void (*complain) (const char *path, const char *why, int number, void *data);
  void *data;
  int keep_owners;  /* entries are not root's, but whose they are here: */
  unsigned as_root; /* but that user's, and of its group, which are root's */
  int set_mode;     /* files have not the mode that they have here, but: */
  unsigned mode;    /* this; folders, too, and may be entered by whoever may read them */
  /* Of a symbolic link: NULL, or why it is left out: N_(). NULL: all go along. */
  const char *(*refuse_link) (const char *path, const char *target, void *data);
  int xattrs; /* extended attributes go along: user.*, capabilities, access lists */
  int sorted; /* names of a folder in the order of their bytes: what is the same makes the same tar */
} BangerTreePacker;

/**
 * banger_tree_pack:
 * @path: (with a slash at its end: where a link leads). @name: what it is called in the tar.
 * Entries are root's unless @packer says otherwise. A file that shrinks meanwhile is filled with zeros, one that grows is cut.
 * Returns: 0; 1 if there were complaints; -1 if write() ended it, or with errno ENOENT and the like if @path cannot be had.
 */
int banger_tree_pack (const char *path, const char *name, const BangerTreePacker *packer);
/** banger_tree_pack_fd: likewise what was opened: a file, or a folder (for reading). */
int banger_tree_pack_fd (int fd, const char *name, const BangerTreePacker *packer);

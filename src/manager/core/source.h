/* What images and kernels are made from: a row for each way to name it. What somebody named is opened, and what its row
 * needs of the host is looked for, before anything is made: what cannot be had leaves no trace.
 * Never waits on the main loop: a file may be on a mount that hangs. */
#pragma once

#include <gio/gio.h>

#include "manager/core/job.h"

typedef struct BangerSource BangerSource;

typedef struct {
  const char *word;
  gboolean named; /* who writes "WORD:NAME" means it; others are chosen by how they come */
  /* In a thread, before there is a record, a signal or a job: opens what was named; what is made later is made of that. */
  gboolean (*check) (BangerSource *source, GError **error);
  char *(*describe) (const BangerSource *source); /* for people, and in the record */
  /* In a thread, as the job: makes the files in the directory @dir_fd. */
  gboolean (*make) (BangerSource *source, int dir_fd, BangerJobProgress *progress, GCancellable *cancellable,
                    GError **error);
  /* Whether both would make the same: then whoever asks while it is made waits for that. NULL: nobody can know. */
  gboolean (*same) (const BangerSource *a, const BangerSource *b);
} BangerSourceRow;

/* What one class of assets can be made from. */
typedef struct {
  const BangerSourceRow *rows;          /* ends with a row without a word */
  size_t size;                          /* of the structure that begins with a BangerSource */
  void (*clear) (BangerSource *source); /* of what is behind that */
} BangerSources;

/* Begins a BangerImageSource or a BangerKernelSource. */
struct BangerSource {
  const BangerSources *sources;
  const BangerSourceRow *row;
  char *name; /* what was named: a path, a package; NULL: nothing */
  int fd;     /* what it is read from, where that is a file or a pipe; -1 */
};

/* The words of what has none: a bare path, and a descriptor. */
#define BANGER_SOURCE_FILE "file"
#define BANGER_SOURCE_STREAM "stream"

/** banger_source_new: one of the class @sources that is chosen next. */
gpointer banger_source_new (const BangerSources *sources);
void banger_source_free (BangerSource *source);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerSource, banger_source_free)

/** banger_source_choose: the row @word, which the class has, with @name (nullable); a check may choose another one than its own. */
void banger_source_choose (BangerSource *source, const char *word, const char *name);

/** banger_source_choose_text: what a client wrote: "WORD:NAME", if there is such a row, else a path. */
void banger_source_choose_text (BangerSource *source, const char *text);

/** banger_source_check_async: the row's check, in a thread. @source outlives it. */
void banger_source_check_async (BangerSource *source, GAsyncReadyCallback callback, gpointer user_data);
gboolean banger_source_check_finish (GAsyncResult *result, GError **error);

/* Columns that rows share. */

/**
 * banger_source_open:
 * A check: the file or pipe at the absolute path that is the source's name, with the owner's rights; reading a pipe does
 * not block. %BANGER_ERROR_INVALID_PATH.
 */
gboolean banger_source_open (BangerSource *source, GError **error);

/** banger_source_say_name, banger_source_say_word, banger_source_say_both: "NAME", "WORD", "WORD:NAME". */
char *banger_source_say_name (const BangerSource *source);
char *banger_source_say_word (const BangerSource *source);
char *banger_source_say_both (const BangerSource *source);

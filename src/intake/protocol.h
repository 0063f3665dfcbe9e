/* What banger-intake and the manager say to each other: a few numbers on the way there, frames on the way back.
 * Never lets a frame say how much memory its reader takes. */
#pragma once

#include <glib.h>

#include "common/error.h"

/* Descriptors of the program. Argument 1 is the verb, argument 2 its number, 3 which image of several, or none. */
#define BANGER_INTAKE_SOURCE_FD 0 /* tar: a socket with its bytes; oci: one by which files come; else a file */
#define BANGER_INTAKE_ANSWER_FD 1 /* frames */
#define BANGER_INTAKE_TARGET_FD 3 /* and the next one */
#define BANGER_INTAKE_EXTRA_FD 5  /* kernel: a tar of modules; tar: an empty file for an archive of layers; or closed */

#define BANGER_INTAKE_TAR "tar" /* number: size of the file system in bytes, 0: as needed */
#define BANGER_INTAKE_OCI "oci" /* likewise; an OCI image layout, whose files are asked for */
/* Asked for first: digests of layers, the lowest first, a line each, that will most likely be those of the image while the
 * rest of the layout is still coming. */
#define BANGER_INTAKE_EXPECTED "expected"
#define BANGER_INTAKE_EXT4 "ext4"     /* number: 0 */
#define BANGER_INTAKE_EXPORT "export" /* number: 0; the first target is read, the second gets a tar */
#define BANGER_INTAKE_COMMIT "commit" /* number: 0; the disks of a VM, which are asked for by these names */
#define BANGER_INTAKE_DISK_ROOT "root"
#define BANGER_INTAKE_DISK_COW "cow"   /* what a snapshot wrote over that one; argument 3 says whether there is one */
#define BANGER_INTAKE_DISK_WORK "work" /* /root; likewise */
#define BANGER_INTAKE_KERNEL "kernel"  /* number: 0 */

#define BANGER_PACKAGE_MAGIC "!<arch>\n" /* how a kernel's package begins */

#define BANGER_INTAKE_MAX_TEXT 1024u      /* bytes of a warning or an error */
#define BANGER_INTAKE_MAX_WARNINGS 16u    /* more are left out */
#define BANGER_INTAKE_MAX_TALK (1u << 20) /* bytes of all frames */
#define BANGER_INTAKE_MAX_VERSION 64u     /* with the final NUL */
#define BANGER_INTAKE_MAX_NAME 128u       /* bytes of a file's name that is asked for */
#define BANGER_INTAKE_MAX_ASKED 2048u     /* files */
#define BANGER_INTAKE_MAX_SETTING 8192u   /* bytes of one value of a configuration */
#define BANGER_INTAKE_MAX_SETTINGS 1024u
#define BANGER_INTAKE_MAX_SETTINGS_BYTES (256u << 10) /* of all values */
#define BANGER_INTAKE_DIGEST_BYTES 72u                /* "sha256:" and hex, with the final NUL */

#define BANGER_IMAGE_DEFAULT_BYTES (G_GUINT64_CONSTANT (4) << 30) /* of a root file system, unless asked for more */
/* The seed grows online to the size of the VM's work disk; its journal does not, so it is not made tiny. */
#define BANGER_SEED_BYTES (G_GUINT64_CONSTANT (128) << 20)
#define BANGER_SEED_LABEL "banger-work"
#define BANGER_ROOT_LABEL "banger-root"

/* Values of an image's configuration (config.md of the OCI image specification): a text each, some in a list. */
typedef enum {
  BANGER_INTAKE_ENV,         /* "NAME=VALUE" */
  BANGER_INTAKE_WORKING_DIR, /* at most one */
  BANGER_INTAKE_USER,        /* at most one */
  BANGER_INTAKE_ENTRYPOINT,
  BANGER_INTAKE_CMD,
  BANGER_INTAKE_PORT,  /* "80/tcp" */
  BANGER_INTAKE_LABEL, /* "name=value" */
  BANGER_N_INTAKE_SETTINGS,
} BangerIntakeSetting;

/* What became of the source. Which numbers mean something depends on the verb. */
typedef struct {
  guint64 size_bytes, used_bytes, seed_bytes;
  guint32 n_modules;
  guint32 no_ssh; /* 1: no ssh server was seen, so that nobody gets in */
  char version[BANGER_INTAKE_MAX_VERSION];
  char digest[BANGER_INTAKE_DIGEST_BYTES]; /* of an image's manifest; "": it has none */
} BangerIntakeResult;

/* The program's side. */

/** banger_intake_say_progress: @fraction 0..1. Said at most a thousand times. Returns: FALSE if nobody listens. */
gboolean banger_intake_say_progress (int fd, double fraction);
/** banger_intake_say_warning: one sentence for people. */
gboolean banger_intake_say_warning (int fd, const char *text);
/** banger_intake_say_setting: one value, of at most %BANGER_INTAKE_MAX_SETTING bytes. */
gboolean banger_intake_say_setting (int fd, BangerIntakeSetting kind, const char *text);
/** banger_intake_ask: asks for a file by @name at @answer_fd. Returns: a descriptor that came over @socket_fd; -1. */
int banger_intake_ask (int answer_fd, int socket_fd, const char *name, GError **error);
/** banger_intake_say_failed: the end, as is banger_intake_say_done(). */
gboolean banger_intake_say_failed (int fd, const GError *error);
gboolean banger_intake_say_done (int fd, const BangerIntakeResult *result);

/* The manager's side. */

typedef struct BangerIntakeReader BangerIntakeReader;

BangerIntakeReader *banger_intake_reader_new (void);
void banger_intake_reader_free (BangerIntakeReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerIntakeReader, banger_intake_reader_free)

/**
 * banger_intake_reader_feed:
 * Takes the next bytes, however they are cut. %FALSE, now and ever after, for what is none of our frames, a frame
 * after the last one, too much of all.
 */
gboolean banger_intake_reader_feed (BangerIntakeReader *reader, const void *bytes, gsize length);
/** banger_intake_reader_fraction: Returns: the newest progress, 0..1, never falling. */
double banger_intake_reader_fraction (const BangerIntakeReader *reader);
/** banger_intake_reader_warnings: Returns: (transfer none): of char *, printable UTF-8. */
GPtrArray *banger_intake_reader_warnings (BangerIntakeReader *reader);
/** banger_intake_reader_settings: Returns: (transfer none): char *, UTF-8, in the order in which they were said. */
GPtrArray *banger_intake_reader_settings (BangerIntakeReader *reader, BangerIntakeSetting kind);
/** banger_intake_reader_take_asked: Returns: (transfer full) (nullable): the name of the file that it waits for. */
char *banger_intake_reader_take_asked (BangerIntakeReader *reader);
/** banger_intake_reply: hands @fd (transfer none) over, -1: there is no such file. Never waits. Returns: FALSE with errno if
 * nobody listens, EAGAIN if nobody takes what was said before. */
gboolean banger_intake_reply (int socket_fd, int fd);
/**
 * banger_intake_reader_finish:
 * Nothing more comes. %FALSE with @error: the program's, of a code that it may give, in printable UTF-8; or, with
 * %BANGER_ERROR_FAILED, that it ended without a whole last frame.
 */
gboolean banger_intake_reader_finish (BangerIntakeReader *reader, BangerIntakeResult *ret_result, GError **error);

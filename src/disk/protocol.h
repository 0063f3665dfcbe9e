/* What the helper and banger-disk say to each other, and the limits of both.
 * Never holds a text of the worker's: answers are numbers, and content that was asked for. */
#pragma once

#include <stdint.h>

#define BANGER_DISK_MAX_FILES 64
#define BANGER_DISK_MAX_BYTES (4u << 20) /* of all files of one request, or of the file that is read */
#define BANGER_DISK_MAX_PATH 1023

/* Descriptors of the worker. */
#define BANGER_DISK_REQUEST_FD 0 /* a sealed memfd */
#define BANGER_DISK_ANSWER_FD 1  /* a pipe */
#define BANGER_DISK_IMAGE_FD 3

typedef enum {
  BANGER_DISK_READ = 1,
  BANGER_DISK_WRITE = 2,
} BangerDiskVerb;

/* Followed by @count entries. */
typedef struct {
  uint32_t verb, count;
  uint64_t image_bytes;
} BangerDiskRequest;

/* Followed by the path without NUL, then the data. */
typedef struct {
  uint32_t path_length, mode;
  uint64_t data_length;
} BangerDiskEntry;

typedef enum {
  BANGER_DISK_OK,
  BANGER_DISK_NO_FILE,   /* it, or its folder, is not there */
  BANGER_DISK_NOT_PLAIN, /* a link, folder or device on the way; a file with two names, or one that is protected */
  BANGER_DISK_TOO_LARGE,
  BANGER_DISK_BAD_IMAGE, /* no ext4, or a broken one */
  BANGER_DISK_UNCLEAN,   /* must be checked first */
  BANGER_DISK_NO_SPACE,
  BANGER_DISK_FAILED, /* reading or writing the disk */
  BANGER_DISK_N_STATUS,
} BangerDiskStatus;

/* Followed by @length bytes of content if a file was read. */
typedef struct {
  uint32_t status, which; /* which: index of the file */
  uint64_t length;
} BangerDiskAnswer;

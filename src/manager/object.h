/* Kinds of objects that the manager keeps, and how domain files say that one changed.
 * Used by vm.c, asset.c and job.c; the bus side listens.
 * Never knows D-Bus beyond property names. */
#pragma once

#include <glib.h>

typedef enum {
  BANGER_OBJECT_VM,
  BANGER_OBJECT_IMAGE,
  BANGER_OBJECT_KERNEL,
  BANGER_OBJECT_JOB,
  BANGER_N_OBJECTS,
} BangerObjectKind;

/** BangerProgress: @fraction 0..1, or -1 when it is not known. May be called from a worker thread. */
typedef void (*BangerProgress) (double fraction, gpointer user_data);

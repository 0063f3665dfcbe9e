/* Looks at what banger needs of the host: one row per need, with what was seen and what to do.
 * Never changes anything on the host. */
#pragma once

#include <gio/gio.h>

#include "manager/manager.h"

typedef enum {
  BANGER_DOCTOR_OK,
  BANGER_DOCTOR_WARNING, /* works, but worse, or not all of it */
  BANGER_DOCTOR_ERROR,   /* no VM starts */
  BANGER_N_DOCTOR_STATUSES,
} BangerDoctorStatus;

const char *banger_doctor_status_to_string (BangerDoctorStatus status);

typedef struct {
  const char *check;
  BangerDoctorStatus status;
  char *seen;
  char *fix; /* "" when there is nothing to do */
} BangerDoctorRow;

/** banger_doctor_run_async: also asks the helper, so that a missing grant is seen before a VM needs it. */
void banger_doctor_run_async (BangerManager *manager, const char *op_id, GAsyncReadyCallback callback,
                              gpointer user_data);
/** banger_doctor_run_finish: Returns: (transfer full): BangerDoctorRow with its free function set. */
GPtrArray *banger_doctor_run_finish (GAsyncResult *result, GError **error);

/** banger_doctor_has_word: whether @word stands in the file @path, between spaces or line ends. */
gboolean banger_doctor_has_word (const char *path, const char *word);

/** banger_doctor_overlaps: whether two IPv4 networks share an address. Addresses in host order. */
gboolean banger_doctor_overlaps (guint32 a, guint prefix_a, guint32 b, guint prefix_b);

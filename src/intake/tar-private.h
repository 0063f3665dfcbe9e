/* What tar-reader.c and tar-pax.c share.
 * Included by these two only.
 * Never seen by callers of the reader. */
#pragma once

#include "intake/tar-reader.h"

#define TAR_MAX_EXTENSION (1u << 20) /* bytes of one extended header, of all global ones, or of a long name */
#define TAR_MAX_RUNS (1u << 18)      /* of one sparse file */

/* What extended headers say of an entry. Fields that they do not mention are -1, NULL or 0. */
typedef struct {
  BangerTarEntry entry;
  gboolean has_size, has_real_size, has_mtime;
  guint64 stored; /* "size": bytes in the archive */
  char *sparse_name;
  guint sparse_major;
  GArray *runs; /* BangerTarRun; NULL: not sparse */
  gboolean run_begun;
} TarPax;

void banger_tar_pax_init (TarPax *pax);
void banger_tar_pax_clear (TarPax *pax);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (TarPax, banger_tar_pax_clear)

/* pax(1), "Extended Header": keys of @bytes into @pax; one without a value takes back what came before. Returns: %FALSE
 * for what is no list of records. */
gboolean banger_tar_pax_read (TarPax *pax, const guint8 *bytes, gsize length);

/* Decimal digits at *@at, which moves behind them. Returns: %FALSE if there is none or it is too large. */
gboolean banger_tar_decimal (const char **at, guint64 *ret_value);

/* Reading and writing `a{sv} options`, the last argument of every verb.
 * Never ignores a key it does not know. */
#pragma once

#include <glib.h>
#include <systemd/sd-bus.h>

typedef enum {
  BANGER_OPTION_STRING, /* char *, owned by the structure */
  BANGER_OPTION_BOOL,   /* gboolean */
  BANGER_OPTION_UINT32, /* guint32; any integer type on the wire that fits */
  BANGER_OPTION_UINT64, /* guint64; likewise */
  BANGER_OPTION_STRV,   /* char **, owned by the structure */
  BANGER_OPTION_PATH,   /* char *, likewise; a string or, as names of files may have any bytes but NUL, an array of them
                         */
  BANGER_OPTION_FD,     /* int, duplicated with F_DUPFD_CLOEXEC; initialise to -1 */
} BangerOptionType;

/* A table ends with a row whose key is NULL. */
typedef struct {
  const char *key;
  BangerOptionType type;
  size_t offset;            /* of the value in the caller's structure */
  const char *const *words; /* closed choices of a STRING, or NULL */
} BangerOption;

/**
 * banger_options_read:
 * Reads the dictionary at the cursor of @message into @ret_values, which the caller initialised with defaults.
 * A key not in @table, a key given twice, a wrong type or a word not among the choices is
 * %BANGER_ERROR_INVALID_ARGS naming the key and what is wanted. On error nothing of @ret_values is to be used but it
 * can be cleared with banger_options_clear().
 */
gboolean banger_options_read (sd_bus_message *message, const BangerOption *table, gpointer ret_values, GError **error);

/** banger_options_clear: frees strings and closes descriptors of @values. */
void banger_options_clear (const BangerOption *table, gpointer values);

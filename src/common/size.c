/* Sizes of disks and memory as people write them.
 * Never rounds silently. */
#include "common/size.h"

#include <math.h>
#include <string.h>

#include "common/error.h"

static const char units[] = "KMGT";

static gboolean
refuse (const char *text, GError **error)
{
  g_autofree char *shown = g_utf8_make_valid (text, -1);
  return banger_set_error (error, BANGER_ERROR_INVALID_SIZE,
                           "size '%.40s' is not understood: write a number with K, M, G or T, such as 512M or 4G",
                           shown);
}

/* The unit's factor, or 0 if @unit is none. */
static guint64
unit_factor (const char *unit)
{
  if (*unit == '\0' || g_ascii_strcasecmp (unit, "B") == 0)
    return 1;
  const char *letter = strchr (units, g_ascii_toupper (*unit));
  const char *rest = unit + 1;
  if (!letter || (*rest && g_ascii_strcasecmp (rest, "B") != 0 && g_ascii_strcasecmp (rest, "iB") != 0))
    return 0;
  return G_GUINT64_CONSTANT (1) << (10 * (letter - units + 1));
}

gboolean
banger_size_parse (const char *text, guint64 *ret_bytes, GError **error)
{
  size_t whole = strspn (text, "0123456789");
  const char *rest = text + whole;
  size_t fraction = *rest == '.' ? strspn (rest + 1, "0123456789") : 0;
  if (whole == 0 || whole > 18 || (*rest == '.' && (fraction == 0 || fraction > 6)))
    return refuse (text, error);
  guint64 units_whole = g_ascii_strtoull (text, NULL, 10), thousandths = 0, scale = 1;
  if (fraction) {
    for (size_t i = 0; i < fraction; i++, scale *= 10)
      thousandths = thousandths * 10 + (guint64)(rest[1 + i] - '0');
    rest += 1 + fraction;
  }
  rest += *rest == ' ';
  guint64 factor = unit_factor (rest), bytes;
  if (factor == 0)
    return refuse (text, error);
  if (!g_uint64_checked_mul (&bytes, units_whole, factor)
      || !g_uint64_checked_add (&bytes, bytes, thousandths * factor / scale) || bytes > G_MAXINT64)
    return banger_set_error (error, BANGER_ERROR_INVALID_SIZE, "size '%s' is too large", text);
  if (bytes == 0)
    return banger_set_error (error, BANGER_ERROR_INVALID_SIZE, "size '%s' is zero: at least 1 byte is needed", text);
  *ret_bytes = bytes;
  return TRUE;
}

char *
banger_size_format (guint64 bytes)
{
  static const char *const names[] = { "B", "KiB", "MiB", "GiB", "TiB" };
  guint64 tenths = bytes > G_MAXUINT64 / 10 ? bytes / 1024 * 10 : bytes * 10;
  size_t unit = bytes > G_MAXUINT64 / 10;
  for (; tenths >= 10240 && unit < G_N_ELEMENTS (names) - 1; unit++)
    tenths = (tenths + 512) / 1024;
  if (unit == 0 || tenths % 10 == 0)
    return g_strdup_printf ("%" G_GUINT64_FORMAT " %s", tenths / 10, names[unit]);
  return g_strdup_printf ("%" G_GUINT64_FORMAT ".%" G_GUINT64_FORMAT " %s", tenths / 10, tenths % 10, names[unit]);
}

/* Operation ids.
 * Never parsed for meaning. */
#include "common/op-id.h"

#include <string.h>
#include <sys/random.h>

char *
banger_op_id_new (void)
{
  guint32 value = 0;
  if (getrandom (&value, sizeof value, 0) != (ssize_t)sizeof value)
    value = g_random_int ();
  return g_strdup_printf ("op-%08x", value);
}

gboolean
banger_op_id_valid (const char *op_id)
{
  if (!op_id || !g_str_has_prefix (op_id, "op-"))
    return FALSE;
  size_t digits = strspn (op_id + 3, "0123456789abcdef");
  return digits >= 6 && digits <= 32 && op_id[3 + digits] == '\0';
}

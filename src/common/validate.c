/* Rules on names, ids and addresses: pure functions over strings.
 * Never touches the system. */
#include "common/validate.h"

#include <arpa/inet.h>
#include <string.h>

#include "common/error.h"
#include "common/log.h"

static gboolean
refuse (GError **error, BangerError code, const char *what, const char *value, const char *rule)
{
  g_autofree char *shown = banger_log_escape (value, 80);
  return banger_set_error (error, code, "%s '%s' is not allowed: %s", what, shown, rule);
}

gboolean
banger_name_check (const char *name, const char *what, GError **error)
{
  size_t length = strlen (name);
  if (length < 1 || length > 63 || strspn (name, "abcdefghijklmnopqrstuvwxyz0123456789-") != length || name[0] == '-'
      || name[length - 1] == '-')
    return refuse (error, BANGER_ERROR_INVALID_NAME, what, name,
                   "use 1 to 63 lower-case letters, digits and '-', no '-' at either end");
  return TRUE;
}

static gboolean
looks_like_id (const char *text)
{
  size_t length = strlen (text);
  return length >= 8 && length <= 32 && strspn (text, "0123456789abcdef") == length;
}

gboolean
banger_new_name_check (const char *name, const char *what, GError **error)
{
  if (!banger_name_check (name, what, error))
    return FALSE;
  if (looks_like_id (name))
    return refuse (error, BANGER_ERROR_INVALID_NAME, what, name,
                   "8 to 32 hex digits could be an id, and verbs take both: use another letter or a '-' in it");
  return TRUE;
}

gboolean
banger_id_check (const char *id, const char *what, GError **error)
{
  if (!looks_like_id (id))
    return refuse (error, BANGER_ERROR_INVALID_ID, what, id, "an id is 8 to 32 lower-case hex digits");
  return TRUE;
}

gboolean
banger_ipv4_parse (const char *text, struct in_addr *ret, GError **error)
{
  struct in_addr address;
  /* inet_pton(3) refuses leading zeros and short forms. */
  if (inet_pton (AF_INET, text, &address) != 1)
    return refuse (error, BANGER_ERROR_INVALID_NETWORK, "address", text,
                   "an IPv4 address such as 10.213.0.5 is needed");
  if (ret)
    *ret = address;
  return TRUE;
}

gboolean
banger_uint_parse (const char *text, guint64 min, guint64 max, guint64 *ret, GError **error)
{
  size_t digits = strspn (text, "0123456789");
  guint64 value = 0;
  gboolean plain = digits > 0 && digits <= 20 && text[digits] == '\0' && (text[0] != '0' || digits == 1);
  if (!plain || !g_ascii_string_to_unsigned (text, 10, min, max, &value, NULL)) {
    g_autofree char *rule = g_strdup_printf (
        "a plain number from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT " is needed", min, max);
    return refuse (error, BANGER_ERROR_INVALID_ARGS, "number", text, rule);
  }
  *ret = value;
  return TRUE;
}

gboolean
banger_ipv4_cidr_parse (const char *text, struct in_addr *ret_address, guint *ret_prefix, GError **error)
{
  g_auto (GStrv) parts = g_strsplit (text, "/", 3);
  guint64 prefix;
  struct in_addr address;
  if (g_strv_length (parts) != 2)
    return refuse (error, BANGER_ERROR_INVALID_NETWORK, "address", text,
                   "write it with its prefix, as in 10.213.0.1/24");
  if (!banger_ipv4_parse (parts[0], &address, error))
    return FALSE;
  if (!banger_uint_parse (parts[1], 8, 32, &prefix, NULL))
    return refuse (error, BANGER_ERROR_INVALID_NETWORK, "prefix", parts[1], "a plain number from 8 to 32 is needed");
  if (ret_address)
    *ret_address = address;
  if (ret_prefix)
    *ret_prefix = (guint)prefix;
  return TRUE;
}

gboolean
banger_bridge_name_check (const char *name, GError **error)
{
  size_t length = strlen (name);
  gboolean ours = g_str_equal (name, "br-fc") || (g_str_has_prefix (name, "br-fc-") && length > strlen ("br-fc-"));
  if (!ours || length > 15 || strspn (name, "abcdefghijklmnopqrstuvwxyz0123456789-") != length)
    return refuse (error, BANGER_ERROR_INVALID_NETWORK, "bridge", name,
                   "it must be br-fc or br-fc-NAME, at most 15 bytes of lower-case letters, digits and '-'");
  return TRUE;
}

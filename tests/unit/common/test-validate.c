/* Names, ids and addresses: accept, reject, boundary.
 * Run by meson test.
 * Never touches the system. */
#include <string.h>

#include "common/error.h"
#include "common/ids.h"
#include "common/validate.h"

typedef gboolean (*Check) (const char *text, GError **error);

static gboolean
name (const char *text, GError **error)
{
  return banger_name_check (text, "VM name", error);
}

static gboolean
new_name (const char *text, GError **error)
{
  return banger_new_name_check (text, "VM name", error);
}

static gboolean
id (const char *text, GError **error)
{
  return banger_id_check (text, "VM id", error);
}

static gboolean
ipv4 (const char *text, GError **error)
{
  return banger_ipv4_parse (text, NULL, error);
}

static gboolean
cidr (const char *text, GError **error)
{
  return banger_ipv4_cidr_parse (text, NULL, NULL, error);
}

#define N63 "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz01234567890"

static const struct {
  Check check;
  BangerError code;
  const char *accept[12];
  const char *reject[32];
} rows[] = {
  { name,
    BANGER_ERROR_INVALID_NAME,
    { "a", "web", "web-2", "0", "a--b", N63 },
    { "", "-", "-a", "a-", "Web", "we b", "web.vm", "web_1", "a/b", "..", N63 "x", "caf\xc3\xa9", "\xff", "a\n",
      "%s" } },
  { new_name,
    BANGER_ERROR_INVALID_NAME,
    { "a", "web", "default", "deadbee", "1234567", "dead-beef", "deadbeeg", "0123456789abcdef0123456789abcdef0", N63 },
    { "", "Web", "a-", "deadbeef", "12345678", "00000000", "0123456789ab", "cafebabe0",
      "0123456789abcdef0123456789abcdef" } },
  { id,
    BANGER_ERROR_INVALID_ID,
    { "01234567", "0123456789abcdef0123456789abcdef", "deadbeefcafe" },
    { "", "0123456", "0123456789abcdef0123456789abcdef0", "0123456g", "ABCDEF01", "01234567 ", "../12345", "0123/567",
      "01234567\n" } },
  { ipv4,
    BANGER_ERROR_INVALID_NETWORK,
    { "0.0.0.0", "10.213.0.1", "255.255.255.255" },
    { "", "10.213.0", "10.213.0.256", "10.213.0.01", "10.213.0.1 ", " 10.213.0.1", "::1", "0x0a.0.0.1", "10.1",
      "10.213.0.1/24" } },
  { cidr,
    BANGER_ERROR_INVALID_NETWORK,
    { "10.213.0.1/8", "10.213.0.1/24", "10.213.0.1/32" },
    { "10.213.0.1", "10.213.0.1/", "10.213.0.1/7", "10.213.0.1/33", "10.213.0.1/24x", "10.213.0.1/024", "10.213.0.1/-8",
      "10.213.0.1/+8", "10.213.0.1/24/24", "/24", "10.213.0.1/ 24", "10.213.0.1/99999999999999999999" } },
  { banger_bridge_name_check,
    BANGER_ERROR_INVALID_NETWORK,
    { "br-fc", "br-fc-a", "br-fc-012345678" },
    { "eth0", "lo", "docker0", "br-fcx", "br-fc-", "br-fc-0123456789", "br-fc-a b", "br-fc-a/b", "br-fc-a:b", "",
      "BR-FC", "br-fc\n", "br-fc-\xff" } },
};

static void
test_tables (void)
{
  for (size_t i = 0; i < G_N_ELEMENTS (rows); i++) {
    for (size_t j = 0; j < G_N_ELEMENTS (rows[i].accept) && rows[i].accept[j]; j++) {
      g_autoptr (GError) error = NULL;
      rows[i].check (rows[i].accept[j], &error);
      g_assert_no_error (error);
    }
    for (size_t j = 0; j < G_N_ELEMENTS (rows[i].reject) && rows[i].reject[j]; j++) {
      g_autoptr (GError) error = NULL;
      if (rows[i].check (rows[i].reject[j], &error))
        g_error ("row %zu accepted '%s'", i, rows[i].reject[j]);
      g_assert_error (error, BANGER_ERROR, (int)rows[i].code);
      g_assert_true (g_utf8_validate (error->message, -1, NULL));
      g_assert_null (strchr (error->message, '\n'));
    }
  }
}

static void
test_uint (void)
{
  guint64 value = 7;
  g_assert_true (banger_uint_parse ("0", 0, 10, &value, NULL));
  g_assert_cmpuint (value, ==, 0);
  g_assert_true (banger_uint_parse ("18446744073709551615", 0, G_MAXUINT64, &value, NULL));
  const char *bad[] = { "", "-1", "+1", "01", "1 ", "0x1", "11", "18446744073709551616" };
  for (size_t i = 0; i < G_N_ELEMENTS (bad); i++)
    g_assert_false (banger_uint_parse (bad[i], 0, 10, &value, NULL));
}

static void
test_ids (void)
{
  g_autofree char *fresh = banger_id_new (), *tap = banger_tap_name ("0123456789abcdef"),
                  *dm = banger_dm_name ("01234567"), *mac = banger_vm_mac ("01234567"),
                  *scope = banger_scope_name ("01234567");
  g_assert_true (banger_id_check (fresh, "id", NULL));
  g_assert_cmpstr (tap, ==, "tap-fc-01234567");
  g_assert_cmpuint (strlen (tap), <, 16); /* IFNAMSIZ */
  g_assert_cmpstr (dm, ==, "fc-rootfs-01234567");
  g_assert_cmpstr (scope, ==, "banger-vm-01234567.scope");
  g_assert_cmpuint (strlen (mac), ==, 17);
  g_assert_true (g_str_has_prefix (mac, "06:")); /* locally administered, unicast */
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/validate/tables", test_tables);
  g_test_add_func ("/validate/uint", test_uint);
  g_test_add_func ("/validate/ids", test_ids);
  return g_test_run ();
}

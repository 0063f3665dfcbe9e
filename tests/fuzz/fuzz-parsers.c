/* Texts of people and of callers: sizes, names, ids, addresses, numbers, signals, devices, and their escaping.
 * Run as replay.c says.
 * Never accepts a value that breaks the rule it stands for. */
#include <glib.h>
#include <signal.h>
#include <string.h>

#include "common/log.h"
#include "common/op-id.h"
#include "common/size.h"
#include "common/validate.h"
#include "fuzz.h"
#include "privileged/gate.h"

static void
parse_size (const char *text)
{
  guint64 bytes = 0;
  if (banger_size_parse (text, &bytes, NULL)) {
    g_assert_true (bytes > 0 && bytes <= G_MAXINT64);
    g_autofree char *shown = banger_size_format (bytes);
    g_assert_true (g_str_is_ascii (shown) && strlen (shown) < 32);
  }
}

static void
parse_name (const char *text)
{
  if (banger_name_check (text, "name", NULL))
    g_assert_true (strlen (text) <= 63 && !strpbrk (text, "/. \n"));
}

static void
parse_id (const char *text)
{
  if (banger_id_check (text, "id", NULL))
    g_assert_true (strlen (text) >= 8 && strlen (text) <= 32 && strspn (text, "0123456789abcdef") == strlen (text));
}

static void
parse_address (const char *text)
{
  struct in_addr address;
  guint prefix = 0;
  if (banger_ipv4_parse (text, &address, NULL))
    g_assert_true (strspn (text, "0123456789.") == strlen (text));
  if (banger_gate_bridge_address (text, &address, &prefix, NULL))
    g_assert_true (prefix >= 8 && prefix <= 32 && strlen (text) <= strlen ("255.255.255.255/32"));
  (void)banger_gate_guest_address (text, "10.213.0.1/24", NULL);
}

static void
parse_bridge (const char *text)
{
  if (banger_bridge_name_check (text, NULL))
    g_assert_true (strlen (text) <= 15 && g_str_has_prefix (text, "br-fc") && !strpbrk (text, "/: \t\n"));
}

static void
parse_number (const char *text)
{
  guint64 value = 0;
  if (!banger_uint_parse (text, 5, 1000, &value, NULL))
    return;
  g_autofree char *again = g_strdup_printf ("%" G_GUINT64_FORMAT, value);
  g_assert_cmpstr (again, ==, text);
  g_assert_true (value >= 5 && value <= 1000);
}

static void
parse_signal (const char *text)
{
  int number = 0;
  if (banger_gate_signal (text, &number, NULL))
    g_assert_true (number > 0 && number != SIGSTOP && number != SIGCONT && number < SIGRTMIN && strlen (text) <= 7);
}

static void
parse_device (const char *text)
{
  if (banger_gate_loop_path (text, NULL))
    g_assert_true (strspn (text + strlen ("/dev/loop"), "0123456789") == strlen (text) - strlen ("/dev/loop"));
  if (banger_gate_dm_name (text, "0123456789ab", NULL))
    g_assert_cmpstr (text, ==, "fc-rootfs-0123456789ab");
  if (banger_gate_tap_name (text, "0123456789ab", NULL))
    g_assert_cmpstr (text, ==, "tap-fc-01234567");
}

static void
parse_resolver (const char *text)
{
  BangerResolverAddress address = { 0, 0 };
  if (banger_gate_resolver (text, NULL, &address, NULL))
    g_assert_true (address.address >> 24 != 0 && address.port > 0 && strlen (text) <= strlen ("255.255.255.255:65535"));
}

static void
parse_disk_path (const char *text)
{
  if (banger_gate_disk_path (text, NULL))
    g_assert_true (text[0] == '/' && !strstr (text, "/../") && !strstr (text, "//") && !strpbrk (text, "\n\x1b"));
}

static void
parse_op_id (const char *text)
{
  if (banger_op_id_valid (text))
    g_assert_true (strlen (text) <= 35 && g_str_has_prefix (text, "op-"));
}

static void
escape (const char *text)
{
  for (size_t max = 0; max < 40; max++) {
    g_autofree char *shown = banger_log_escape (text, max);
    g_assert_true (strlen (shown) <= max && g_utf8_validate (shown, -1, NULL));
    for (const char *c = shown; *c; c = g_utf8_next_char (c))
      g_assert_true (g_unichar_isprint (g_utf8_get_char (c)));
  }
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static void (*const parsers[]) (const char *) = { parse_size,     parse_name,      parse_id,     parse_address,
                                                    parse_bridge,   parse_number,    parse_signal, parse_device,
                                                    parse_resolver, parse_disk_path, parse_op_id,  escape };
  g_autofree char *text = g_strndup ((const char *)data, size);
  for (size_t i = 0; i < G_N_ELEMENTS (parsers); i++)
    parsers[i](text);
  return 0;
}

/* The reader of /banger/config.
 * Never touches the system. */
#include "guest/settings.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int
is_made_of (const char *value, const char *allowed)
{
  return value[0] != '\0' && value[strspn (value, allowed)] == '\0';
}

static int
copy_checked (char *target, size_t size, const char *value, const char *allowed)
{
  if (strlen (value) >= size || !is_made_of (value, allowed))
    return -1;
  strcpy (target, value);
  return 0;
}

static int
read_number (const char *value, unsigned min, unsigned max, unsigned *ret)
{
  if (!is_made_of (value, "0123456789") || strlen (value) > 6)
    return -1;
  unsigned number = (unsigned)strtoul (value, NULL, 10);
  if (number < min || number > max)
    return -1;
  *ret = number;
  return 0;
}

static int
read_hostname (GuestSettings *settings, char *value)
{
  if (value[0] == '-')
    return -1;
  return copy_checked (settings->hostname, sizeof settings->hostname, value, "abcdefghijklmnopqrstuvwxyz0123456789-");
}

static int
read_address (GuestSettings *settings, char *value)
{
  char *slash = strchr (value, '/');
  if (!slash)
    return -1;
  *slash = '\0';
  if (read_number (slash + 1, 8, 32, &settings->prefix) < 0)
    return -1;
  return inet_pton (AF_INET, value, &settings->address) == 1 ? 0 : -1;
}

static int
read_gateway (GuestSettings *settings, char *value)
{
  return inet_pton (AF_INET, value, &settings->gateway) == 1 ? 0 : -1;
}

static int
read_dns (GuestSettings *settings, char *value)
{
  struct in6_addr any;
  char *rest = NULL;
  for (char *word = strtok_r (value, " ", &rest); word; word = strtok_r (NULL, " ", &rest)) {
    if (settings->n_dns == GUEST_MAX_DNS || strlen (word) >= INET6_ADDRSTRLEN
        || (inet_pton (AF_INET, word, &any) != 1 && inet_pton (AF_INET6, word, &any) != 1))
      return -1;
    strcpy (settings->dns[settings->n_dns++], word);
  }
  return 0;
}

static int
read_mac (GuestSettings *settings, char *value)
{
  if (copy_checked (settings->mac, sizeof settings->mac, value, "0123456789abcdef:") < 0 || strlen (value) != 17)
    return -1;
  for (int i = 0; i < 17; i++)
    if ((value[i] == ':') != (i % 3 == 2))
      return -1;
  return 0;
}

static int
read_mtu (GuestSettings *settings, char *value)
{
  return read_number (value, 576, 65535, &settings->mtu);
}

static int
read_device (char *target, size_t size, const char *value)
{
  static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789";
  if (strncmp (value, "/dev/", 5) != 0 || !is_made_of (value + 5, allowed) || strlen (value) >= size)
    return -1;
  strcpy (target, value);
  return 0;
}

static int
read_root (GuestSettings *settings, char *value)
{
  return read_device (settings->root, sizeof settings->root, value);
}

static int
read_work (GuestSettings *settings, char *value)
{
  return read_device (settings->work, sizeof settings->work, value);
}

static int
read_machine_id (GuestSettings *settings, char *value)
{
  if (strlen (value) != 32)
    return -1;
  return copy_checked (settings->machine_id, sizeof settings->machine_id, value, "0123456789abcdef");
}

static int
read_boot_token (GuestSettings *settings, char *value)
{
  return copy_checked (settings->boot_token, sizeof settings->boot_token, value,
                       "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");
}

static int
read_init (GuestSettings *settings, char *value)
{
  if (value[0] != '/' || strlen (value) >= sizeof settings->init)
    return -1;
  strcpy (settings->init, value);
  return 0;
}

/* "ADDRESS=NAME", of @length. */
static int
is_name (const char *entry, size_t length)
{
  char text[INET_ADDRSTRLEN + 64], name[64];
  struct in_addr any;
  if (length >= sizeof text)
    return 0;
  memcpy (text, entry, length);
  text[length] = '\0';
  char *equals = strchr (text, '=');
  if (!equals || equals[1] == '-')
    return 0;
  *equals = '\0';
  return inet_pton (AF_INET, text, &any) == 1
         && copy_checked (name, sizeof name, equals + 1, "abcdefghijklmnopqrstuvwxyz0123456789-") == 0;
}

int
guest_names_ok (const char *names)
{
  unsigned n = 0;
  if (strcmp (names, BANGER_GUEST_NOBODY) == 0)
    return 1;
  for (;;) {
    size_t length = strcspn (names, ",");
    if (++n > BANGER_GUEST_MAX_NAMES || !is_name (names, length))
      return 0;
    if (names[length] == '\0')
      return 1;
    names += length + 1;
  }
}

static int
read_names (GuestSettings *settings, char *value)
{
  if (strlen (value) >= sizeof settings->names || !guest_names_ok (value))
    return -1;
  strcpy (settings->names, value);
  return 0;
}

static const struct {
  const char *key;
  int (*read) (GuestSettings *settings, char *value);
} known_keys[] = {
  { "hostname", read_hostname },
  { "address", read_address },
  { "gateway", read_gateway },
  { "dns", read_dns },
  { "mac", read_mac },
  { "mtu", read_mtu },
  { "root", read_root },
  { "work", read_work },
  { "machine-id", read_machine_id },
  { "boot-token", read_boot_token },
  { "init", read_init },
  { "names", read_names },
};

static int
read_line (GuestSettings *settings, char *line, char *problem, size_t problem_size)
{
  if (line[0] == '\0' || line[0] == '#')
    return 0;
  char *equals = strchr (line, '=');
  if (!equals) {
    snprintf (problem, problem_size, "line '%.60s' is not key=value", line);
    return -1;
  }
  *equals = '\0';
  for (size_t i = 0; i < sizeof known_keys / sizeof known_keys[0]; i++) {
    if (strcmp (line, known_keys[i].key) != 0)
      continue;
    char shown[61];
    snprintf (shown, sizeof shown, "%s", equals + 1);
    if (known_keys[i].read (settings, equals + 1) == 0)
      return 0;
    snprintf (problem, problem_size, "bad %s '%s'", line, shown);
    return -1;
  }
  return 0;
}

static int
check_whole (const GuestSettings *settings, char *problem, size_t problem_size)
{
  const char *missing = settings->root[0] == '\0'                                   ? "root"
                        : settings->hostname[0] == '\0'                             ? "hostname"
                        : settings->address.s_addr != 0 && settings->mac[0] == '\0' ? "mac"
                                                                                    : NULL;
  if (!missing)
    return 0;
  snprintf (problem, problem_size, "no %s", missing);
  return -1;
}

int
guest_settings_parse (char *text, GuestSettings *ret_settings, char *problem, size_t problem_size)
{
  GuestSettings settings = { 0 };
  char *rest = NULL;
  for (char *line = strtok_r (text, "\n", &rest); line; line = strtok_r (NULL, "\n", &rest))
    if (read_line (&settings, line, problem, problem_size) < 0)
      return -1;
  if (check_whole (&settings, problem, problem_size) < 0)
    return -1;
  *ret_settings = settings;
  return 0;
}

/* Texts of text.h.
 * Never drops a line that banger did not write. */
#include "guest/text.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/guest-protocol.h"

typedef struct {
  FILE *stream;
  char *text;
  size_t size;
} Builder;

static int
open_builder (Builder *builder)
{
  builder->stream = open_memstream (&builder->text, &builder->size);
  return !builder->stream ? -1 : 0;
}

static char *
close_builder (Builder *builder)
{
  if (fclose (builder->stream) == 0)
    return builder->text;
  free (builder->text);
  return NULL;
}

static int
is_line (const char *line, size_t length, const char *wanted)
{
  return length == strlen (wanted) && memcmp (line, wanted, length) == 0;
}

static int
ends_with (const char *line, size_t length, const char *end)
{
  return length >= strlen (end) && memcmp (line + length - strlen (end), end, strlen (end)) == 0;
}

static void
put_lines (FILE *stream, const char *text)
{
  size_t length = strlen (text);
  fwrite (text, 1, length, stream);
  if (length > 0 && text[length - 1] != '\n')
    fputc ('\n', stream);
}

char *
guest_text_authorized_keys (const char *old, const char *keys)
{
  Builder builder;
  if (open_builder (&builder) < 0)
    return NULL;
  int ours = 0;
  for (const char *line = old ? old : ""; *line != '\0';) {
    size_t length = strcspn (line, "\n");
    if (is_line (line, length, BANGER_GUEST_KEYS_BEGIN) && strstr (line, "\n" BANGER_GUEST_KEYS_END "\n"))
      ours = 1;
    if (!ours)
      fprintf (builder.stream, "%.*s\n", (int)length, line);
    if (is_line (line, length, BANGER_GUEST_KEYS_END))
      ours = 0;
    line += length + (line[length] == '\n');
  }
  fputs (BANGER_GUEST_KEYS_BEGIN "\n", builder.stream);
  put_lines (builder.stream, keys);
  fputs (BANGER_GUEST_KEYS_END "\n", builder.stream);
  return close_builder (&builder);
}

char *
guest_text_passwd (const char *old)
{
  static const char name[] = BANGER_GUEST_LOGIN ":";
  Builder builder;
  if (open_builder (&builder) < 0)
    return NULL;
  for (const char *line = old; *line != '\0';) {
    size_t length = strcspn (line, "\n");
    if (strncmp (line, name, strlen (name)) != 0)
      fprintf (builder.stream, "%.*s\n", (int)length, line);
    line += length + (line[length] == '\n');
  }
  fprintf (builder.stream, "%s*:0:0:commands of banger:/root:" BANGER_GUEST_SHELL "\n", name);
  return close_builder (&builder);
}

/* Every line of ours ends in @mark. @hostname: nullable. */
static char *
mark_hosts (const char *old, const char *mark, const char *hostname, const char *names)
{
  Builder builder;
  if (open_builder (&builder) < 0)
    return NULL;
  const char *line = old && old[0] ? old : "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
  while (*line != '\0') {
    size_t length = strcspn (line, "\n");
    if (!ends_with (line, length, mark))
      fprintf (builder.stream, "%.*s\n", (int)length, line);
    line += length + (line[length] == '\n');
  }
  if (hostname)
    fprintf (builder.stream, "127.0.1.1\t%s " BANGER_GUEST_HOSTS_MARK "\n", hostname);
  while (strcmp (names, BANGER_GUEST_NOBODY) != 0 && *names != '\0') {
    size_t address = strcspn (names, "="), end = strcspn (names, ",");
    fprintf (builder.stream, "%.*s\t%.*s" BANGER_GUEST_NAMES_MARK "\n", (int)address, names, (int)(end - address - 1),
             names + address + 1);
    names += end + (names[end] == ',');
  }
  return close_builder (&builder);
}

char *
guest_text_hosts (const char *old, const char *hostname, const char *names)
{
  return mark_hosts (old, BANGER_GUEST_HOSTS_MARK, hostname, names);
}

char *
guest_text_names (const char *old, const char *names)
{
  return mark_hosts (old, BANGER_GUEST_NAMES_MARK, NULL, names);
}

char *
guest_text_resolv_conf (const GuestSettings *settings)
{
  Builder builder;
  if (open_builder (&builder) < 0)
    return NULL;
  fputs (BANGER_GUEST_RESOLV_MARK "\n", builder.stream);
  for (unsigned i = 0; i < settings->n_dns; i++)
    fprintf (builder.stream, "nameserver %s\n", settings->dns[i]);
  return close_builder (&builder);
}

char *
guest_text_networkd (const GuestSettings *settings)
{
  char address[INET_ADDRSTRLEN], gateway[INET_ADDRSTRLEN];
  Builder builder;
  if (open_builder (&builder) < 0)
    return NULL;
  inet_ntop (AF_INET, &settings->address, address, sizeof address);
  inet_ntop (AF_INET, &settings->gateway, gateway, sizeof gateway);
  fprintf (builder.stream,
           "# The address that banger gave this VM; it is set already when systemd-networkd starts.\n"
           "[Match]\nMACAddress=%s\n\n[Network]\nKeepConfiguration=static\nDHCP=no\nLinkLocalAddressing=no\n"
           "IPv6AcceptRA=no\nAddress=%s/%u\n",
           settings->mac, address, settings->prefix);
  for (unsigned i = 0; i < settings->n_dns; i++)
    fprintf (builder.stream, "DNS=%s\n", settings->dns[i]);
  if (settings->gateway.s_addr != 0)
    fprintf (builder.stream, "\n[Route]\nGateway=%s\nGatewayOnLink=yes\n", gateway);
  return close_builder (&builder);
}

char *
guest_text_networkd_link (const GuestSettings *settings)
{
  char *text = NULL;
  int r = asprintf (&text, "[Match]\nMACAddress=%s\n\n[Link]\nMACAddressPolicy=none\n", settings->mac);
  return r < 0 ? NULL : text;
}

char *
guest_text_network_manager (const GuestSettings *settings)
{
  char *text = NULL;
  return asprintf (&text, "[keyfile]\nunmanaged-devices+=mac:%s\n", settings->mac) < 0 ? NULL : text;
}

char *
guest_text_ifstate (const char *interface)
{
  char *text = NULL;
  return asprintf (&text, "%s=%s\n", interface, interface) < 0 ? NULL : text;
}

/* What a guest says of its listeners: lines of known words.
 * Never hands on a byte that was not looked at. */
#include "manager/vm/ports.h"

#include <arpa/inet.h>
#include <string.h>

#include "common/error.h"
#include "common/exec-words.h"
#include "common/log.h"
#include "common/validate.h"

#define MAX_LINE 512
#define MAX_LINES 1024
#define MAX_NAME 64

static void
port_free (gpointer data)
{
  BangerPort *port = data;
  g_free (port->address);
  g_free (port->process);
  g_free (port);
}

static char *
read_address (const char *word)
{
  guint8 bytes[16];
  char text[INET6_ADDRSTRLEN];
  const int family = strchr (word, ':') ? AF_INET6 : AF_INET;
  if (inet_pton (family, word, bytes) != 1)
    return NULL;
  return g_strdup (inet_ntop (family, bytes, text, sizeof text));
}

/* Returns: (transfer full): %NULL if @line is none. */
static BangerPort *
read_line (const char *line)
{
  static const char *const protocols[] = { "tcp", "udp" };
  g_auto (GStrv) words = g_strsplit (line, " ", 6);
  guint64 number, pid;
  if (g_strv_length (words) != 5 || !banger_uint_parse (words[2], 1, G_MAXUINT16, &number, NULL)
      || !banger_uint_parse (words[3], 0, G_MAXINT32, &pid, NULL) || banger_exec_word_decode (words[4]) < 0)
    return NULL;
  const char *protocol = NULL;
  for (guint i = 0; i < G_N_ELEMENTS (protocols); i++)
    if (g_str_equal (words[0], protocols[i]))
      protocol = protocols[i];
  g_autofree char *address = read_address (words[1]);
  if (!protocol || !address)
    return NULL;
  BangerPort *port = g_new0 (BangerPort, 1);
  *port = (BangerPort){ protocol, g_steal_pointer (&address), (guint16)number, (guint32)pid,
                        banger_log_escape (words[4], MAX_NAME) };
  return port;
}

static int
compare (gconstpointer a, gconstpointer b)
{
  const BangerPort *x = *(const BangerPort *const *)a, *y = *(const BangerPort *const *)b;
  int order = (int)x->port - (int)y->port;
  if (order == 0)
    order = strcmp (x->protocol, y->protocol);
  return order != 0 ? order : strcmp (x->address, y->address);
}

/* Several may share one, by SO_REUSEPORT: the first of them is told. */
static void
sort_and_merge (GPtrArray *ports)
{
  g_ptr_array_sort (ports, compare);
  for (guint i = ports->len; i > 1; i--)
    if (compare (&ports->pdata[i - 1], &ports->pdata[i - 2]) == 0)
      g_ptr_array_remove_index (ports, i - 1);
}

GPtrArray *
banger_ports_parse (const char *text, gsize length, GError **error)
{
  g_autoptr (GPtrArray) ports = g_ptr_array_new_with_free_func (port_free);
  for (const char *at = text, *end; length > 0; at = end + 1) {
    end = memchr (at, '\n', MIN (length, MAX_LINE));
    gsize n = end ? (gsize)(end - at) : 0;
    g_autofree char *line = end && !memchr (at, '\0', n) ? g_strndup (at, n) : NULL;
    BangerPort *port = line ? read_line (line) : NULL;
    if (!port || ports->len == MAX_LINES) {
      g_clear_pointer (&port, port_free);
      if (ports->len == MAX_LINES)
        banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED, "the guest has more than %d listeners", MAX_LINES);
      else
        banger_set_error (error, BANGER_ERROR_GUEST_FAILED, "what the guest says of its ports cannot be understood");
      return NULL;
    }
    g_ptr_array_add (ports, port);
    length -= n + 1;
  }
  sort_and_merge (ports);
  return g_steal_pointer (&ports);
}

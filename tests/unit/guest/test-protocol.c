/* Lines that the agent gets from the host.
 * Run by meson test.
 * Never needs a guest. */
#include <glib.h>
#include <linux/vm_sockets.h>
#include <string.h>

#include "guest/protocol.h"

static void
test_table (void)
{
  char longest[GUEST_MAX_TOKEN + 1], too_long[GUEST_MAX_TOKEN + 2];
  memset (longest, 'x', sizeof longest);
  longest[sizeof longest - 1] = '\0';
  memset (too_long, 'x', sizeof too_long);
  too_long[sizeof too_long - 1] = '\0';
  g_autofree char *at_limit = g_strdup_printf ("sync %s", longest);
  g_autofree char *over_limit = g_strdup_printf ("sync %s", too_long);

  const struct {
    const char *line;
    GuestVerb verb;
    const char *token;
  } rows[] = {
    { "", GUEST_VERB_NONE, "-" },
    { "hello abc", GUEST_VERB_HELLO, "abc" },
    { "ping 1", GUEST_VERB_PING, "1" },
    { "sync a-b_c", GUEST_VERB_SYNC, "a-b_c" },
    { "shutdown x", GUEST_VERB_SHUTDOWN, "x" },
    { "poweroff x later words", GUEST_VERB_POWEROFF, "x" },
    { at_limit, GUEST_VERB_SYNC, longest },
    { over_limit, GUEST_VERB_UNKNOWN, "-" },
    { "names x 10.213.0.5=db", GUEST_VERB_NAMES, "x" },
    { "hello", GUEST_VERB_UNKNOWN, "-" },
    { "hello ", GUEST_VERB_UNKNOWN, "-" },
    { "hello  a", GUEST_VERB_UNKNOWN, "-" },
    { " hello a", GUEST_VERB_UNKNOWN, "hello" },
    { "HELLO a", GUEST_VERB_UNKNOWN, "a" },
    { "hellox a", GUEST_VERB_UNKNOWN, "a" },
    { "hell a", GUEST_VERB_UNKNOWN, "a" },
    { "hello a\rb", GUEST_VERB_UNKNOWN, "-" },
    { "hello \xff", GUEST_VERB_UNKNOWN, "-" },
    { "hello\ta", GUEST_VERB_UNKNOWN, "-" },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    GuestRequest request;
    guest_request_parse (rows[i].line, &request);
    if (request.verb != rows[i].verb || strcmp (request.token, rows[i].token) != 0)
      g_error ("'%s' gave verb %u, token '%s'", rows[i].line, request.verb, request.token);
  }
}

/* The host, and nobody in the guest: by VMADDR_CID_LOCAL, by the guest's own number, by another's. */
static void
test_host (void)
{
  static const struct {
    sa_family_t family;
    guint32 cid;
    int host;
  } rows[] = { { AF_VSOCK, VMADDR_CID_HOST, 1 },       { AF_VSOCK, VMADDR_CID_LOCAL, 0 },
               { AF_VSOCK, VMADDR_CID_HYPERVISOR, 0 }, { AF_VSOCK, 3, 0 },
               { AF_VSOCK, VMADDR_CID_ANY, 0 },        { AF_UNIX, 0, 1 } };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    const struct sockaddr_vm address = { .svm_family = rows[i].family, .svm_cid = rows[i].cid };
    struct sockaddr_storage from = { 0 };
    memcpy (&from, &address, sizeof address);
    g_assert_cmpint (guest_is_host (&from), ==, rows[i].host);
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/guest/protocol/table", test_table);
  g_test_add_func ("/guest/protocol/host", test_host);
  return g_test_run ();
}

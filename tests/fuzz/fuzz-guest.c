/* What the host says to the agent: its lines, a session's request and orders; and the guest's own files of users.
 * Run as replay.c says.
 * Never touches the system. */
#include <glib.h>
#include <string.h>

#include "fuzz.h"
#include "guest/account.h"
#include "guest/identity-request.h"
#include "guest/protocol.h"
#include "guest/request.h"
#include "guest/settings.h"
#include "guest/text.h"

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  GuestRun run;
  GuestRequest request;
  GuestAccount account;
  const char *problem = NULL;
  g_autofree char *text = g_memdup2 (data, MAX (size, 1)), *line = g_strndup ((const char *)data, size);
  if (guest_run_parse (text, size, &run, &problem) == 0) {
    g_assert_true (run.arguments[0] && run.arguments[0][0] != '\0');
    for (char **pair = run.environment; *pair; pair++)
      g_assert_true (strchr (*pair, '=') > *pair);
    guest_run_clear (&run);
  } else {
    g_assert_nonnull (problem);
  }
  GuestIdentity identity;
  char why[160];
  if (guest_identity_parse ((const char *)data, size, &identity, why, sizeof why) == 0) {
    g_assert_true (identity.entropy >= (const char *)data
                   && identity.entropy + identity.entropy_length <= (const char *)data + size);
    g_assert_true (!identity.is_new || (identity.keys.host_key && identity.settings.address.s_addr != 0));
    guest_identity_clear (&identity);
  }
  guest_request_parse (line, &request);
  g_assert_true (request.rest >= line && request.rest <= line + strlen (line));
  if (guest_names_ok (request.rest)) {
    g_autofree char *hosts = guest_text_names (line, request.rest), *again = guest_text_names (hosts, request.rest);
    g_assert_cmpstr (hosts, ==, again);
  }
  GuestOrder order = guest_order_parse (line);
  g_assert_true (order.kind != GUEST_ORDER_SIGNAL || (order.number >= 1 && order.number <= 64));
  g_assert_true (order.rows <= GUEST_MAX_WINDOW && order.columns <= GUEST_MAX_WINDOW);
  static const char *const who[] = { "root", "ann:staff", "1000" };
  for (gsize i = 0; i < G_N_ELEMENTS (who); i++)
    if (guest_account_find (line, line, who[i], &account) == 0)
      g_assert_true (account.n_groups >= 1 && account.n_groups <= GUEST_MAX_GROUPS);
  return 0;
}

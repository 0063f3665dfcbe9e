/* polkit: the second check of every method (requirement A4). The default answer is no.
 * Called by dispatch.c.
 * Never blocks, never caches, never names a subject by its pid. */
#include "privileged/authority.h"

#include <errno.h>

#include "common/bus-source.h"
#include "common/log.h"

#define POLKIT_NAME "org.freedesktop.PolicyKit1"
#define POLKIT_PATH "/org/freedesktop/PolicyKit1/Authority"
#define POLKIT_INTERFACE "org.freedesktop.PolicyKit1.Authority"
#define ALLOW_INTERACTION 1u
#define ANSWER_USEC 0 /* sd-bus's own limit, 25 s */
#define MAX_DETAIL 64
#define PROMPT_USEC (120 * G_USEC_PER_SEC) /* a person types a password */

static gboolean
read_answer (sd_bus_message *reply, GError **error)
{
  int authorised = 0, challenge = 0;
  int r = sd_bus_message_enter_container (reply, 'r', "bba{ss}");
  if (r > 0)
    r = sd_bus_message_read (reply, "bb", &authorised, &challenge);
  if (r <= 0)
    return banger_set_error (error, BANGER_ERROR_NOT_AUTHORIZED, "polkit's answer cannot be read");
  if (authorised)
    return TRUE;
  if (challenge)
    return banger_set_error (error, BANGER_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
                             "polkit wants someone to authenticate for this");
  return banger_set_error (error, BANGER_ERROR_NOT_AUTHORIZED, "polkit does not allow this; see docs/privileges.md");
}

static void
withdraw (BangerCall *call)
{
  if (!call->ticket)
    return;
  (void)sd_bus_call_method_async (banger_call_bus (call), NULL, POLKIT_NAME, POLKIT_PATH, POLKIT_INTERFACE,
                                  "CancelCheckAuthorization", NULL, NULL, "s", call->ticket);
  g_clear_pointer (&call->ticket, g_free);
}

static int
on_answer (sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
  BangerCall *call = userdata;
  g_autoptr (GError) why = NULL;
  BangerAuthorityAnswer answer = call->answer;
  const sd_bus_error *failed = sd_bus_message_get_error (reply);
  call->polkit = sd_bus_slot_unref (call->polkit);
  if (failed) {
    g_autofree char *shown = banger_log_escape (failed->message ? failed->message : failed->name, 200);
    banger_set_error (&why, BANGER_ERROR_NOT_AUTHORIZED, "polkit does not answer, so this is not allowed: %s", shown);
    withdraw (call);
  } else if (!read_answer (reply, &why))
    g_assert (why);
  g_clear_pointer (&call->ticket, g_free);
  answer (call, why);
  return 0;
}

static int
append_details (sd_bus_message *m, const BangerCall *call)
{
  g_autofree char *owner = g_strdup_printf ("%u", call->owner);
  const struct {
    const char *key, *value;
  } details[] = {
    { "verb", call->method->name },
    { "vm", banger_call_vm (call) },
    { "bridge", call->strings[BANGER_ARG_BRIDGE] },
    { "owner", owner },
  };
  int r = sd_bus_message_open_container (m, 'a', "{ss}");
  for (size_t i = 0; r >= 0 && i < G_N_ELEMENTS (details); i++) {
    g_autofree char *shown = banger_log_escape (details[i].value ? details[i].value : "-", MAX_DETAIL);
    r = sd_bus_message_append (m, "{ss}", details[i].key, shown);
  }
  return r < 0 ? r : sd_bus_message_close_container (m);
}

gboolean
banger_authority_check (BangerCall *call, BangerAuthorityAnswer answer, GError **error)
{
  static guint64 counter;
  g_autoptr (sd_bus_message) m = NULL;
  gboolean interactive = sd_bus_message_get_allow_interactive_authorization (call->message) > 0;
  sd_bus *bus = banger_call_bus (call);
  call->ticket = g_strdup_printf ("banger-%" G_GUINT64_FORMAT, ++counter);
  int r = sd_bus_message_new_method_call (bus, &m, POLKIT_NAME, POLKIT_PATH, POLKIT_INTERFACE, "CheckAuthorization");
  if (r >= 0)
    r = sd_bus_message_append (m, "(sa{sv})s", "system-bus-name", 1, "name", "s", call->sender, call->method->action);
  if (r >= 0)
    r = append_details (m, call);
  if (r >= 0)
    r = sd_bus_message_append (m, "us", interactive ? ALLOW_INTERACTION : 0u, call->ticket);
  call->answer = answer;
  if (r >= 0)
    r = sd_bus_call_async (bus, &call->polkit, m, on_answer, call, interactive ? PROMPT_USEC : ANSWER_USEC);
  return r >= 0 || banger_set_error_errno (error, BANGER_ERROR_NOT_AUTHORIZED, -r, "polkit cannot be asked");
}

void
banger_authority_cancel (BangerCall *call)
{
  call->polkit = sd_bus_slot_unref (call->polkit);
  withdraw (call);
}

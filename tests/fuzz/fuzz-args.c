/* Arguments and options of every method, read from messages that the input describes.
 * Run as replay.c says.
 * Never runs a handler, never speaks to a bus. */
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/bus-source.h"
#include "common/op-id.h"
#include "fuzz.h"
#include "privileged/call.h"

#define MAX_DEPTH 4

typedef struct {
  const uint8_t *data;
  size_t size;
} Input;

static uint8_t
take (Input *input)
{
  if (input->size == 0)
    return 0;
  input->size--;
  return *input->data++;
}

/* A string as long as its first byte says; sd-bus itself refuses what is not UTF-8. */
static char *
take_text (Input *input)
{
  size_t length = take (input);
  length = MIN (length, input->size);
  g_autofree char *text = g_strndup ((const char *)input->data, length);
  input->data += length;
  input->size -= length;
  return g_utf8_make_valid (text, -1);
}

static int append_value (sd_bus_message *m, Input *input, int depth);

static int
append_basic (sd_bus_message *m, Input *input, char type)
{
  guint64 bits = 0;
  g_autofree char *text = take_text (input);
  for (int i = 0; i < 8; i++)
    bits = bits << 8 | take (input);
  if (type == 'b')
    return sd_bus_message_append (m, "b", (int)(bits & 1));
  if (type == 's')
    return sd_bus_message_append_basic (m, 's', text);
  return sd_bus_message_append_basic (m, type, &bits); /* little endian: the low bytes */
}

static int
append_container (sd_bus_message *m, Input *input, char type, const char *contents, int depth)
{
  int r = sd_bus_message_open_container (m, type, contents);
  if (r >= 0 && type == 'v' && contents[0] == 'v')
    r = append_value (m, input, depth + 1);
  else if (r >= 0)
    r = append_basic (m, input, contents[0]);
  return r < 0 ? r : sd_bus_message_close_container (m);
}

static int
append_value (sd_bus_message *m, Input *input, int depth)
{
  static const char basic[] = "sbyqiuxtnd";
  uint8_t kind = take (input);
  char type[2] = { basic[kind % (sizeof basic - 1)], '\0' };
  if (kind >= 240 && depth < MAX_DEPTH)
    return append_container (m, input, 'v', "v", depth);
  if (kind >= 200) {
    int r = sd_bus_message_open_container (m, 'v', type[0] == 's' ? "as" : "ay");
    if (r >= 0)
      r = append_container (m, input, 'a', type[0] == 's' ? "s" : "y", depth);
    return r < 0 ? r : sd_bus_message_close_container (m);
  }
  return append_container (m, input, 'v', type, depth);
}

static int
append_options (sd_bus_message *m, Input *input)
{
  int r = sd_bus_message_open_container (m, 'a', "{sv}");
  for (unsigned n = take (input) % 80; r >= 0 && n > 0 && input->size > 0; n--) {
    g_autofree char *key = (take (input) & 1) ? g_strdup ("op-id") : take_text (input);
    r = sd_bus_message_open_container (m, 'e', "sv");
    if (r >= 0)
      r = sd_bus_message_append_basic (m, 's', key);
    if (r >= 0)
      r = append_value (m, input, 0);
    if (r >= 0)
      r = sd_bus_message_close_container (m);
  }
  return r < 0 ? r : sd_bus_message_close_container (m);
}

/* @type: "s" or "q", of each. */
static int
append_array (sd_bus_message *m, Input *input, const char *type)
{
  int r = sd_bus_message_open_container (m, 'a', type);
  for (unsigned n = take (input); r >= 0 && n > 0 && input->size > 0; n--)
    r = append_basic (m, input, type[0]);
  return r < 0 ? r : sd_bus_message_close_container (m);
}

static int
append_files (sd_bus_message *m, Input *input)
{
  int r = sd_bus_message_open_container (m, 'a', "(suay)");
  for (unsigned n = take (input); r >= 0 && n > 0 && input->size > 0; n--) {
    g_autofree char *path = take_text (input), *content = take_text (input);
    r = sd_bus_message_open_container (m, 'r', "suay");
    if (r >= 0)
      r = sd_bus_message_append (m, "su", path, (guint32)(take (input) << 8 | take (input)));
    if (r >= 0)
      r = sd_bus_message_append_array (m, 'y', content, strlen (content));
    if (r >= 0)
      r = sd_bus_message_close_container (m);
  }
  return r < 0 ? r : sd_bus_message_close_container (m);
}

/* As the row says, or, if the input wants it, something else. */
static int
append_arguments (sd_bus_message *m, const BangerMethod *method, Input *input)
{
  gboolean other = take (input) == 0xff;
  int r = 0;
  for (int i = 0; r >= 0 && i < BANGER_MAX_ARGS && method->args[i] != BANGER_ARG_NONE; i++) {
    const char *type = banger_arg_type (method->args[i]);
    if (g_str_equal (type, "as") || g_str_equal (type, "aq"))
      r = append_array (m, input, type + 1);
    else if (g_str_equal (type, "a(suay)"))
      r = append_files (m, input);
    else {
      g_assert_true (type[1] == '\0'); /* a new kind of argument: what is above needs a line for it */
      r = append_basic (m, input, other ? 'u' : type[0]);
    }
  }
  return r < 0 ? r : append_options (m, input);
}

/* The first text of the input; the last method if there is none of that name. */
static const BangerMethod *
choose (Input *input)
{
  g_autofree char *name = take_text (input);
  const BangerMethod *method = banger_methods;
  while (method[1].name && !g_str_equal (method->name, name))
    method++;
  return method;
}

static sd_bus *
bus (void)
{
  static sd_bus *one;
  int pair[2];
  if (one)
    return one;
  g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
  g_assert_true (sd_bus_new (&one) >= 0 && sd_bus_set_fd (one, pair[0], pair[0]) >= 0 && sd_bus_start (one) >= 0);
  return one; /* pair[1] stays open as long as the program runs */
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  Input input = { data, size };
  g_autoptr (sd_bus_message) m = NULL;
  g_autoptr (GError) error = NULL;
  const BangerMethod *method = choose (&input);
  g_assert_true (sd_bus_message_new_method_call (bus (), &m, "a.b", "/", "a.b", "C") >= 0);
  if (append_arguments (m, method, &input) < 0 || sd_bus_message_seal (m, 1, 0) < 0)
    return 0;
  g_autofree char *op_id = banger_call_read_op_id (m);
  g_assert_true (banger_op_id_valid (op_id));
  static const BangerInstall install = { .max_memory_mib = 4096, .bridge_address = (char *)"10.213.0.1/24" };
  static const BangerRoot root = { .install = &install };
  BangerCall call = { .root = &root, .method = method, .message = m };
  (void)banger_call_read_args (&call, NULL);
  gboolean ok = banger_call_read_args (&call, &error); /* as after polkit's answer */
  g_clear_pointer (&call.files, g_ptr_array_unref);
  g_clear_pointer (&call.keep, g_ptr_array_unref);
  g_clear_pointer (&call.ports, g_array_unref);
  g_clear_pointer (&call.from, g_free);
  g_clear_pointer (&call.template_id, g_free);
  g_clear_pointer (&call.image, g_free);
  g_assert_true (ok == (error == NULL));
  if (error)
    g_assert_true (g_utf8_validate (error->message, -1, NULL) && strlen (error->message) < 1000);
  if (ok && banger_call_vm (&call))
    g_assert_true (strspn (banger_call_vm (&call), "0123456789abcdef") == strlen (banger_call_vm (&call)));
  return 0;
}

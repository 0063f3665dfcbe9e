/* The gate and the rows behind it: objects of two kinds, served to ourselves over a pair of sockets.
 * Never touches a bus: what a bus knows of a caller is said by the test. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/names.h"
#include "manager/bus/gate.h"
#include "manager/bus/request.h"

typedef struct {
  char *name;
  int state;
  guint64 bytes;
  char *secret;
} Thing;

static const char *const words[] = { "raw", "done", NULL };
static const BangerRecordField fields[] = {
  { "name", BANGER_RECORD_STRING, G_STRUCT_OFFSET (Thing, name), NULL, TRUE, "Name", FALSE },
  { "state", BANGER_RECORD_WORD, G_STRUCT_OFFSET (Thing, state), words, TRUE, "State", TRUE },
  { "bytes", BANGER_RECORD_UINT64, G_STRUCT_OFFSET (Thing, bytes), NULL, TRUE, "Bytes", TRUE },
  { "secret", BANGER_RECORD_STRING, G_STRUCT_OFFSET (Thing, secret) },
  { NULL },
};
static Thing thing = { (char *)"caf\xe9", 1, G_GUINT64_CONSTANT (1) << 40, (char *)"hush" };

static gpointer
find_thing (BangerManager *manager, const char *id)
{
  return g_str_equal (id, "one") ? &thing : NULL;
}

static GPtrArray *
list_things (BangerManager *manager)
{
  GPtrArray *ids = g_ptr_array_new ();
  g_ptr_array_add (ids, (gpointer) "one");
  return ids;
}

static int
append_shout (sd_bus_message *reply, BangerObjects *objects, gpointer object)
{
  return sd_bus_message_append (reply, "s", "DONE");
}

static gboolean
handle_poke (BangerRequest *request, gconstpointer data, GError **error)
{
  return TRUE;
}

static const BangerMember own_members[] = { { "Poke", "sa{sv}", "o", "name\0options\0job\0", handle_poke, NULL },
                                            { "Poked", "s", "", "name\0", NULL, NULL },
                                            { NULL } };
static const BangerMember thing_members[] = { { "Turn", "a{sv}", "", "options\0", handle_poke, NULL }, { NULL } };
static const BangerProperty loud[] = { { "State", "s", TRUE, append_shout }, { NULL } };
static const BangerInterface interfaces[] = {
  { BANGER_MANAGER_INTERFACE, own_members, NULL, NULL, .prefix = NULL },
  { BANGER_IMAGE_INTERFACE, thing_members, fields, NULL, BANGER_IMAGE_PATH_PREFIX, BANGER_OBJECT_IMAGE, find_thing,
    list_things, NULL },
  { BANGER_KERNEL_INTERFACE, thing_members, fields, loud, BANGER_KERNEL_PATH_PREFIX, BANGER_OBJECT_KERNEL, find_thing,
    list_things, NULL },
  { NULL },
};

typedef struct {
  sd_bus *bus, *peer;
  BangerObjects *objects;
  BangerManager *manager;
} Fixture;

static void
fixture_set_up (Fixture *self, gconstpointer data)
{
  int pair[2];
  sd_id128_t id = { { 1 } };
  g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
  g_assert_cmpint (sd_bus_new (&self->bus), >=, 0);
  g_assert_cmpint (sd_bus_set_fd (self->bus, pair[0], pair[0]), >=, 0);
  g_assert_cmpint (sd_bus_set_server (self->bus, TRUE, id), >=, 0);
  g_assert_cmpint (sd_bus_start (self->bus), >=, 0);
  g_assert_cmpint (sd_bus_new (&self->peer), >=, 0);
  g_assert_cmpint (sd_bus_set_fd (self->peer, pair[1], pair[1]), >=, 0);
  g_assert_cmpint (sd_bus_start (self->peer), >=, 0);
  self->manager = (BangerManager *)self; /* looked at by the functions above only */
  g_autoptr (GError) error = NULL;
  self->objects = banger_objects_new (self->manager, self->bus, interfaces, banger_request_call, &error);
  g_assert_no_error (error);
}

static void
fixture_tear_down (Fixture *self, gconstpointer data)
{
  banger_objects_free (self->objects);
  sd_bus_close_unref (self->peer);
  sd_bus_close_unref (self->bus);
}

static sd_bus_message *
message_new (Fixture *self, const char *path, const char *interface, const char *member)
{
  sd_bus_message *m = NULL;
  g_assert_cmpint (sd_bus_message_new_method_call (self->bus, &m, NULL, path, interface, member), >=, 0);
  return m;
}

/* "" if @m (transfer full) passes as @uid's, else the last word of the error's name. */
static char *
check (Fixture *self, sd_bus_message *m, uid_t uid)
{
  BangerRefusal refusal = { 0 };
  g_assert_cmpint (sd_bus_message_seal (m, 1, 0), >=, 0);
  gboolean ok = banger_gate_check (self->objects, m, uid, &refusal);
  sd_bus_message_unref (m);
  g_assert_true (ok == (refusal.message == NULL));
  g_free (refusal.message);
  return g_strdup (ok ? "" : strrchr (refusal.name, '.') + 1);
}

#define assert_check(m, uid, wanted)                                                                                   \
  do {                                                                                                                 \
    g_autofree char *got = check (self, m, uid);                                                                       \
    g_assert_cmpstr (got, ==, wanted);                                                                                 \
  } while (0)

#define IMAGE BANGER_IMAGE_PATH_PREFIX "/one"

static void
test_callers (Fixture *self, gconstpointer data)
{
  const uid_t me = geteuid ();
  assert_check (message_new (self, "/", "org.freedesktop.DBus.Peer", "Ping"), me, "");
  assert_check (message_new (self, "/", "org.freedesktop.DBus.Peer", "Ping"), 0, "");
  assert_check (message_new (self, "/", "org.freedesktop.DBus.Peer", "Ping"), me + 1, "AccessDenied");
  assert_check (message_new (self, "/", "org.freedesktop.DBus.Peer", "Ping"), (uid_t)-1, "AccessDenied");
}

static void
test_members (Fixture *self, gconstpointer data)
{
  static const struct {
    const char *path, *interface, *member, *signature, *wanted;
  } rows[] = {
    { BANGER_MANAGER_PATH, BANGER_MANAGER_INTERFACE, "Poke", "sa{sv}", "" },
    { BANGER_MANAGER_PATH, BANGER_MANAGER_INTERFACE, "Poke", "s", "InvalidArgs" },
    { BANGER_MANAGER_PATH, BANGER_MANAGER_INTERFACE, "Poke", "sa{sv}s", "InvalidArgs" },
    { BANGER_MANAGER_PATH, BANGER_MANAGER_INTERFACE, "Poked", "s", "UnknownMethod" }, /* a signal */
    { BANGER_MANAGER_PATH, BANGER_MANAGER_INTERFACE, "poke", "sa{sv}", "UnknownMethod" },
    { BANGER_MANAGER_PATH, BANGER_IMAGE_INTERFACE, "Turn", "a{sv}", "UnknownInterface" },
    { BANGER_MANAGER_PATH, "org.banger.Other", "Turn", "a{sv}", "UnknownInterface" },
    { BANGER_MANAGER_PATH, NULL, "Poke", "sa{sv}", "UnknownMethod" },
    { IMAGE, BANGER_IMAGE_INTERFACE, "Turn", "a{sv}", "" },
    { IMAGE, BANGER_KERNEL_INTERFACE, "Turn", "a{sv}", "UnknownInterface" },
    { BANGER_IMAGE_PATH_PREFIX "_one", BANGER_IMAGE_INTERFACE, "Turn", "a{sv}", "UnknownObject" },
    { IMAGE "x", BANGER_IMAGE_INTERFACE, "Turn", "a{sv}", "UnknownObject" },
    { IMAGE "/one", BANGER_IMAGE_INTERFACE, "Turn", "a{sv}", "UnknownObject" },
    { BANGER_IMAGE_PATH_PREFIX, BANGER_IMAGE_INTERFACE, "Turn", "a{sv}", "UnknownObject" },
    { BANGER_IMAGE_PATH_PREFIX, "org.freedesktop.DBus.Introspectable", "Introspect", "", "" },
    { "/org", "org.freedesktop.DBus.Introspectable", "Introspect", "", "" },
    { "/or", "org.freedesktop.DBus.Introspectable", "Introspect", "", "UnknownObject" },
    { BANGER_MANAGER_PATH, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", "", "" },
    { IMAGE, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", "", "UnknownInterface" },
    { IMAGE, "org.freedesktop.DBus.Peer", "Pong", "", "UnknownMethod" },
  };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    sd_bus_message *m = message_new (self, rows[i].path, rows[i].interface, rows[i].member);
    g_test_message ("%s %s.%s (%s)", rows[i].path, rows[i].interface, rows[i].member, rows[i].signature);
    if (strlen (rows[i].signature) > 0 && rows[i].signature[0] == 's')
      g_assert_cmpint (sd_bus_message_append (m, "s", "x"), >=, 0);
    if (strstr (rows[i].signature, "a{sv}") != NULL)
      g_assert_cmpint (sd_bus_message_append (m, "a{sv}", 0), >=, 0);
    if (g_str_has_suffix (rows[i].signature, "}s"))
      g_assert_cmpint (sd_bus_message_append (m, "s", "more"), >=, 0);
    assert_check (m, geteuid (), rows[i].wanted);
  }
}

static sd_bus_message *
property_new (Fixture *self, const char *path, const char *interface, const char *property, gboolean set)
{
  sd_bus_message *m = message_new (self, path, "org.freedesktop.DBus.Properties", set ? "Set" : "Get");
  g_assert_cmpint (sd_bus_message_append (m, "ss", interface, property), >=, 0);
  if (set)
    g_assert_cmpint (sd_bus_message_append (m, "v", "s", "debug"), >=, 0);
  return m;
}

static void
test_properties (Fixture *self, gconstpointer data)
{
  const uid_t me = geteuid ();
  assert_check (property_new (self, IMAGE, BANGER_IMAGE_INTERFACE, "Bytes", FALSE), me, "");
  assert_check (property_new (self, IMAGE, BANGER_IMAGE_INTERFACE, "Bytes", TRUE), me, "PropertyReadOnly");
  assert_check (property_new (self, IMAGE, BANGER_IMAGE_INTERFACE, "bytes", FALSE), me, "UnknownProperty");
  assert_check (property_new (self, IMAGE, BANGER_IMAGE_INTERFACE, "secret", FALSE), me, "UnknownProperty");
  assert_check (property_new (self, IMAGE, BANGER_KERNEL_INTERFACE, "Bytes", FALSE), me, "UnknownInterface");
  assert_check (property_new (self, IMAGE "x", BANGER_IMAGE_INTERFACE, "Bytes", FALSE), me, "UnknownObject");
  assert_check (property_new (self, BANGER_LOG_CONTROL_PATH, BANGER_LOG_CONTROL_INTERFACE, "LogLevel", TRUE), me, "");
  assert_check (property_new (self, BANGER_LOG_CONTROL_PATH, BANGER_LOG_CONTROL_INTERFACE, "LogTarget", TRUE), me,
                "PropertyReadOnly");
  assert_check (property_new (self, BANGER_LOG_CONTROL_PATH, BANGER_LOG_CONTROL_INTERFACE, "Level", FALSE), me,
                "UnknownProperty");
}

/* What the peer gets for GetAll at @path, "Name=caf? Bytes=..." with the types. */
static char *
get_all (Fixture *self, const char *path, const char *interface)
{
  g_autoptr (sd_bus_message) m = NULL;
  g_autoptr (sd_bus_message) reply = NULL;
  guint64 cookie = 0;
  g_assert_cmpint (
      sd_bus_message_new_method_call (self->peer, &m, NULL, path, "org.freedesktop.DBus.Properties", "GetAll"), >=, 0);
  g_assert_cmpint (sd_bus_message_append (m, "s", interface), >=, 0);
  g_assert_cmpint (sd_bus_send (self->peer, m, &cookie), >=, 0);
  while (reply == NULL) {
    while (sd_bus_process (self->bus, NULL) > 0)
      ;
    g_assert_cmpint (sd_bus_process (self->peer, &reply), >=, 0);
    guint64 answered = 0;
    if (reply != NULL && (sd_bus_message_get_reply_cookie (reply, &answered) < 0 || answered != cookie))
      g_clear_pointer (&reply, sd_bus_message_unref);
  }
  GString *text = g_string_new (NULL);
  g_assert_cmpint (sd_bus_message_enter_container (reply, 'a', "{sv}"), >, 0);
  while (sd_bus_message_enter_container (reply, 'e', "sv") > 0) {
    const char *name = NULL, *type = NULL, *string = NULL;
    guint64 number = 0;
    g_assert_cmpint (sd_bus_message_read (reply, "s", &name), >, 0);
    g_assert_cmpint (sd_bus_message_peek_type (reply, NULL, &type), >, 0);
    if (g_str_equal (type, "s")) {
      g_assert_cmpint (sd_bus_message_read (reply, "v", "s", &string), >, 0);
      g_string_append_printf (text, "%s=%s ", name, string);
    } else {
      g_assert_cmpint (sd_bus_message_read (reply, "v", "t", &number), >, 0);
      g_string_append_printf (text, "%s=%" G_GUINT64_FORMAT " ", name, number);
    }
    g_assert_cmpint (sd_bus_message_exit_container (reply), >, 0);
  }
  return g_string_free (text, FALSE);
}

/* A row is a property; one without a name on the bus is not; one that is computed takes a field's place. */
static void
test_rows (Fixture *self, gconstpointer data)
{
  g_autofree char *image = get_all (self, IMAGE, BANGER_IMAGE_INTERFACE);
  g_assert_cmpstr (image, ==, "Name=caf\xef\xbf\xbd State=done Bytes=1099511627776 ");
  g_autofree char *kernel = get_all (self, BANGER_KERNEL_PATH_PREFIX "/one", BANGER_KERNEL_INTERFACE);
  g_assert_cmpstr (kernel, ==, "Name=caf\xef\xbf\xbd Bytes=1099511627776 State=DONE ");
}

static char *
changes (const Thing *before, const Thing *now)
{
  g_autoptr (GPtrArray) names = banger_record_changes (fields, before, now);
  g_ptr_array_add (names, NULL);
  return g_strjoinv (" ", (char **)names->pdata);
}

static void
test_changes (Fixture *self, gconstpointer data)
{
  Thing other = thing;
  g_autofree char *all = changes (NULL, NULL), *none = changes (&thing, &other);
  g_assert_cmpstr (all, ==, "State Bytes");
  g_assert_cmpstr (none, ==, "");
  other.bytes ^= G_GUINT64_CONSTANT (1) << 40; /* differs in the upper half only */
  other.name = (char *)"of no announcement";
  g_autofree char *bytes = changes (&thing, &other);
  g_assert_cmpstr (bytes, ==, "Bytes");
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
#define ADD(path, function) g_test_add (path, Fixture, NULL, fixture_set_up, function, fixture_tear_down)
  ADD ("/gate/callers", test_callers);
  ADD ("/gate/members", test_members);
  ADD ("/gate/properties", test_properties);
  ADD ("/objects/rows", test_rows);
  ADD ("/objects/changes", test_changes);
  return g_test_run ();
}

/* What the manager does with a root helper that was taken over, or is of another version: answers of any size, type and
 * sender. The helper is a process of its own on a private bus, so that the memory is the manager's alone.
 * Run by meson test; itself run again with the number of a row it is that helper.
 * Never reaches a real helper. */
static unsigned call_seconds; /* the bus is slow with answers of some MiB */
#define CALL_SECONDS call_seconds
#include "manager/peer/helper.c"

#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "common/fd.h"
#include "common/pidfd.h"

#define VM "aaaaaaaaaaaa"
#define MIB (1024 * 1024)
#define BIG (8 * MIB)
#define TOO_BIG (33 * MIB) /* dbus-daemon's max_message_size is 32: who sends more is off the bus */
#define MANY 100000

typedef struct {
  GTestDBus *dbus;
  BangerHelper *helper;
  GPid child;
  gboolean done;
  GError *error;
  GPtrArray *leases;
  BangerVmmStatus status;
  int pidfd;
  guint answers;
} World;

/* The helper's side */

typedef int (*Answer) (sd_bus_message *call);

static char *
many (char c, size_t n)
{
  char *text = g_malloc (n + 1);
  memset (text, c, n);
  text[n] = '\0';
  return text;
}

static int
say_nothing (sd_bus_message *call)
{
  return 1;
}

static int
say_number (sd_bus_message *call)
{
  return sd_bus_reply_method_return (call, "t", G_MAXUINT64);
}

static int
say_more (sd_bus_message *call)
{
  return sd_bus_reply_method_return (call, "ss", "tap-fc-aaaaaaaa", "and more");
}

static int
say_big (sd_bus_message *call)
{
  g_autofree char *text = many (',', BIG);
  return sd_bus_reply_method_return (call, "s", text);
}

static int
say_more_than_the_bus_takes (sd_bus_message *call)
{
  g_autofree char *text = many (',', TOO_BIG);
  return sd_bus_reply_method_return (call, "s", text);
}

static int
say_engine (sd_bus_message *call)
{
  g_autofree char *text = many (',', 1 << 20);
  return sd_bus_reply_method_return (call, "sss", text, text, "\033[31mno\nroot: yes");
}

static int
say_name (sd_bus_message *call)
{
  return sd_bus_reply_method_return (call, "s", "tap-fc-aaaaaaaa");
}

static int
say_other_name (sd_bus_message *call)
{
  return sd_bus_reply_method_return (call, "s", "eth0\n\x1b[31m%s%n");
}

static int
say_twice (sd_bus_message *call)
{
  say_name (call);
  return say_other_name (call);
}

/* As a stranger could on a bus that does not look whether an answer was asked for. */
static int
say_through_another (sd_bus_message *call)
{
  g_autoptr (sd_bus) stranger = NULL;
  g_autoptr (sd_bus_message) m = NULL;
  g_assert_cmpint (sd_bus_open_system (&stranger), >=, 0);
  g_assert_cmpint (sd_bus_message_new_method_return (call, &m), >=, 0);
  g_assert_cmpint (sd_bus_message_append (m, "s", "tap-fc-aaaaaaaa"), >=, 0);
  g_assert_cmpint (sd_bus_send (stranger, m, NULL), >=, 0);
  return sd_bus_flush (stranger);
}

static int
refuse_as (sd_bus_message *call, const char *name, const char *text)
{
  g_auto (sd_bus_error) error = SD_BUS_ERROR_NULL;
  sd_bus_error_set (&error, name, text);
  return sd_bus_reply_method_error (call, &error);
}

static int
refuse_at_length (sd_bus_message *call)
{
  g_autofree char *text = many ('x', MIB);
  return refuse_as (call, "org.banger.Error.InUse", text);
}

static int
refuse_hugely (sd_bus_message *call)
{
  g_autofree char *text = many ('\x1b', BIG);
  return refuse_as (call, SD_BUS_ERROR_NO_REPLY, text);
}

static int
refuse_with_bytes (sd_bus_message *call)
{
  return refuse_as (call, "org.banger.Error.Failed", "\x1b]0;title\x07 %s%n\nroot: yes\xe2\x80\xae (op-00000000)");
}

static int
refuse_by_a_long_name (sd_bus_message *call)
{
  g_autofree char *tail = many ('x', 250), *name = g_strconcat ("a.", tail, NULL);
  return refuse_as (call, name, "");
}

static int
list_with (sd_bus_message *call, guint n, const char *id, const char *resources)
{
  g_autoptr (sd_bus_message) m = NULL;
  g_assert_cmpint (sd_bus_message_new_method_return (call, &m), >=, 0);
  g_assert_cmpint (sd_bus_message_open_container (m, 'a', "(ssu)"), >=, 0);
  for (guint i = 0; i < n; i++) {
    g_autofree char *each = id ? g_strdup (id) : g_strdup_printf ("%012x", i);
    g_assert_cmpint (sd_bus_message_append (m, "(ssu)", each, resources, i), >=, 0);
  }
  g_assert_cmpint (sd_bus_message_close_container (m), >=, 0);
  return sd_bus_message_send (m);
}

static int
list_many (sd_bus_message *call)
{
  return list_with (call, MANY, NULL, "tap,nat");
}

static int
list_commas (sd_bus_message *call)
{
  g_autofree char *commas = many (',', BIG - 64);
  return list_with (call, 1, NULL, commas);
}

static int
list_no_ids (sd_bus_message *call)
{
  return list_with (call, 3, "../../../etc/passwd", "");
}

static int
tell_many (sd_bus_message *call)
{
  g_autoptr (sd_bus_message) m = NULL;
  g_assert_cmpint (sd_bus_message_new_method_return (call, &m), >=, 0);
  g_assert_cmpint (sd_bus_message_open_container (m, 'a', "{sv}"), >=, 0);
  for (guint i = 0; i < MANY; i++)
    g_assert_cmpint (sd_bus_message_append (m, "{sv}", "exit-signal", "v", "v", "s", "deep"), >=, 0);
  g_assert_cmpint (sd_bus_message_append (m, "{sv}", "exit-code", "i", 7), >=, 0);
  g_assert_cmpint (sd_bus_message_close_container (m), >=, 0);
  return sd_bus_message_send (m);
}

static int
lend_null (sd_bus_message *call)
{
  banger_autofd int fd = open ("/dev/null", O_RDONLY | O_CLOEXEC);
  return sd_bus_reply_method_return (call, "uh", (guint32)getpid (), fd);
}

static int
lend_another (sd_bus_message *call)
{
  banger_autofd int fd = banger_pidfd_open (getppid ());
  return sd_bus_reply_method_return (call, "uh", (guint32)getpid (), fd);
}

static int
lend_own (sd_bus_message *call)
{
  banger_autofd int fd = banger_pidfd_open (getpid ());
  return sd_bus_reply_method_return (call, "uh", (guint32)getpid (), fd);
}

/* The manager's side */

static void
on_done (GObject *source, GAsyncResult *result, gpointer user_data)
{
  World *world = user_data;
  banger_helper_finish (result, &world->error);
  world->done = TRUE;
}

static void
on_named (GObject *source, GAsyncResult *result, gpointer user_data)
{
  World *world = user_data;
  g_assert_cmpint (banger_helper_name_finish (result, "tap-fc-aaaaaaaa", &world->error), ==, !world->error);
  world->done = TRUE;
}

static void
on_listed (GObject *source, GAsyncResult *result, gpointer user_data)
{
  World *world = user_data;
  world->leases = banger_helper_leases_finish (result, &world->error);
  world->done = TRUE;
}

static void
on_told (GObject *source, GAsyncResult *result, gpointer user_data)
{
  World *world = user_data;
  banger_helper_status_finish (result, &world->status, &world->error);
  world->done = TRUE;
}

static void
on_lent (GObject *source, GAsyncResult *result, gpointer user_data)
{
  World *world = user_data;
  guint32 pid = 0;
  world->pidfd = banger_helper_vmm_finish (result, &pid, &world->error);
  g_assert_cmpuint (pid, ==, world->pidfd >= 0 ? (guint32)world->child : 0);
  world->done = TRUE;
}

static void
call_release (World *world)
{
  banger_helper_call (world->helper, NULL, "ReleaseVm", NULL, on_done, world, VM);
}

static void
call_tap (World *world)
{
  banger_helper_call (world->helper, NULL, "CreateTap", NULL, on_named, world, VM, "br-fc", "10.0.0.1/24", "10.0.0.2");
}

static void
call_list (World *world)
{
  banger_helper_call (world->helper, NULL, "ListLeases", NULL, on_listed, world);
}

static void
call_status (World *world)
{
  banger_helper_call (world->helper, NULL, "GetVmm", NULL, on_told, world, VM);
}

static void
on_engine (GObject *source, GAsyncResult *result, gpointer user_data)
{
  World *world = user_data;
  BangerEngineInfo info = { 0 };
  gboolean ok = banger_helper_engine_finish (result, &info, &world->error);
  g_assert_cmpint (ok, ==, !world->error);
  g_assert_cmpint (ok, ==, info.name != NULL);
  if (ok) { /* what ends on a terminal has no power there, and no length */
    g_assert_cmpuint (strlen (info.name), <=, 40);
    g_assert_cmpuint (strlen (info.problem), <=, 1010);
    g_assert_null (strchr (info.kvm, '\033'));
  }
  banger_engine_info_clear (&info);
  world->done = TRUE;
}

static void
call_engine (World *world)
{
  banger_helper_call (world->helper, NULL, "GetEngine", NULL, on_engine, world);
}

static void
call_open (World *world)
{
  banger_helper_call (world->helper, NULL, "OpenVmm", NULL, on_lent, world, VM);
}

#define GOOD (-1)

/* @code: of the error, or GOOD; @text: what it says; @mib: how much more memory the manager may take meanwhile. */
static const struct {
  const char *name;
  void (*call) (World *);
  Answer answer;
  int code;
  const char *text;
  guint mib;
} rows[] = {
  { "never", call_release, say_nothing, BANGER_ERROR_HELPER_UNAVAILABLE, "has not answered", 8 },
  { "number-for-nothing", call_release, say_number, BANGER_ERROR_HELPER_UNAVAILABLE, "cannot be read", 8 },
  { "text-for-nothing", call_release, say_big, BANGER_ERROR_HELPER_UNAVAILABLE, "cannot be read", 20 },
  { "past-the-bus", call_release, say_more_than_the_bus_takes, BANGER_ERROR_HELPER_UNAVAILABLE, "cannot be reached",
    8 },
  { "number-for-name", call_tap, say_number, BANGER_ERROR_HELPER_UNAVAILABLE, "cannot be read", 8 },
  { "too-much", call_tap, say_more, BANGER_ERROR_HELPER_UNAVAILABLE, "cannot be read", 8 },
  { "huge-name", call_tap, say_big, BANGER_ERROR_HELPER_UNAVAILABLE, "belongs", 20 },
  { "other-name", call_tap, say_other_name, BANGER_ERROR_HELPER_UNAVAILABLE, "'eth0\\x0a\\x1b[31m%s%n'", 8 },
  { "good-name", call_tap, say_name, GOOD, NULL, 8 },
  { "twice", call_tap, say_twice, GOOD, NULL, 8 },
  { "another-sender", call_tap, say_through_another, BANGER_ERROR_HELPER_UNAVAILABLE, "somebody else answered", 8 },
  { "long-error", call_release, refuse_at_length, BANGER_ERROR_IN_USE, "ReleaseVm: xxx", 8 },
  { "huge-error", call_release, refuse_hugely, BANGER_ERROR_HELPER_UNAVAILABLE, "\\x1b\\x1b", 20 },
  { "bytes-in-error", call_release, refuse_with_bytes, BANGER_ERROR_FAILED,
    "\\x1b]0;title\\x07 %s%n\\x0aroot: yes\\xe2\\x80\\xae (op-", 8 },
  { "long-error-name", call_release, refuse_by_a_long_name, BANGER_ERROR_FAILED, "ReleaseVm: ", 8 },
  { "many-leases", call_list, list_many, BANGER_ERROR_HELPER_UNAVAILABLE, "cannot be read", 16 },
  { "lease-of-commas", call_list, list_commas, BANGER_ERROR_HELPER_UNAVAILABLE, "cannot be read", 20 },
  { "leases-of-no-ids", call_list, list_no_ids, GOOD, NULL, 8 },
  { "name-for-leases", call_list, say_name, BANGER_ERROR_HELPER_UNAVAILABLE, "cannot be read", 8 },
  { "many-words", call_status, tell_many, GOOD, NULL, 16 },
  { "name-for-status", call_status, say_name, BANGER_ERROR_HELPER_UNAVAILABLE, "cannot be read", 8 },
  { "name-for-engine", call_engine, say_name, BANGER_ERROR_HELPER_UNAVAILABLE, "cannot be read", 8 },
  { "long-engine", call_engine, say_engine, GOOD, NULL, 16 },
  { "no-pidfd", call_open, lend_null, BANGER_ERROR_HELPER_UNAVAILABLE, "cannot be read", 8 },
  { "pidfd-of-another", call_open, lend_another, BANGER_ERROR_HELPER_UNAVAILABLE, "cannot be read", 8 },
  { "good-pidfd", call_open, lend_own, GOOD, NULL, 8 },
  { "name-for-pidfd", call_open, say_name, BANGER_ERROR_HELPER_UNAVAILABLE, "cannot be read", 8 },
};

static int
on_call (sd_bus_message *m, void *row, sd_bus_error *ret_error)
{
  int r = rows[GPOINTER_TO_UINT (row)].answer (m);
  return r < 0 ? r : 1;
}

static int
be_the_helper (guint row)
{
  g_autoptr (sd_bus) bus = NULL;
  prctl (PR_SET_PDEATHSIG, SIGKILL);
  int r = sd_bus_open_system (&bus);
  if (r >= 0)
    r = sd_bus_add_object (bus, NULL, BANGER_PRIVILEGED_PATH, on_call, GUINT_TO_POINTER (row));
  if (r >= 0)
    r = sd_bus_request_name (bus, BANGER_PRIVILEGED_BUS_NAME, 0);
  while (r >= 0 && (r = sd_bus_process (bus, NULL)) >= 0)
    if (r == 0)
      r = sd_bus_wait (bus, G_MAXUINT64);
  pause ();
  return 1;
}

static gboolean
on_deadline (gpointer user_data)
{
  g_assert_not_reached ();
  return G_SOURCE_REMOVE;
}

#define RUN_WHILE(condition)                                                                                           \
  do {                                                                                                                 \
    guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);                                                   \
    while (condition)                                                                                                  \
      g_main_context_iteration (NULL, TRUE);                                                                           \
    g_source_remove (deadline);                                                                                        \
  } while (0)

static void
world_up (World *world, gconstpointer row)
{
  g_autofree char *number = g_strdup_printf ("%u", GPOINTER_TO_UINT (row));
  const char *argv[] = { "/proc/self/exe", number, NULL };
  world->pidfd = -1;
  world->dbus = g_test_dbus_new (G_TEST_DBUS_NONE);
  g_test_dbus_up (world->dbus);
  g_setenv ("DBUS_SYSTEM_BUS_ADDRESS", g_test_dbus_get_bus_address (world->dbus), TRUE);
  g_assert_true (g_spawn_async (NULL, (char **)argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &world->child, NULL));
  world->helper = banger_helper_new (64);
  RUN_WHILE (!banger_helper_available (world->helper));
}

static void
world_down (World *world, gconstpointer row)
{
  int status;
  g_clear_pointer (&world->helper, banger_helper_free);
  kill (world->child, SIGKILL);
  waitpid (world->child, &status, 0);
  g_assert_true (WIFSIGNALED (status)); /* it did not end by itself */
  g_test_dbus_down (world->dbus);
  g_object_unref (world->dbus);
  g_clear_error (&world->error);
  g_clear_pointer (&world->leases, g_ptr_array_unref);
  banger_clear_fd (&world->pidfd);
}

/* In KiB: "VmRSS" now, "VmHWM" the most since forget_peak(). proc_pid_status(5). */
static guint64
memory (const char *field)
{
  g_autofree char *text = NULL;
  g_assert_true (g_file_get_contents ("/proc/self/status", &text, NULL, NULL));
  const char *line = strstr (text, field);
  g_assert_nonnull (line);
  return g_ascii_strtoull (line + strlen (field) + 1, NULL, 10);
}

static void
forget_peak (void)
{
  g_assert_true (g_file_set_contents_full ("/proc/self/clear_refs", "5", 1, G_FILE_SET_CONTENTS_NONE, 0600, NULL));
}

static void
check_memory (guint64 before, guint mib)
{
#ifndef __SANITIZE_ADDRESS__ /* which keeps what was freed */
  g_assert_cmpuint (memory ("VmHWM:"), <=, before + mib * 1024);
  g_assert_cmpuint (memory ("VmRSS:"), <=, before + 8 * 1024);
#endif
}

static void
test_row (World *world, gconstpointer data)
{
  guint row = GPOINTER_TO_UINT (data);
  forget_peak ();
  guint64 before = memory ("VmRSS:");
  call_seconds = rows[row].answer == say_nothing ? 1 : 25;
  for (int i = 0; i < 2; i++) { /* again: nothing is left of the answer before */
    g_clear_error (&world->error);
    g_clear_pointer (&world->leases, g_ptr_array_unref);
    banger_clear_fd (&world->pidfd);
    world->done = FALSE;
    rows[row].call (world);
    RUN_WHILE (!world->done);
    if (rows[row].code == GOOD) {
      g_assert_no_error (world->error);
    } else {
      g_assert_error (world->error, BANGER_ERROR, rows[row].code);
      if (!strstr (world->error->message, rows[row].text))
        g_error ("'%.1200s' instead of '%s'", world->error->message, rows[row].text);
      g_assert_cmpuint (strlen (world->error->message), <, 1200);
    }
  }
  check_memory (before, rows[row].mib);
  g_assert_cmpint (banger_helper_available (world->helper), ==, rows[row].answer != say_more_than_the_bus_takes);
  if (rows[row].answer == list_no_ids)
    g_assert_cmpuint (world->leases->len, ==, 0);
  if (rows[row].answer == tell_many)
    g_assert_cmpint (world->status.exit_code, ==, 7);
}

int
main (int argc, char **argv)
{
  mallopt (M_MMAP_THRESHOLD, 128 * 1024); /* fixed: what is freed goes back */
  if (argc == 2 && g_ascii_isdigit (*argv[1]))
    return be_the_helper ((guint)strtoul (argv[1], NULL, 10));
  g_test_init (&argc, &argv, NULL);
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autofree char *path = g_strconcat ("/hostile-helper/", rows[i].name, NULL);
    g_test_add (path, World, GUINT_TO_POINTER (i), world_up, test_row, world_down);
  }
  return g_test_run ();
}

/* A guest that is made a VM, or stays the one that it is, as the manager asks for it.
 * Run by meson test. */
#include "vm-world.h"

#include "manager/vm/identity.h"

#define FINE "ok %s 1764491234567890"

static BangerVm *
running_vm (World *world)
{
  BangerVm *vm = make_vm (world, "web");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_no_error (world->error);
  return vm;
}

static void
on_identity (GObject *source, GAsyncResult *result, gpointer user_data)
{
  World *world = user_data;
  world->ok = vm_identity_finish (result, &world->error);
  world->done = TRUE;
}

static void
become (World *world, BangerVm *vm, VmIdentity what, GCancellable *cancellable)
{
  g_clear_error (&world->error);
  world->done = FALSE;
  vm_identity_async (vm, what, TRUE, cancellable, on_identity, world);
  run_until (&world->done);
  g_assert_true (world->ok == !world->error);
}

static gboolean
was_told (const char *text)
{
  gsize length;
  const char *told = g_bytes_get_data (fake.told, &length);
  return memmem (told, length, text, strlen (text)) != NULL;
}

/* It is told what its record says, and keys of its own; nothing that it answers changes that. */
static void
test_new (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  fake.identity = FINE;
  BangerVm *vm = running_vm (world);
  g_autofree char *address = g_strdup_printf ("\naddress=%s/", vm->record.address);
  g_autofree char *mac = g_strdup_printf ("\nmac=%s\n", vm->record.mac);
  g_autofree char *before = g_strdup (vm->record.address);
  become (world, vm, VM_IDENTITY_NEW, NULL);
  g_assert_no_error (world->error);
  const char *const rows[] = { address,
                               mac,
                               "hostname=web\n",
                               "\nmachine-id=",
                               "\nwork=/dev/vdb\n",
                               "\nauthorized_keys ",
                               "\nssh_host_ed25519_key ",
                               "\nssh_host_ed25519_key.pub ",
                               "entropy 64\n",
                               "time 16\n",
                               banger_agent_boot_id (vm->agent) };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    if (!was_told (rows[i]))
      g_error ("it was not told '%s'", rows[i]);
  g_autofree char *first = g_strdup (banger_agent_boot_id (vm->agent));
  g_assert_cmpstr (first, !=, "boot-1");
  g_assert_nonnull (vm->clock);
  become (world, vm, VM_IDENTITY_NEW, NULL);
  g_assert_cmpstr (banger_agent_boot_id (vm->agent), !=, first);
  g_assert_cmpstr (vm->record.address, ==, before);
}

static void
test_refused (World *world, gconstpointer data)
{
  static const struct {
    const char *answer, *text;
  } rows[] = {
    { "error host name: Read-only\tfile system", "host name: Read-only\\x09file system" },
    { "ok 0f8fad5b-d9cb-469f-a165-70867728950e 1", "does not have the boot id" },
    { "ok %s 1 address=10.213.0.9", "not of our protocol" },
    { "ok %s -1", "not of our protocol" },
    { "ok %s", "not of our protocol" },
    { "ok", "not of our protocol" },
    { "what?", "not of our protocol" },
  };
  if (!sshd_up (world))
    return;
  fake.identity = FINE;
  BangerVm *vm = running_vm (world);
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    fake.identity = rows[i].answer;
    become (world, vm, VM_IDENTITY_NEW, NULL);
    g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_GUEST_FAILED);
    if (!strstr (world->error->message, rows[i].text))
      g_error ("'%s' does not say '%s'", world->error->message, rows[i].text);
    g_assert_cmpstr (banger_agent_boot_id (vm->agent), ==, "boot-1");
    g_assert_nonnull (vm->clock);
  }
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  g_cancellable_cancel (cancellable);
  become (world, vm, VM_IDENTITY_SAME, cancellable);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_CANCELLED);
}

static void
test_old_agent (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  BangerVm *vm = running_vm (world);
  become (world, vm, VM_IDENTITY_NEW, NULL);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_NOT_SUPPORTED);
  g_assert_cmpuint (fake_count ("guest:identity"), ==, 0);
  vm_drop_agent (vm);
  become (world, vm, VM_IDENTITY_SAME, NULL);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_NOT_SUPPORTED);
  vm_keep_agent (vm);
}

/* One that was suspended has a new time and new random bytes, and nothing else; if that fails it runs all the same. */
static void
test_resumed (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  fake.identity = FINE;
  BangerVm *vm = running_vm (world);
  for (int fails = 0; fails < 2; fails++) {
    g_clear_pointer (&fake.told, g_bytes_unref);
    fake.identity = fails ? "error entropy: no" : FINE;
    verb (world, vm, BANGER_VM_VERB_SUSPEND, NULL);
    verb (world, vm, BANGER_VM_VERB_START, NULL);
    g_assert_no_error (world->error);
    assert_state (vm, BANGER_VM_RUNNING);
    g_assert_true (was_told ("time 16\n") && was_told ("entropy 64\n"));
    g_assert_false (was_told ("hostname") || was_told ("boot_id"));
    g_assert_cmpstr (vm->record.boot_id, ==, "boot-1");
  }
}

static void
add_tests (void)
{
  ADD ("identity-new", test_new);
  ADD ("identity-refused", test_refused);
  ADD ("identity-old-agent", test_old_agent);
  ADD ("identity-resumed", test_resumed);
}

int
main (int argc, char **argv)
{
  return vm_world_main (argc, argv, 219, add_tests);
}

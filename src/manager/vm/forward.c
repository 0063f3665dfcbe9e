/* Ports of this host that lead to ports in a guest: what is recorded, who listens, who is connected.
 * Never listens longer than the VM lives, and never where that was not asked for. */
#include "manager/vm/private.h"

#include <errno.h>
#include <glib-unix.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "common/fd.h"
#include "manager/peer/guest-port.h"
#include "manager/peer/relays.h"

#define MAX_CONNECTIONS 48 /* of one VM: its other streams need room, too */
#define BACKLOG 16

/* Those of one VM, as long as it runs or anything of them is under way. */
struct VmForwards {
  grefcount refs;
  BangerVm *vm; /* NULL: closed */
  GPtrArray *doors;
  GCancellable *cancellable;
  guint connections;
};

typedef struct {
  VmForwards *forwards;
  char *text; /* as recorded */
  int fd;
  guint source; /* 0: there are too many connections */
  guint16 guest_port;
  gboolean told; /* that the guest refuses */
} Door;

/* A client whose way into the guest is being made. */
typedef struct {
  VmForwards *forwards;
  char *text;
  int fd;
} Arrival;

static void
forwards_unref (VmForwards *forwards)
{
  if (!g_ref_count_dec (&forwards->refs))
    return;
  g_ptr_array_unref (forwards->doors);
  g_object_unref (forwards->cancellable);
  g_free (forwards);
}

static void
door_free (gpointer data)
{
  Door *door = data;
  g_clear_handle_id (&door->source, g_source_remove);
  banger_clear_fd (&door->fd);
  g_free (door->text);
  g_free (door);
}

/* "[ADDRESS:]PORT:PORT", an address of IPv6 in brackets. */

typedef struct {
  GInetAddress *address;
  guint16 port, guest_port;
} Forward;

static void
forward_clear (Forward *forward)
{
  g_clear_object (&forward->address);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Forward, forward_clear)

static gboolean
parse_port (const char *text, gsize length, guint16 *ret)
{
  g_autofree char *digits = g_strndup (text, length);
  guint64 number = 0;
  if (!g_ascii_string_to_unsigned (digits, 10, 1, G_MAXUINT16, &number, NULL))
    return FALSE;
  *ret = (guint16)number;
  return TRUE;
}

static gboolean
parse (const char *text, Forward *ret, GError **error)
{
  const char *last = strrchr (text, ':'), *middle = last ? g_strrstr_len (text, last - text, ":") : NULL;
  const char *port = middle ? middle + 1 : text;
  g_autofree char *address = middle ? g_strndup (text, (gsize)(middle - text)) : g_strdup ("127.0.0.1"),
                  *shown = banger_log_escape (text, 60);
  gsize length = strlen (address);
  gboolean six = length > 2 && address[0] == '[' && address[length - 1] == ']';
  if (six) {
    address[length - 1] = '\0';
    memmove (address, address + 1, length - 1);
  }
  ret->address = last ? g_inet_address_new_from_string (address) : NULL;
  if (!ret->address || six != (g_inet_address_get_family (ret->address) == G_SOCKET_FAMILY_IPV6)
      || !parse_port (port, (gsize)(last - port), &ret->port)
      || !parse_port (last + 1, strlen (last + 1), &ret->guest_port))
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS,
                             "'%s' is not [ADDRESS:]PORT:PORT, a port of this host and one of the guest, as 8080:80; "
                             "an address is one of this host's, as numbers, without it 127.0.0.1",
                             shown);
  return TRUE;
}

static char *
format (const Forward *forward)
{
  g_autofree char *address = g_inet_address_to_string (forward->address);
  gboolean six = g_inet_address_get_family (forward->address) == G_SOCKET_FAMILY_IPV6;
  return g_strdup_printf ("%s%s%s:%u:%u", six ? "[" : "", address, six ? "]" : "", forward->port, forward->guest_port);
}

static gboolean
set_bind_error (const Forward *forward, int problem, GError **error)
{
  g_autofree char *address = g_inet_address_to_string (forward->address);
  guint port = forward->port;
  switch (problem) {
    case EADDRINUSE:
      return banger_set_error (error, BANGER_ERROR_IN_USE,
                               "port %u of %s is in use by another program or VM: choose another, or end what has it "
                               "(`ss -ltnp` names it)",
                               port, address);
    case EACCES:
      return banger_set_error (error, BANGER_ERROR_INVALID_ARGS,
                               "port %u needs rights that bangerd does not have: choose one from 1024 on, as %u", port,
                               port + 8000);
    case EADDRNOTAVAIL:
      return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "this host has no address %s", address);
    default:
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, problem, "cannot listen on port %u of %s", port,
                                     address);
  }
}

/* Returns: a listening socket; -1 with error. */
static int
bind_forward (const Forward *forward, GError **error)
{
  g_autoptr (GSocketAddress) socket_address = g_inet_socket_address_new (forward->address, forward->port);
  struct sockaddr_storage native;
  const int on = 1;
  gssize size = g_socket_address_get_native_size (socket_address);
  g_socket_address_to_native (socket_address, &native, sizeof native, NULL);
  banger_autofd int fd = socket (native.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd >= 0) {
    setsockopt (fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt (fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on); /* :: alone is not every IPv4 address */
  }
  if (fd < 0 || bind (fd, (const struct sockaddr *)&native, (socklen_t)size) < 0 || listen (fd, BACKLOG) < 0) {
    set_bind_error (forward, errno, error);
    return -1;
  }
  return banger_steal_fd (&fd);
}

char **
vm_forwards_check (const char *const *texts, GError **error)
{
  g_autoptr (GPtrArray) list = g_ptr_array_new_with_free_func (g_free);
  g_autoptr (GArray) held = g_array_new (FALSE, FALSE, sizeof (int));
  gboolean ok = TRUE;
  for (; ok && texts && *texts; texts++) {
    g_auto (Forward) forward = { NULL };
    if (list->len == VM_MAX_FORWARDS) {
      ok = banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED, "a VM has %d forwarded ports at most",
                             VM_MAX_FORWARDS);
      break;
    }
    int fd = parse (*texts, &forward, error) ? bind_forward (&forward, error) : -1;
    ok = fd >= 0;
    if (ok) {
      g_array_append_val (held, fd);
      g_ptr_array_add (list, format (&forward));
    }
  }
  for (guint i = 0; i < held->len; i++)
    banger_clear_fd (&g_array_index (held, int, i));
  if (!ok)
    return NULL;
  g_ptr_array_add (list, NULL);
  return (char **)g_ptr_array_free (g_steal_pointer (&list), FALSE);
}

/* Connections */

static gboolean on_arrival (int fd, GIOCondition condition, gpointer data);

static void
listen_again (VmForwards *forwards)
{
  for (guint i = 0; i < forwards->doors->len; i++) {
    Door *door = forwards->doors->pdata[i];
    if (door->source == 0)
      door->source = g_unix_fd_add_full (G_PRIORITY_LOW, door->fd, G_IO_IN, on_arrival, door, NULL);
  }
}

static void
connection_ended (gpointer data)
{
  VmForwards *forwards = data;
  forwards->connections--;
  listen_again (forwards);
}

static void
on_way_made (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autofree Arrival *arrival = data;
  VmForwards *forwards = arrival->forwards;
  g_autofree char *text = arrival->text;
  g_autoptr (GError) error = NULL;
  int guest = banger_guest_port_open_finish (result, &error);
  BangerVm *vm = forwards->vm;
  if (guest >= 0 && vm) {
    if (banger_relays_add (vm->vms->relays, banger_steal_fd (&arrival->fd), guest, forwards, connection_ended, &error))
      guest = -1;
    else
      guest = arrival->fd = -1;
  } else if (guest >= 0) {
    banger_clear_fd (&guest);
  }
  banger_clear_fd (&arrival->fd);
  for (guint i = 0; vm && error && i < forwards->doors->len; i++) {
    Door *door = forwards->doors->pdata[i];
    if (door->told || !g_str_equal (door->text, text))
      continue;
    door->told = TRUE;
    banger_log (LOG_NOTICE, BANGER_FIELDS (BANGER_FIELD_VM, vm->record.id), "%s: port %s: %s", vm->record.name, text,
                error->message);
  }
  if (vm && error)
    connection_ended (forwards);
  forwards_unref (forwards);
}

static gboolean
on_arrival (int fd, GIOCondition condition, gpointer data)
{
  Door *door = data;
  VmForwards *forwards = door->forwards;
  BangerVm *vm = forwards->vm;
  int client = accept4 (fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (client < 0)
    return G_SOURCE_CONTINUE;
  if (vm->record.state != BANGER_VM_RUNNING) {
    banger_clear_fd (&client);
    return G_SOURCE_CONTINUE;
  }
  Arrival *arrival = g_new0 (Arrival, 1);
  arrival->forwards = forwards;
  arrival->text = g_strdup (door->text);
  arrival->fd = client;
  g_ref_count_inc (&forwards->refs);
  gboolean full = ++forwards->connections >= MAX_CONNECTIONS;
  for (guint i = 0; full && i < forwards->doors->len; i++) {
    Door *other = forwards->doors->pdata[i];
    if (other != door)
      g_clear_handle_id (&other->source, g_source_remove);
  }
  if (full)
    door->source = 0;
  banger_guest_port_open_async (vm->vsock_socket, (pid_t)vm->record.pid, door->guest_port, forwards->cancellable,
                                on_way_made, arrival);
  return full ? G_SOURCE_REMOVE : G_SOURCE_CONTINUE;
}

/* Who listens */

static gboolean
add_door (VmForwards *forwards, const char *text, GError **error)
{
  g_auto (Forward) forward = { NULL };
  int fd = parse (text, &forward, error) ? bind_forward (&forward, error) : -1;
  if (fd < 0)
    return FALSE;
  Door *door = g_new0 (Door, 1);
  door->forwards = forwards;
  door->text = g_strdup (text);
  door->fd = fd;
  door->guest_port = forward.guest_port;
  g_ptr_array_add (forwards->doors, door);
  if (forwards->connections < MAX_CONNECTIONS)
    listen_again (forwards);
  return TRUE;
}

static gboolean
begin (BangerVm *vm, GError **error)
{
  if (!vm->vms->relays && !(vm->vms->relays = banger_relays_new (error)))
    return FALSE;
  if (vm->forwards)
    return TRUE;
  vm->forwards = g_new0 (VmForwards, 1);
  g_ref_count_init (&vm->forwards->refs);
  vm->forwards->vm = vm;
  vm->forwards->doors = g_ptr_array_new_with_free_func (door_free);
  vm->forwards->cancellable = g_cancellable_new ();
  return TRUE;
}

void
vm_forwards_close (BangerVm *vm)
{
  VmForwards *forwards = g_steal_pointer (&vm->forwards);
  if (!forwards)
    return;
  forwards->vm = NULL;
  g_ptr_array_set_size (forwards->doors, 0);
  g_cancellable_cancel (forwards->cancellable);
  if (vm->vms && vm->vms->relays)
    banger_relays_drop (vm->vms->relays, forwards);
  forwards_unref (forwards);
}

/* Whether a start goes on without it. */
static gboolean
may_be_left_out (const BangerVm *vm, const char *text)
{
  return vm->record.published && g_strv_contains ((const char *const *)vm->record.published, text);
}

gboolean
vm_forwards_open (BangerVm *vm, BangerJob *job, GError **error)
{
  g_autoptr (GError) first = NULL;
  if (vm->forwards || !vm->record.forwards || !vm->record.forwards[0])
    return TRUE;
  if (!begin (vm, error))
    return FALSE;
  for (char **text = vm->record.forwards; *text && !(first && job); text++) {
    g_autoptr (GError) own = NULL;
    if (add_door (vm->forwards, *text, &own))
      continue;
    if (job && may_be_left_out (vm, *text)) {
      g_autofree char *warning = g_strdup_printf ("%s is not published: %s", *text, own->message);
      banger_job_warn (job, warning);
    } else if (!first) {
      first = g_steal_pointer (&own);
    }
  }
  if (!first)
    return TRUE;
  if (job)
    vm_forwards_close (vm);
  g_propagate_error (error, g_steal_pointer (&first));
  return FALSE;
}

char *
vm_forward_format (const char *text, GError **error)
{
  g_auto (Forward) forward = { NULL };
  return parse (text, &forward, error) ? format (&forward) : NULL;
}

gboolean
vm_forward_listen (BangerVm *vm, const char *full, GError **error)
{
  return begin (vm, error) && add_door (vm->forwards, full, error);
}

void
vm_forward_leave (BangerVm *vm, const char *full)
{
  for (guint i = vm->forwards ? vm->forwards->doors->len : 0; i > 0; i--)
    if (g_str_equal (((Door *)vm->forwards->doors->pdata[i - 1])->text, full))
      g_ptr_array_remove_index (vm->forwards->doors, i - 1);
}

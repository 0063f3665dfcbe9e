/* Host to guest: a thread packs with the user's rights, the guest's agent unpacks.
 * Called by vm-cp.c.
 * Never follows a link of the host's, never sends what was not asked for. */
#include <fcntl.h>
#include <glib/gi18n.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cp.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/guest-protocol.h"
#include "common/log.h"
#include "common/tree-pack.h"

#define TOLD_LINES 10

typedef struct {
  const char *path, *name;
  int fd;
  GPtrArray *complaints; /* lines; the first few */
  guint n_complaints;
  int result, number;
} Sender;

static int
send_bytes (const void *bytes, size_t length, void *data)
{
  Sender *sender = data;
  for (size_t done = 0; done < length;) {
    ssize_t n = send (sender->fd, (const char *)bytes + done, length - done, MSG_NOSIGNAL);
    if (n < 0 && errno != EINTR)
      return -1;
    done += n > 0 ? (size_t)n : 0;
  }
  return 0;
}

static void
complain (const char *path, const char *why, int number, void *data)
{
  Sender *sender = data;
  g_autofree char *shown = banger_copy_shown (sender->path, sender->name, path);
  if (sender->n_complaints++ < TOLD_LINES)
    g_ptr_array_add (sender->complaints,
                     g_strdup_printf (_ ("cannot read '%s': %s"), shown, why ? _ (why) : g_strerror (number)));
}

static gpointer
pack (gpointer data)
{
  Sender *sender = data;
  const BangerTreePacker packer = { .write = send_bytes, .complain = complain, .data = sender };
  sender->result = banger_tree_pack (sender->path, sender->name, &packer);
  sender->number = errno;
  banger_clear_fd (&sender->fd);
  return NULL;
}

static gboolean
check_complaints (const Sender *sender, GError **error)
{
  for (guint i = 0; i < sender->complaints->len; i++)
    g_printerr ("banger: %s\n", (const char *)sender->complaints->pdata[i]);
  return sender->n_complaints == 0
         || banger_set_error (error, BANGER_ERROR_FAILED,
                              _ ("not all of it could be read: %u files or folders are missing"), sender->n_complaints);
}

static gboolean
copy_path (BangerCopy *copy, GError **error)
{
  g_autofree char *name = NULL, *said = NULL;
  g_autoptr (GPtrArray) complaints = g_ptr_array_new_with_free_func (g_free);
  BangerTreeKind kind = banger_copy_kind (copy->from, &name);
  const char *to = *copy->to ? copy->to : ".";
  const char *const words[] = { BANGER_GUEST_BINARY, "unpack", to, name, NULL };
  Sender sender = { .path = copy->from,
                    .name = kind == BANGER_TREE_NAMED ? name : "contents",
                    .complaints = complaints };
  int ends[2], status = 0;
  if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot make a socket"));
  sender.fd = ends[1];
  GThread *thread = g_thread_new ("pack", pack, &sender);
  gboolean known = banger_copy_run (copy, words, ends[0], -1, &status, &said, error);
  close (ends[0]); /* ends the thread, if it has not yet */
  g_thread_join (thread);
  if (!known || !banger_copy_check (copy, status, said, error))
    return FALSE;
  return check_complaints (&sender, error);
}

static gboolean
copy_stream (BangerCopy *copy, GError **error)
{
  g_autofree char *said = NULL;
  const char *const words[] = { BANGER_GUEST_BINARY, "unpack", *copy->to ? copy->to : ".", NULL };
  int status = 0;
  return banger_copy_run (copy, words, STDIN_FILENO, -1, &status, &said, error)
         && banger_copy_check (copy, status, said, error);
}

gboolean
banger_copy_in (BangerCopy *copy, GError **error)
{
  struct stat st;
  if (strcmp (copy->from, "-") == 0)
    return copy_stream (copy, error);
  g_autofree char *shown = banger_log_escape (copy->from, PATH_MAX);
  if (lstat (copy->from, &st) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, errno, _ ("cannot read '%s'"), shown);
  return copy_path (copy, error);
}

/* Notices that somebody changed banger's tables in nftables, and has them put back.
 * Never acts on changes of the helper's own. */
#include "privileged/filter-watch.h"

#include <errno.h>
#include <glib-unix.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/folder.h"
#include "common/log.h"
#include "common/names.h"
#include "privileged/audit.h"
#include "privileged/filter.h"
#include "privileged/netlink.h"

/* Somebody who takes the tables away again and again is followed at this pace. */
#define PAUSE_MS 200

static struct {
  const BangerRoot *root;
  char *table;
  int fd;
  guint source, timer;
  gboolean touched; /* by the transaction whose messages are being read */
  gboolean busy;    /* a thread puts the tables back */
  GString *who;     /* who changed them since; NULL nobody */
} watch = { .fd = -1 };

/* Whether the netlink socket of that port is this process's: libnftables does not tell its own. */
static gboolean
is_own (guint32 port)
{
  gboolean found = FALSE;
  banger_autofolder DIR *dir = banger_folder_open (AT_FDCWD, "/proc/self/fd");
  for (const struct dirent *entry; !found && (entry = banger_folder_next (dir));) {
    struct sockaddr_nl address = { 0 };
    socklen_t size = sizeof address;
    int fd = atoi (entry->d_name);
    found = getsockname (fd, (struct sockaddr *)&address, &size) == 0 && address.nl_family == AF_NETLINK
            && address.nl_pid == port;
  }
  return found;
}

static void mend (void);

static gboolean
on_pause (gpointer data)
{
  watch.timer = 0;
  mend ();
  return G_SOURCE_REMOVE;
}

static void
on_mended (GObject *source, GAsyncResult *result, gpointer data)
{
  watch.busy = FALSE;
  if (watch.who && watch.fd >= 0 && !watch.timer)
    watch.timer = g_timeout_add (PAUSE_MS, on_pause, NULL);
}

static void
mend_thread (GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
  g_autoptr (GError) error = NULL;
  gint64 began = g_get_monotonic_time ();
  BangerFilterMend done = banger_filter_mend (watch.root, &error);
  g_autofree char *usec = g_strdup_printf ("%" G_GINT64_FORMAT, g_get_monotonic_time () - began);
  if (done == BANGER_FILTER_MENDED)
    banger_log_audit (BANGER_MESSAGE_FILTER, BANGER_FIELDS (BANGER_FIELD_DURATION_USEC, usec),
                      "the tables %s of nftables were changed by %s; they are put back", watch.table, (char *)data);
  else if (done == BANGER_FILTER_BROKEN)
    banger_log_audit (BANGER_MESSAGE_FILTER, BANGER_FIELDS (BANGER_FIELD_ERROR, error->message),
                      "the tables %s of nftables were changed by %s, and cannot be put back: %s", watch.table,
                      (char *)data, error->message);
  g_task_return_boolean (task, TRUE);
}

static void
mend (void)
{
  if (watch.busy || watch.timer || !watch.who)
    return;
  watch.busy = TRUE;
  g_autoptr (GTask) task = g_task_new (NULL, NULL, on_mended, NULL);
  g_task_set_task_data (task, g_string_free (g_steal_pointer (&watch.who), FALSE), g_free);
  banger_network_run (task, mend_thread);
}

static void
note (const char *who)
{
  if (!watch.who)
    watch.who = g_string_new (who);
  else if (!strstr (watch.who->str, who) && watch.who->len < 256)
    g_string_append_printf (watch.who, ", %s", who);
}

/* The attribute @type of a message of nftables, at least @size bytes; NULL without. */
static const void *
attribute (const struct nlmsghdr *message, guint16 type, size_t size)
{
  size_t at = NLMSG_HDRLEN + NLMSG_ALIGN (sizeof (struct nfgenmsg));
  while (at + NLA_HDRLEN <= message->nlmsg_len) {
    const struct nlattr *each = (const struct nlattr *)(gconstpointer)((const char *)message + at);
    if (each->nla_len < NLA_HDRLEN || at + each->nla_len > message->nlmsg_len)
      return NULL;
    if ((each->nla_type & NLA_TYPE_MASK) == type && each->nla_len >= NLA_HDRLEN + size)
      return (const char *)each + NLA_HDRLEN;
    at += NLA_ALIGN (each->nla_len);
  }
  return NULL;
}

/* The end of a transaction: who made it. */
static void
read_generation (const struct nlmsghdr *message)
{
  const guint32 *pid = attribute (message, NFTA_GEN_PROC_PID, sizeof *pid);
  const char *name = attribute (message, NFTA_GEN_PROC_NAME, 1);
  if (!watch.touched || is_own (message->nlmsg_pid))
    return;
  g_autofree char *shown = name ? banger_log_escape (name, 32) : g_strdup ("?");
  g_autofree char *who = g_strdup_printf ("'%s' (process %u)", shown, pid ? GUINT32_FROM_BE (*pid) : 0);
  note (who);
}

/* In every other message the first attribute is the table's name, ended by NUL. */
static void
read_message (const struct nlmsghdr *message)
{
  if (message->nlmsg_type >> 8 != NFNL_SUBSYS_NFTABLES)
    return;
  if ((message->nlmsg_type & 0xff) == NFT_MSG_NEWGEN) {
    read_generation (message);
    watch.touched = FALSE;
    return;
  }
  const char *table = attribute (message, NFTA_TABLE_NAME, strlen (watch.table) + 1);
  watch.touched |= table && memcmp (table, watch.table, strlen (watch.table) + 1) == 0;
}

static gboolean
on_readable (int fd, GIOCondition condition, gpointer data)
{
  char buffer[65536] __attribute__ ((aligned (NLMSG_ALIGNTO)));
  struct sockaddr_nl from;
  socklen_t size = sizeof from;
  ssize_t n;
  while ((n = recvfrom (fd, buffer, sizeof buffer, MSG_DONTWAIT, (struct sockaddr *)&from, &size)) > 0
         || (n < 0 && (errno == ENOBUFS || errno == EINTR)))
  {
    if (n < 0 && errno == ENOBUFS) /* messages were lost: it may have been ours */
      note ("somebody");
    int left = (int)n;
    for (const struct nlmsghdr *message = (const struct nlmsghdr *)(gconstpointer)buffer;
         n > 0 && from.nl_pid == 0 && NLMSG_OK (message, (guint32)left); message = NLMSG_NEXT (message, left))
      read_message (message);
  }
  mend ();
  return G_SOURCE_CONTINUE;
}

gboolean
banger_filter_watch_start (const BangerRoot *root, GError **error)
{
  struct sockaddr_nl address = { .nl_family = AF_NETLINK };
  int group = NFNLGRP_NFTABLES, fd = socket (AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER);
  if (fd < 0 || bind (fd, (struct sockaddr *)&address, sizeof address) < 0
      || setsockopt (fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0)
  {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot watch nftables");
    if (fd >= 0)
      close (fd);
    return FALSE;
  }
  watch.root = root;
  watch.table = banger_filter_name (root->install);
  watch.fd = fd;
  watch.source = g_unix_fd_add (fd, G_IO_IN, on_readable, NULL);
  return TRUE;
}

void
banger_filter_watch_stop (void)
{
  g_clear_handle_id (&watch.source, g_source_remove);
  g_clear_handle_id (&watch.timer, g_source_remove);
  if (watch.fd >= 0)
    close (watch.fd);
  watch.fd = -1;
  while (watch.busy)
    g_main_context_iteration (NULL, TRUE);
  if (watch.who)
    g_string_free (g_steal_pointer (&watch.who), TRUE);
  g_clear_pointer (&watch.table, g_free);
}

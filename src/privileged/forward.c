/* IPv4 forwarding for guests, and for nobody else.
 * Runs in worker threads.
 * Never switches off what another program switched on. */
#include "privileged/forward.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <linux/netconf.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/route/addr.h>
#include <string.h>
#include <sys/socket.h>

#include "common/folder.h"
#include "common/ids.h"
#include "common/log.h"
#include "common/names.h"
#include "common/state-file.h"
#include "common/validate.h"
#include "privileged/answers.h"
#include "privileged/audit.h"
#include "privileged/filter.h"
#include "privileged/netlink.h"

/* The switch of one link is for what comes in by it; that of "all" sets every link's, and net.ipv4.ip_forward is its
 * other name. It is never written: whoever needs it sees it off, switches it on, and is noticed. */
#define LINKS "/proc/sys/net/ipv4/conf"
#define CONF LINKS "/%s/forwarding"
#define LOOPBACK 1 /* in every network namespace */
#define STATE "forwarding.json"

static gboolean
is_on (const char *link)
{
  g_autofree char *path = g_strdup_printf (CONF, link), *text = NULL;
  return g_file_get_contents (path, &text, NULL, NULL) && text[0] != '0';
}

static gboolean
set (const char *link, gboolean on, GError **error)
{
  g_autofree char *path = g_strdup_printf (CONF, link);
  banger_autofd int fd = open (path, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write (fd, on ? "1" : "0", 1) != 1)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot write %s", path);
  return TRUE;
}

static gboolean
holds (const GArray *lent, guint index)
{
  for (guint i = 0; i < lent->len; i++)
    if (g_array_index (lent, guint, i) == index)
      return TRUE;
  return FALSE;
}

/* Indices of links that are lent, as noted down before they are; a name may have become another link's. */
static gboolean
read_noted (const BangerRoot *root, GArray *lent, GError **error)
{
  gboolean missing = FALSE;
  g_autoptr (GError) why = NULL;
  g_autoptr (JsonObject) object = banger_state_read_json (root->runtime_fd, STATE, &missing, &why);
  if (missing)
    return TRUE;
  JsonNode *node = object ? json_object_get_member (object, "lent") : NULL;
  JsonArray *array = node && JSON_NODE_HOLDS_ARRAY (node) ? json_node_get_array (node) : NULL;
  gboolean good = array != NULL;
  for (guint i = 0; good && i < json_array_get_length (array); i++) {
    JsonNode *each = json_array_get_element (array, i);
    gint64 number = JSON_NODE_HOLDS_VALUE (each) && json_node_get_value_type (each) == G_TYPE_INT64
                        ? json_node_get_int (each)
                        : 0;
    guint index = (guint)number;
    good = number > 0 && number <= G_MAXINT;
    if (good && !holds (lent, index))
      g_array_append_val (lent, index);
  }
  return good
         || banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "%s",
                              why ? why->message : "'" STATE "' has no list of links");
}

/* Every link of this kernel that forwards, but for the bridges of guests. */
static char *
find_forwarding (GArray *found)
{
  static const char *const no_links[] = { "all", "default", "lo", NULL };
  g_autoptr (GString) names = g_string_new (NULL);
  banger_autofolder DIR *dir = banger_folder_open (AT_FDCWD, LINKS);
  for (const struct dirent *entry; (entry = banger_folder_next (dir));) {
    const char *name = entry->d_name;
    guint index = if_nametoindex (name);
    if (index == 0 || g_strv_contains (no_links, name) || banger_bridge_name_check (name, NULL) || !is_on (name))
      continue;
    g_array_append_val (found, index);
    g_string_append_printf (names, "%s%s", names->len > 0 ? ", " : "", name);
  }
  if (errno != 0)
    banger_log (LOG_WARNING, NULL, "cannot list the links that forward: %s", g_strerror (errno));
  return g_string_free (g_steal_pointer (&names), FALSE);
}

/* Which of the links that forward were lent cannot be told without the note. Taken for one that was not, a link would go
 * on forwarding for everybody; so all are. */
static GArray *
load (const BangerRoot *root, gboolean *ret_lost)
{
  GArray *lent = g_array_new (FALSE, FALSE, sizeof (guint));
  g_autoptr (GError) why = NULL;
  *ret_lost = !read_noted (root, lent, &why);
  if (!*ret_lost)
    return lent;
  g_array_set_size (lent, 0);
  g_autofree char *names = is_on ("all") ? g_strdup ("") : find_forwarding (lent);
  banger_log_audit (BANGER_MESSAGE_FORWARDING, BANGER_FIELDS (BANGER_FIELD_ERROR, why->message),
                    "which links forwarded before guests needed it cannot be read any more (%s); taken for lent: %s",
                    why->message, *names ? names : "none");
  return lent;
}

static gboolean
save (const BangerRoot *root, const GArray *lent, GError **error)
{
  g_autoptr (JsonObject) object = json_object_new ();
  JsonArray *array = json_array_new ();
  if (lent->len == 0) {
    json_array_unref (array);
    return banger_state_remove (root->runtime_fd, STATE, error);
  }
  for (guint i = 0; i < lent->len; i++)
    json_array_add_int_element (array, g_array_index (lent, guint, i));
  json_object_set_array_member (object, "lent", array);
  return banger_state_write_json (root->runtime_fd, STATE, object, 0600, error);
}

/* What is noted down is not written again: on a full disk that would fail, and a VM shall go. */
static gboolean
are_equal (const GArray *before, const GArray *lent)
{
  gboolean equal = before->len == lent->len;
  for (guint i = 0; equal && i < lent->len; i++)
    equal = holds (before, g_array_index (lent, guint, i));
  return equal;
}

static void
take_uplink (struct nl_object *object, void *data)
{
  struct rtnl_addr *address = (struct rtnl_addr *)object;
  guint index = (guint)rtnl_addr_get_ifindex (address);
  char name[IF_NAMESIZE];
  if (rtnl_addr_get_family (address) == AF_INET && index != LOOPBACK && !holds (data, index)
      && if_indextoname (index, name) && !banger_bridge_name_check (name, NULL))
    g_array_append_val (data, index);
}

/* By those with an address answers come in. The addresses alone are asked for: each tap is a link. */
static gboolean
find_uplinks (GArray *lent, const GArray *before, GError **error)
{
  g_autoptr (BangerNlSock) sock = banger_netlink_open (error);
  g_autoptr (GArray) uplinks = g_array_new (FALSE, FALSE, sizeof (guint));
  struct nl_cache *addresses = NULL;
  char name[IF_NAMESIZE];
  int r = sock ? rtnl_addr_alloc_cache (sock, &addresses) : 0;
  if (!addresses)
    return sock && banger_netlink_fail (r, error, "cannot list the host's addresses");
  nl_cache_foreach (addresses, take_uplink, uplinks);
  nl_cache_free (addresses);
  for (guint i = 0; i < uplinks->len; i++) {
    guint index = g_array_index (uplinks, guint, i);
    if (holds (before, index) || (if_indextoname (index, name) && !is_on (name)))
      g_array_append_val (lent, index);
  }
  return TRUE;
}

/* What a bridge's guests need of it. */
enum { FORWARDS = 1, ANSWERS = 2 };

/* TRUE with *ret_wanted: whether a guest has NAT. The bridges of those that have, or are linked to others, forward; those of
 * the rest do not. */
static gboolean
set_bridges (const BangerRoot *root, const char *without, gboolean all, gboolean *ret_wanted, GError **error)
{
  g_autoptr (GPtrArray) leases = banger_lease_list (root, NULL, error);
  g_autoptr (GHashTable) bridges = g_hash_table_new (g_str_hash, g_str_equal); /* -> what it has to do */
  if (!leases)
    return FALSE;
  for (guint i = 0; i < leases->len; i++) {
    const BangerLease *lease = leases->pdata[i];
    gboolean stays = g_strcmp0 (lease->vm, without) != 0, nat = lease->nat && stays, links = lease->links && stays;
    gpointer needs = lease->bridge ? g_hash_table_lookup (bridges, lease->bridge) : NULL;
    *ret_wanted |= nat;
    if (lease->bridge)
      g_hash_table_insert (
          bridges, lease->bridge,
          GINT_TO_POINTER (GPOINTER_TO_INT (needs) | (nat || links ? FORWARDS : 0) | (links ? ANSWERS : 0)));
  }
  GHashTableIter iter;
  gpointer bridge, needs;
  g_hash_table_iter_init (&iter, bridges);
  while (g_hash_table_iter_next (&iter, &bridge, &needs)) {
    gboolean on = (GPOINTER_TO_INT (needs) & FORWARDS) != 0;
    if (if_nametoindex (bridge) > 0
        && (!banger_answers_set (bridge, (GPOINTER_TO_INT (needs) & ANSWERS) != 0, error)
            || (!all && is_on (bridge) != on && !set (bridge, on, error))))
      return FALSE;
  }
  return TRUE;
}

/* Closed for others, then noted down, then on; and back the other way round. What cannot be noted down does not come on,
 * but what is on already is closed. */
static gboolean
change (const BangerRoot *root, const GArray *before, const GArray *lent, gboolean all, gboolean lost, GError **error)
{
  char name[IF_NAMESIZE];
  for (guint i = 0; i < before->len && !all; i++) {
    guint index = g_array_index (before, guint, i);
    if (!holds (lent, index) && if_indextoname (index, name) && is_on (name) && !set (name, FALSE, error))
      return FALSE;
  }
  if (!banger_filter_lend_locked (root, lent, error)
      || ((lost || !are_equal (before, lent)) && !save (root, lent, error)))
    return FALSE;
  for (guint i = 0; i < lent->len; i++)
    if (if_indextoname (g_array_index (lent, guint, i), name) && !is_on (name) && !set (name, TRUE, error))
      return FALSE;
  return TRUE;
}

gboolean
banger_forward_apply_locked (const BangerRoot *root, const char *without, GError **error)
{
  gboolean all = is_on ("all"), wanted = FALSE, lost = FALSE;
  g_autoptr (GArray) before = load (root, &lost), lent = g_array_new (FALSE, FALSE, sizeof (guint));
  if (!set_bridges (root, without, all, &wanted, error) || (wanted && !all && !find_uplinks (lent, before, error)))
    return FALSE;
  return (before->len == 0 && lent->len == 0 && !lost) || change (root, before, lent, all, lost, error);
}

static struct {
  const BangerRoot *root;
  int fd;
  guint source;
  gboolean busy, again;
} watch = { .fd = -1 };

static void apply (void);

static void
on_applied (GObject *source, GAsyncResult *result, gpointer data)
{
  watch.busy = FALSE;
  if (watch.again && watch.fd >= 0)
    apply ();
}

static void
apply_now (void)
{
  g_autoptr (GError) error = NULL;
  G_LOCK (banger_network);
  (void)banger_forward_apply_locked (watch.root, NULL, &error);
  G_UNLOCK (banger_network);
  if (error)
    banger_log (LOG_ERR, NULL, "guests may have no way out: %s", error->message);
}

static void
apply_thread (GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
  apply_now ();
  g_task_return_boolean (task, TRUE);
}

static void
apply (void)
{
  watch.again = watch.busy;
  if (watch.busy)
    return;
  watch.busy = TRUE;
  g_autoptr (GTask) task = g_task_new (NULL, NULL, on_applied, NULL);
  banger_network_run (task, apply_thread);
}

/* That a tap comes and goes is of no interest: it has no address. */
static gboolean
is_of_a_tap (const struct nlmsghdr *message)
{
  char name[IF_NAMESIZE];
  int length = (int)message->nlmsg_len - (int)NLMSG_SPACE (sizeof (struct netconfmsg));
  const struct rtattr *each = (const struct rtattr *)(gconstpointer)((const char *)message
                                                                     + NLMSG_SPACE (sizeof (struct netconfmsg)));
  if (message->nlmsg_type != RTM_NEWNETCONF && message->nlmsg_type != RTM_DELNETCONF)
    return FALSE;
  for (; RTA_OK (each, length); each = RTA_NEXT (each, length)) {
    int index;
    if (each->rta_type != NETCONFA_IFINDEX || RTA_PAYLOAD (each) < sizeof index)
      continue;
    memcpy (&index, RTA_DATA (each), sizeof index);
    return index > 0 && (!if_indextoname ((guint)index, name) || g_str_has_prefix (name, BANGER_TAP_PREFIX));
  }
  return FALSE;
}

/* What changed is looked up. */
static gboolean
on_readable (int fd, GIOCondition condition, gpointer data)
{
  char buffer[8192] __attribute__ ((aligned (NLMSG_ALIGNTO)));
  gboolean interesting = FALSE;
  ssize_t n;
  while ((n = recv (fd, buffer, sizeof buffer, MSG_DONTWAIT)) > 0 || (n < 0 && (errno == ENOBUFS || errno == EINTR))) {
    int left = (int)n;
    interesting |= n < 0;
    for (const struct nlmsghdr *message = (const struct nlmsghdr *)(gconstpointer)buffer;
         n > 0 && NLMSG_OK (message, (guint32)left); message = NLMSG_NEXT (message, left))
      interesting |= !is_of_a_tap (message);
  }
  if (interesting)
    apply ();
  return G_SOURCE_CONTINUE;
}

gboolean
banger_forward_watch_start (const BangerRoot *root, GError **error)
{
  struct sockaddr_nl address = { .nl_family = AF_NETLINK };
  int addresses = RTNLGRP_IPV4_IFADDR, settings = RTNLGRP_IPV4_NETCONF;
  banger_autofd int fd = socket (AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
  if (fd < 0 || bind (fd, (struct sockaddr *)&address, sizeof address) < 0
      || setsockopt (fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &addresses, sizeof addresses) < 0
      || setsockopt (fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &settings, sizeof settings) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot watch the links' settings");
  watch.root = root;
  watch.fd = banger_steal_fd (&fd);
  watch.source = g_unix_fd_add (watch.fd, G_IO_IN, on_readable, NULL);
  apply_now ();
  return TRUE;
}

void
banger_forward_watch_stop (void)
{
  g_clear_handle_id (&watch.source, g_source_remove);
  if (watch.fd >= 0)
    close (watch.fd);
  watch.fd = -1;
  while (watch.busy)
    g_main_context_iteration (NULL, TRUE);
}

/* One thread, one poll(2), a list of relays behind a lock.
 * Called by vm/forward.c.
 * Never runs anything of the main loop's in the thread: an end is told by an idle. */
#include "manager/peer/relays.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/relay.h"

typedef struct {
  BangerRelay relay;
  gpointer group;
  void (*ended) (gpointer group);
  gboolean over;
} Pair;

struct BangerRelays {
  GThread *thread;
  GMutex lock;
  int wake;
  gboolean leaving;
  GPtrArray *pairs; /* Pair */
  guint told_id;    /* an idle is due */
};

static void
pair_free (gpointer data)
{
  Pair *pair = data;
  banger_relay_end (&pair->relay);
  g_free (pair);
}

/* In the main loop. One after the other, as whoever is told may drop others. */
static gboolean
on_tell (gpointer data)
{
  BangerRelays *relays = data;
  for (;;) {
    void (*ended) (gpointer) = NULL;
    gpointer group = NULL;
    g_mutex_lock (&relays->lock);
    for (guint i = 0; i < relays->pairs->len && !ended; i++) {
      Pair *pair = relays->pairs->pdata[i];
      if (!pair->over)
        continue;
      ended = pair->ended;
      group = pair->group;
      g_ptr_array_remove_index_fast (relays->pairs, i);
    }
    if (!ended)
      relays->told_id = 0;
    g_mutex_unlock (&relays->lock);
    if (!ended)
      return G_SOURCE_REMOVE;
    ended (group);
  }
}

/* With the lock. Returns: how many there are in @fds, behind the first. */
static guint
prepare (BangerRelays *relays, struct pollfd *fds)
{
  guint n = 0;
  for (guint i = 0; i < relays->pairs->len; i++) {
    const Pair *pair = relays->pairs->pdata[i];
    if (!pair->over)
      banger_relay_prepare (&pair->relay, &fds[1 + BANGER_RELAY_FDS * n++]);
  }
  return n;
}

/* With the lock. Nothing was added or taken out since prepare(). */
static void
run (BangerRelays *relays, const struct pollfd *fds)
{
  guint n = 0;
  for (guint i = 0; i < relays->pairs->len; i++) {
    Pair *pair = relays->pairs->pdata[i];
    if (pair->over || banger_relay_run (&pair->relay, &fds[1 + BANGER_RELAY_FDS * n++]))
      continue;
    banger_relay_end (&pair->relay);
    pair->over = TRUE;
    if (!relays->told_id)
      relays->told_id = g_idle_add (on_tell, relays);
  }
}

static gpointer
work (gpointer data)
{
  BangerRelays *relays = data;
  g_autofree struct pollfd *fds = g_new0 (struct pollfd, 1 + BANGER_RELAYS_MAX * BANGER_RELAY_FDS);
  g_mutex_lock (&relays->lock);
  while (!relays->leaving) {
    guint n = prepare (relays, fds);
    guint64 count;
    fds[0] = (struct pollfd){ .fd = relays->wake, .events = POLLIN };
    g_mutex_unlock (&relays->lock);
    int ready = poll (fds, 1 + n * BANGER_RELAY_FDS, -1);
    g_mutex_lock (&relays->lock);
    /* Whoever changed the list has woken us, with the lock: what was waited for may be something else now. */
    if (read (relays->wake, &count, sizeof count) < 0 && ready > 0)
      run (relays, fds);
  }
  g_mutex_unlock (&relays->lock);
  return NULL;
}

BangerRelays *
banger_relays_new (GError **error)
{
  int wake = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "no descriptor for connections");
    return NULL;
  }
  BangerRelays *relays = g_new0 (BangerRelays, 1);
  relays->wake = wake;
  relays->pairs = g_ptr_array_new_with_free_func (pair_free);
  g_mutex_init (&relays->lock);
  relays->thread = g_thread_try_new ("relays", work, relays, error);
  if (relays->thread)
    return relays;
  banger_relays_free (relays);
  return NULL;
}

static void
wake (BangerRelays *relays)
{
  const guint64 one = 1;
  (void)!write (relays->wake, &one, sizeof one);
}

void
banger_relays_free (BangerRelays *relays)
{
  if (!relays)
    return;
  g_mutex_lock (&relays->lock);
  relays->leaving = TRUE;
  wake (relays);
  g_mutex_unlock (&relays->lock);
  if (relays->thread)
    g_thread_join (relays->thread);
  g_clear_handle_id (&relays->told_id, g_source_remove);
  g_ptr_array_unref (relays->pairs);
  g_mutex_clear (&relays->lock);
  banger_clear_fd (&relays->wake);
  g_free (relays);
}

gboolean
banger_relays_add (BangerRelays *relays, int a, int b, gpointer group, void (*ended) (gpointer group), GError **error)
{
  Pair *pair = g_new0 (Pair, 1);
  pair->group = group;
  pair->ended = ended;
  if (banger_relay_begin (&pair->relay, a, b) < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "no descriptors for a connection");
    g_free (pair);
    return FALSE;
  }
  g_mutex_lock (&relays->lock);
  gboolean fits = relays->pairs->len < BANGER_RELAYS_MAX;
  if (fits)
    g_ptr_array_add (relays->pairs, pair);
  wake (relays);
  g_mutex_unlock (&relays->lock);
  if (fits)
    return TRUE;
  pair_free (pair);
  return banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED, "%d connections to guests are open already",
                           BANGER_RELAYS_MAX);
}

void
banger_relays_drop (BangerRelays *relays, gpointer group)
{
  g_mutex_lock (&relays->lock);
  for (guint i = relays->pairs->len; i > 0; i--)
    if (((Pair *)relays->pairs->pdata[i - 1])->group == group)
      g_ptr_array_remove_index_fast (relays->pairs, i - 1);
  wake (relays);
  g_mutex_unlock (&relays->lock);
}

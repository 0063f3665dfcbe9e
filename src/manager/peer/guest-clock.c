/* Asks the guest for its time, as NTP does: it was so when half of the way was over. What it is off by is told as a
 * difference, which does not age on the way.
 * Never moves a clock by less than the way leaves in doubt. */
#include "manager/peer/guest-clock.h"

#include <errno.h>
#include <glib-unix.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/names.h"

#define ANSWER_SECONDS 10
#define TOLERANCE_USEC 20000
#define DOUBT_MAX_USEC 200000 /* such an answer says too little */
#define OFF_MAX_USEC 200000   /* how far a clock may go before it is asked again */
#define FIRST_SECONDS 10
#define LEAST_SECONDS 5
#define MOST_SECONDS 600
#define HOST_JUMP_USEC 100000
#define JUMP_TOLD_USEC 250000

struct BangerGuestClock {
  grefcount refs; /* ours, and one for each call under way */
  BangerAgent *agent;
  char *vm;
  GCancellable *cancellable; /* cancelled once it is freed */
  gboolean asking, again;
  guint timer;
  guint seconds; /* to the next question */
  gint64 asked_real, asked_mono;
  gint64 right_mono; /* when it was last known or made to be right; 0: never */
};

static void clock_ask (BangerGuestClock *clock);

static void
clock_unref (BangerGuestClock *clock)
{
  if (!g_ref_count_dec (&clock->refs))
    return;
  g_object_unref (clock->cancellable);
  g_free (clock->vm);
  g_free (clock);
}

static BangerGuestClock *
clock_ref (BangerGuestClock *clock)
{
  g_ref_count_inc (&clock->refs);
  return clock;
}

static gboolean
on_timer (gpointer data)
{
  BangerGuestClock *clock = data;
  clock->timer = 0;
  clock_ask (clock);
  return G_SOURCE_REMOVE;
}

static void
clock_ask_in (BangerGuestClock *clock, guint seconds)
{
  clock->asking = FALSE;
  if (clock->again)
    seconds = 0;
  clock->again = FALSE;
  clock->timer = seconds > 0 ? g_timeout_add_seconds (seconds, on_timer, clock) : g_idle_add (on_timer, clock);
}

/* A clock that goes right is asked ever more seldom; one that does not, before it can be off by too much. */
static guint
next_seconds (const BangerGuestClock *clock, gint64 off, gint64 now)
{
  guint most = MIN (MOST_SECONDS, clock->seconds * 2);
  if (off <= TOLERANCE_USEC)
    return most;
  gint64 since = clock->right_mono > 0 ? (now - clock->right_mono) / G_USEC_PER_SEC : 0;
  return (guint)CLAMP (since * OFF_MAX_USEC / off, LEAST_SECONDS, most);
}

static void
on_moved (GObject *source, GAsyncResult *result, gpointer data)
{
  BangerGuestClock *clock = data;
  g_autoptr (GError) error = NULL;
  gboolean ok = banger_agent_call_finish (result, &error);
  if (!g_cancellable_is_cancelled (clock->cancellable)) {
    if (ok)
      clock->right_mono = g_get_monotonic_time ();
    else
      banger_log (LOG_WARNING, BANGER_FIELDS (BANGER_FIELD_VM, clock->vm), "cannot set the guest's clock: %s",
                  error->message);
    clock_ask_in (clock, clock->seconds);
  }
  clock_unref (clock);
}

static void
clock_move (BangerGuestClock *clock, gint64 by)
{
  if (ABS (by) > JUMP_TOLD_USEC)
    banger_log (LOG_INFO, BANGER_FIELDS (BANGER_FIELD_VM, clock->vm),
                "the guest's clock is off by %" G_GINT64_FORMAT " ms and is set", by / 1000);
  g_autofree char *text = g_strdup_printf ("%" G_GINT64_FORMAT, by);
  banger_agent_call_with_async (clock->agent, "clock", text, ANSWER_SECONDS, clock->cancellable, on_moved,
                                clock_ref (clock));
}

static void
clock_told (BangerGuestClock *clock, gint64 guest)
{
  gint64 now = g_get_monotonic_time (), way = now - clock->asked_mono, doubt = way / 2;
  gint64 host_moved = g_get_real_time () - clock->asked_real - way;
  gint64 by = clock->asked_real + doubt - guest, off = ABS (by);
  if (ABS (host_moved) > HOST_JUMP_USEC || (doubt > DOUBT_MAX_USEC && off < 2 * doubt)) {
    clock_ask_in (clock, LEAST_SECONDS);
    return;
  }
  clock->seconds = next_seconds (clock, off, now);
  if (off > MAX (TOLERANCE_USEC, doubt)) {
    clock_move (clock, by);
    return;
  }
  clock->right_mono = now;
  clock_ask_in (clock, clock->seconds);
}

static gboolean
parse_time (const char *text, gint64 *ret)
{
  return text && g_ascii_string_to_signed (text, 10, 0, G_MAXINT64 / 4, ret, NULL);
}

static void
on_told (GObject *source, GAsyncResult *result, gpointer data)
{
  BangerGuestClock *clock = data;
  g_autoptr (GError) error = NULL;
  gboolean ok = banger_agent_call_finish (result, &error);
  gint64 guest;
  if (g_cancellable_is_cancelled (clock->cancellable)) {
    clock_unref (clock);
    return;
  }
  if (ok && parse_time (banger_agent_call_answer (result), &guest))
    clock_told (clock, guest);
  else if (ok || g_error_matches (error, BANGER_ERROR, BANGER_ERROR_GUEST_TIMEOUT)
           || !banger_agent_connected (clock->agent))
    clock_ask_in (clock, FIRST_SECONDS);
  else /* a guest of an older banger does not know the word, and never will */
    banger_log (LOG_DEBUG, BANGER_FIELDS (BANGER_FIELD_VM, clock->vm), "the guest does not tell its time: %s",
                error->message);
  clock_unref (clock);
}

static void
on_connected (GObject *source, GAsyncResult *result, gpointer data)
{
  BangerGuestClock *clock = data;
  if (banger_agent_wait_finish (result, NULL) && !g_cancellable_is_cancelled (clock->cancellable)) {
    clock->asked_real = g_get_real_time ();
    clock->asked_mono = g_get_monotonic_time ();
    banger_agent_call_async (clock->agent, "clock", ANSWER_SECONDS, clock->cancellable, on_told, clock_ref (clock));
  }
  clock_unref (clock);
}

static void
clock_ask (BangerGuestClock *clock)
{
  clock->asking = TRUE;
  banger_agent_wait_async (clock->agent, BANGER_AGENT_CONNECTED, clock->cancellable, on_connected, clock_ref (clock));
}

BangerGuestClock *
banger_guest_clock_new (BangerAgent *agent, const char *vm)
{
  BangerGuestClock *clock = g_new0 (BangerGuestClock, 1);
  g_ref_count_init (&clock->refs);
  clock->agent = agent;
  clock->vm = g_strdup (vm);
  clock->cancellable = g_cancellable_new ();
  clock->seconds = FIRST_SECONDS;
  clock_ask (clock);
  return clock;
}

void
banger_guest_clock_free (BangerGuestClock *clock)
{
  if (!clock)
    return;
  g_clear_handle_id (&clock->timer, g_source_remove);
  g_cancellable_cancel (clock->cancellable);
  clock_unref (clock);
}

void
banger_guest_clock_check (BangerGuestClock *clock)
{
  clock->seconds = FIRST_SECONDS;
  if (clock->asking) {
    clock->again = TRUE;
  } else if (clock->timer) {
    g_clear_handle_id (&clock->timer, g_source_remove);
    clock_ask (clock);
  }
}

/* The host. */

typedef struct {
  void (*jumped) (gpointer);
  gpointer user_data;
  int fd;
} HostWatch;

/* A time that is never reached: only a change of the clock ends the wait, see timerfd_create(2). */
static gboolean
arm (int fd)
{
  struct itimerspec never = { .it_value.tv_sec = G_MAXINT32 };
  return timerfd_settime (fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL) == 0;
}

static gboolean
on_host_clock (int fd, GIOCondition condition, gpointer data)
{
  HostWatch *watch = data;
  guint64 times;
  if (read (fd, &times, sizeof times) < 0 && errno == ECANCELED) {
    arm (fd);
    watch->jumped (watch->user_data);
  }
  return G_SOURCE_CONTINUE;
}

static void
host_watch_free (gpointer data)
{
  HostWatch *watch = data;
  close (watch->fd);
  g_free (watch);
}

guint
banger_host_clock_watch (void (*jumped) (gpointer), gpointer user_data)
{
  banger_autofd int fd = timerfd_create (CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
  if (fd < 0 || !arm (fd))
    return 0;
  HostWatch *watch = g_new0 (HostWatch, 1);
  *watch = (HostWatch){ .jumped = jumped, .user_data = user_data, .fd = banger_steal_fd (&fd) };
  return g_unix_fd_add_full (G_PRIORITY_DEFAULT, watch->fd, G_IO_IN, on_host_clock, watch, host_watch_free);
}

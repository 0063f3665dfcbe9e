/* The writer: order, states that are superseded, errors, the end; and that nobody waits who need not.
 * Run by meson test. */
#include "manager/core/writer.h"

#include "common/error.h"

typedef struct {
  GMutex lock;
  GCond changed;
  gboolean held; /* the disk does not answer */
  guint waiting; /* writes that it does not answer */
  GString *written;
  GString *told;
  BangerWriter *writer;
} World;

typedef struct {
  World *world;
  const char *word;
} Write;

static gboolean
write_word (gpointer data, GError **error)
{
  const Write *self = data;
  World *world = self->world;
  g_mutex_lock (&world->lock);
  world->waiting++;
  g_cond_broadcast (&world->changed);
  while (world->held)
    g_cond_wait (&world->changed, &world->lock);
  world->waiting--;
  g_string_append_printf (world->written, "%s ", self->word);
  g_mutex_unlock (&world->lock);
  return *self->word != '!' || banger_set_error (error, BANGER_ERROR_FAILED, "%s is not written", self->word);
}

static void
on_written (GObject *source, GAsyncResult *result, gpointer user_data)
{
  Write *self = user_data;
  g_autoptr (GError) error = NULL;
  gboolean ok = banger_writer_finish (result, &error);
  g_string_append_printf (self->world->told, "%s:%s ", self->word, ok ? "ok" : error->message);
  g_free (self);
}

static void
put (World *world, gconstpointer object, const char *word)
{
  const Write self = { world, word };
  banger_writer_put (world->writer, object, write_word, g_memdup2 (&self, sizeof self), g_free, on_written,
                     g_memdup2 (&self, sizeof self));
}

static void
hold (World *world, gboolean held)
{
  g_mutex_lock (&world->lock);
  world->held = held;
  g_cond_broadcast (&world->changed);
  g_mutex_unlock (&world->lock);
}

/* Until the thread is at the first word. */
static void
wait_for_thread (World *world)
{
  g_mutex_lock (&world->lock);
  while (world->waiting == 0)
    g_cond_wait (&world->changed, &world->lock);
  g_mutex_unlock (&world->lock);
}

static void
end (World *world)
{
  g_clear_pointer (&world->writer, banger_writer_free);
  while (g_main_context_iteration (NULL, FALSE))
    ;
}

static void
set_up (World *world, gconstpointer data)
{
  g_mutex_init (&world->lock);
  g_cond_init (&world->changed);
  world->written = g_string_new (NULL);
  world->told = g_string_new (NULL);
  world->writer = banger_writer_new ();
}

static void
tear_down (World *world, gconstpointer data)
{
  g_clear_pointer (&world->writer, banger_writer_free);
  g_string_free (world->written, TRUE);
  g_string_free (world->told, TRUE);
  g_cond_clear (&world->changed);
  g_mutex_clear (&world->lock);
}

static gboolean
on_deadline (gpointer user_data)
{
  g_error ("nobody was told");
  return G_SOURCE_REMOVE;
}

/* What was put is done in order, also at the end, and its callers are told in order. */
static void
test_order (World *world, gconstpointer data)
{
  static const char *const words[] = { "a", "b", "!c", "d" };
  int objects[G_N_ELEMENTS (words)];
  for (guint i = 0; i < G_N_ELEMENTS (words); i++)
    put (world, i % 2 ? &objects[i] : NULL, words[i]);
  g_assert_cmpstr (world->told->str, ==, ""); /* nobody is called back from inside */
  end (world);
  g_assert_cmpstr (world->written->str, ==, "a b !c d ");
  g_assert_cmpstr (world->told->str, ==, "a:ok b:ok !c:!c is not written d:ok ");
}

/* While the disk does not answer the newest state of an object takes the place of the one that waits, not of the one
 * that is being written, and not of another's. */
static void
test_superseded (World *world, gconstpointer data)
{
  int one, other;
  hold (world, TRUE);
  put (world, &one, "starting");
  wait_for_thread (world);
  put (world, &one, "stopping");
  put (world, &other, "running");
  put (world, NULL, "x");
  put (world, NULL, "y");
  put (world, &one, "!stopped");
  hold (world, FALSE);
  end (world);
  g_assert_cmpstr (world->written->str, ==, "starting !stopped running x y ");
  g_assert_cmpstr (world->told->str, ==,
                   "starting:ok stopping:!stopped is not written !stopped:!stopped is not written running:ok "
                   "x:ok y:ok ");
}

/* Who ends does not wait for a disk that does not answer; what it takes later is nobody's. */
static void
test_end_does_not_wait (World *world, gconstpointer data)
{
  hold (world, TRUE);
  put (world, NULL, "a");
  wait_for_thread (world);
  g_clear_pointer (&world->writer, banger_writer_free);
  g_assert_cmpstr (world->told->str, ==, "");
  hold (world, FALSE);
  guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
  while (world->told->len == 0)
    g_main_context_iteration (NULL, TRUE);
  g_source_remove (deadline);
  g_assert_cmpstr (world->told->str, ==, "a:ok ");
}

#define ADD(path, func) g_test_add (path, World, NULL, set_up, func, tear_down)

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  ADD ("/writer/order", test_order);
  ADD ("/writer/superseded", test_superseded);
  ADD ("/writer/end-does-not-wait", test_end_does_not_wait);
  return g_test_run ();
}

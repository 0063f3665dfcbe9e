/* One thread that brings to the disk, one after the other, what must be there in order: the records.
 * Never makes the main loop wait for a disk, and never leaves out what was given to it. */
#include "manager/core/writer.h"

#include "common/log.h"

#ifndef END_SECONDS /* the test has less time */
#define END_SECONDS 5
#endif

typedef struct {
  BangerWrite write;
  gpointer data;
  GDestroyNotify free_data;
} Piece;

typedef struct {
  gconstpointer object;
  Piece piece;
  GPtrArray *tasks; /* GTask: of those that wait for it */
} Entry;

struct BangerWriter {
  GThread *thread;
  GMutex lock;
  GCond more, end;
  GQueue waiting; /* Entry: not begun */
  gboolean ending, ended;
  gboolean left; /* it frees itself */
};

static void
piece_clear (Piece *piece)
{
  if (piece->free_data)
    piece->free_data (piece->data);
  *piece = (Piece){ 0 };
}

/* Ends those who wait, in the order in which they came, from the main loop. */
static void
entry_do (Entry *entry)
{
  g_autoptr (GError) error = NULL;
  gboolean ok = entry->piece.write (entry->piece.data, &error);
  for (guint i = 0; i < entry->tasks->len; i++)
    if (ok)
      g_task_return_boolean (entry->tasks->pdata[i], TRUE);
    else
      g_task_return_error (entry->tasks->pdata[i], g_error_copy (error));
  g_ptr_array_unref (entry->tasks);
  piece_clear (&entry->piece);
  g_free (entry);
}

static Entry *
wait_for_entry (BangerWriter *writer)
{
  g_mutex_lock (&writer->lock);
  while (g_queue_is_empty (&writer->waiting) && !writer->ending)
    g_cond_wait (&writer->more, &writer->lock);
  Entry *entry = g_queue_pop_head (&writer->waiting);
  g_mutex_unlock (&writer->lock);
  return entry;
}

static void
writer_clear (BangerWriter *writer)
{
  g_thread_unref (writer->thread);
  g_cond_clear (&writer->end);
  g_cond_clear (&writer->more);
  g_mutex_clear (&writer->lock);
  g_free (writer);
}

static gpointer
write_all (gpointer data)
{
  BangerWriter *writer = data;
  for (Entry *entry; (entry = wait_for_entry (writer));)
    entry_do (entry);
  g_mutex_lock (&writer->lock);
  writer->ended = TRUE;
  gboolean left = writer->left;
  g_cond_signal (&writer->end);
  g_mutex_unlock (&writer->lock);
  if (left)
    writer_clear (writer);
  return NULL;
}

BangerWriter *
banger_writer_new (void)
{
  BangerWriter *writer = g_new0 (BangerWriter, 1);
  g_mutex_init (&writer->lock);
  g_cond_init (&writer->more);
  g_cond_init (&writer->end);
  g_queue_init (&writer->waiting);
  writer->thread = g_thread_new ("writer", write_all, writer);
  return writer;
}

void
banger_writer_free (BangerWriter *writer)
{
  if (!writer)
    return;
  g_mutex_lock (&writer->lock);
  writer->ending = TRUE;
  g_cond_signal (&writer->more);
  gint64 deadline = g_get_monotonic_time () + END_SECONDS * G_TIME_SPAN_SECOND;
  while (!writer->ended && g_cond_wait_until (&writer->end, &writer->lock, deadline))
    ;
  gboolean ended = writer->ended;
  writer->left = !ended;
  g_mutex_unlock (&writer->lock);
  if (!ended) {
    banger_log (LOG_ERR, NULL,
                "the disk has not taken all records; what it does not say is found out at the next start");
    return;
  }
  g_thread_join (g_thread_ref (writer->thread));
  writer_clear (writer);
}

static Entry *
find_waiting (BangerWriter *writer, gconstpointer object)
{
  for (GList *link = object ? writer->waiting.head : NULL; link; link = link->next)
    if (((Entry *)link->data)->object == object)
      return link->data;
  return NULL;
}

void
banger_writer_put (BangerWriter *writer, gconstpointer object, BangerWrite write, gpointer data,
                   GDestroyNotify free_data, GAsyncReadyCallback callback, gpointer user_data)
{
  Piece before = { 0 };
  g_mutex_lock (&writer->lock);
  Entry *entry = find_waiting (writer, object);
  if (entry) {
    before = entry->piece;
  } else {
    entry = g_new0 (Entry, 1);
    entry->object = object;
    entry->tasks = g_ptr_array_new_with_free_func (g_object_unref);
    g_queue_push_tail (&writer->waiting, entry);
    g_cond_signal (&writer->more);
  }
  entry->piece = (Piece){ write, data, free_data };
  g_ptr_array_add (entry->tasks, g_task_new (NULL, NULL, callback, user_data));
  g_mutex_unlock (&writer->lock);
  piece_clear (&before);
}

gboolean
banger_writer_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

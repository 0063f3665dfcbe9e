/* Tells a thread sanitizer where GLib hands something from one thread to another: Debian's GLib is built without it, so
 * that its locks, tasks and pools are not seen.
 * Preloaded by tests/fault/parts.py where the programs are built with -Db_sanitize=thread.
 * Never orders more than these calls do. */
#include <dlfcn.h>
#include <gio/gio.h>

extern void __tsan_acquire (void *where) __attribute__ ((weak));
extern void __tsan_release (void *where) __attribute__ ((weak));

static void
acquire (gconstpointer where)
{
  if (__tsan_acquire)
    __tsan_acquire ((void *)where);
}

static void
release (gconstpointer where)
{
  if (__tsan_release)
    __tsan_release ((void *)where);
}

#define NEXT(name) ((__typeof__ (&name))dlsym (RTLD_NEXT, #name))

/* Locks */

void
g_mutex_lock (GMutex *mutex)
{
  static __typeof__ (&g_mutex_lock) next;
  if (!next)
    next = NEXT (g_mutex_lock);
  next (mutex);
  acquire (mutex);
}

void
g_mutex_unlock (GMutex *mutex)
{
  static __typeof__ (&g_mutex_unlock) next;
  if (!next)
    next = NEXT (g_mutex_unlock);
  release (mutex);
  next (mutex);
}

void
g_cond_wait (GCond *cond, GMutex *mutex)
{
  release (mutex);
  NEXT (g_cond_wait) (cond, mutex);
  acquire (mutex);
}

gboolean
g_cond_wait_until (GCond *cond, GMutex *mutex, gint64 deadline)
{
  release (mutex);
  gboolean in_time = NEXT (g_cond_wait_until) (cond, mutex, deadline);
  acquire (mutex);
  return in_time;
}

/* Tasks */

static GQuark
func_quark (void)
{
  return g_quark_from_static_string ("tsan-glib-func");
}

static void
run_task (GTask *task, gpointer source, gpointer task_data, GCancellable *cancellable)
{
  acquire (task);
  GTaskThreadFunc func = (GTaskThreadFunc)g_object_get_qdata (G_OBJECT (task), func_quark ());
  func (task, source, task_data, cancellable);
}

void
g_task_run_in_thread (GTask *task, GTaskThreadFunc func)
{
  g_object_set_qdata (G_OBJECT (task), func_quark (), (gpointer)func);
  release (task);
  NEXT (g_task_run_in_thread) (task, run_task);
}

void
g_task_return_boolean (GTask *task, gboolean result)
{
  release (task);
  NEXT (g_task_return_boolean) (task, result);
}

void
g_task_return_int (GTask *task, gssize result)
{
  release (task);
  NEXT (g_task_return_int) (task, result);
}

void
g_task_return_pointer (GTask *task, gpointer result, GDestroyNotify destroy)
{
  release (task);
  NEXT (g_task_return_pointer) (task, result, destroy);
}

void
g_task_return_error (GTask *task, GError *error)
{
  release (task);
  NEXT (g_task_return_error) (task, error);
}

gboolean
g_task_propagate_boolean (GTask *task, GError **error)
{
  acquire (task);
  return NEXT (g_task_propagate_boolean) (task, error);
}

gssize
g_task_propagate_int (GTask *task, GError **error)
{
  acquire (task);
  return NEXT (g_task_propagate_int) (task, error);
}

gpointer
g_task_propagate_pointer (GTask *task, GError **error)
{
  acquire (task);
  return NEXT (g_task_propagate_pointer) (task, error);
}

/* The last reference may be given up anywhere, and frees what the others wrote. */
void (g_object_unref) (gpointer object)
{
  static __typeof__ (&g_object_unref) next;
  if (!next)
    next = NEXT (g_object_unref);
  release (object);
  acquire (object);
  next (object);
}

/* Pools */

typedef struct {
  GFunc func;
  gpointer data;
} PoolFunc;

static void
run_pooled (gpointer piece, gpointer data)
{
  const PoolFunc *pool = data;
  acquire (piece);
  pool->func (piece, pool->data);
}

GThreadPool *
g_thread_pool_new (GFunc func, gpointer data, gint most, gboolean exclusive, GError **error)
{
  PoolFunc *pool = g_new0 (PoolFunc, 1);
  pool->func = func;
  pool->data = data;
  return NEXT (g_thread_pool_new) (run_pooled, pool, most, exclusive, error);
}

gboolean
g_thread_pool_push (GThreadPool *pool, gpointer piece, GError **error)
{
  release (piece);
  return NEXT (g_thread_pool_push) (pool, piece, error);
}

/* Back to the main loop */

typedef struct {
  GSourceFunc func;
  gpointer data;
} Later;

static gboolean
run_later (gpointer data)
{
  const Later *later = data;
  acquire (later);
  return later->func (later->data);
}

guint
g_idle_add (GSourceFunc func, gpointer data)
{
  Later *later = g_new0 (Later, 1);
  later->func = func;
  later->data = data;
  release (later);
  return NEXT (g_idle_add_full) (G_PRIORITY_DEFAULT_IDLE, run_later, later, g_free);
}

void
g_main_context_invoke (GMainContext *context, GSourceFunc func, gpointer data)
{
  Later *later = g_new0 (Later, 1);
  later->func = func;
  later->data = data;
  release (later);
  NEXT (g_main_context_invoke_full) (context, G_PRIORITY_DEFAULT, run_later, later, g_free);
}

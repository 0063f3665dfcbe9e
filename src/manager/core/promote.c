/* Two records, one behind the other: first the one that loses the name, so that a crash leaves none with it and not two.
 * Never changes either unless both may be. */
#include "manager/core/promote.h"

#include "common/error.h"
#include "manager/core/later.h"

#define OLD "-old"
#define MAX_OLD 100u

typedef struct {
  BangerAssets *assets;
  char *id; /* of the one that gets it: it may be deleted meanwhile */
  char *name, *old;
} Promotion;

static void
promotion_free (gpointer data)
{
  Promotion *promotion = data;
  g_free (promotion->id);
  g_free (promotion->name);
  g_free (promotion->old);
  g_free (promotion);
}

static void
on_given (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  GError *error = NULL;
  (void)banger_asset_tag_finish (result, &error);
  banger_task_return (task, error);
}

static void
give (GTask *task)
{
  const Promotion *promotion = g_task_get_task_data (task);
  GError *error = NULL;
  BangerAsset *asset = banger_asset_find (promotion->assets, promotion->id, &error);
  if (asset)
    banger_asset_tag_async (asset, promotion->name, TRUE, on_given, g_object_ref (task));
  else
    g_task_return_error (task, error);
}

static void
on_freed (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  GError *error = NULL;
  if (banger_asset_tag_finish (result, &error))
    give (task);
  else
    g_task_return_error (task, error);
}

/* Returns: (transfer full): one that nobody has. */
static char *
old_name (BangerAssets *assets, const char *name, GError **error)
{
  for (guint i = 1; i < MAX_OLD; i++) {
    g_autofree char *old = i == 1 ? g_strconcat (name, OLD, NULL) : g_strdup_printf ("%s" OLD "-%u", name, i);
    if (!banger_asset_find (assets, old, NULL))
      return g_steal_pointer (&old);
  }
  banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED, "there are too many called %s" OLD ": delete some", name);
  return NULL;
}

/* Takes the name from @holder. */
static void
take (GTask *task, BangerAsset *holder)
{
  Promotion *promotion = g_task_get_task_data (task);
  GError *error = NULL;
  if (banger_asset_has_tag (holder, promotion->name)) {
    banger_asset_tag_async (holder, promotion->name, FALSE, on_freed, g_object_ref (task));
    return;
  }
  promotion->old = old_name (promotion->assets, promotion->name, &error);
  if (promotion->old)
    banger_asset_rename_async (holder, promotion->old, on_freed, g_object_ref (task));
  else
    g_task_return_error (task, error);
}

void
banger_asset_promote_async (BangerAsset *asset, const char *name, GAsyncReadyCallback callback, gpointer user_data)
{
  g_autoptr (GTask) task = g_task_new (NULL, NULL, callback, user_data);
  Promotion *promotion = g_new0 (Promotion, 1);
  GError *error = NULL;
  *promotion = (Promotion){ asset->assets, g_strdup (asset->id), g_strdup (name), NULL };
  g_task_set_task_data (task, promotion, promotion_free);
  BangerAsset *holder = banger_asset_find (asset->assets, name, NULL);
  if (!banger_asset_check_tag (asset, holder != asset, &error))
    g_task_return_error (task, error);
  else if (holder == asset)
    g_task_return_boolean (task, TRUE);
  else if (holder)
    take (task, holder);
  else
    give (task);
}

gboolean
banger_asset_promote_finish (GAsyncResult *result, char **ret_old, GError **error)
{
  Promotion *promotion = g_task_get_task_data (G_TASK (result));
  if (!g_task_propagate_boolean (G_TASK (result), error))
    return FALSE;
  *ret_old = g_steal_pointer (&promotion->old);
  return TRUE;
}

/* The state of QEMU's guest to a descriptor, and from one.
 * Never runs the guest: it was stopped before, and is stopped after. */
#include "engine/migration.h"

#include <string.h>

#include "engine/body.h"

#define FD_NAME "snapshot"

enum { CAPABILITIES, PARAMETERS, FD, BEGIN, N_COMMANDS };

struct BangerMigration {
  BangerQmp *qmp;
  BangerMigrationPlan plan;
  guint next;
  guint replies;  /* that are still to come */
  gboolean freed; /* goes with the last reply */
  guint begin;
  gboolean began;
  BangerMigrationDone done;
  gpointer user_data;
};

static void
end (BangerMigration *migration, const GError *error)
{
  BangerMigrationDone done = migration->done;
  migration->done = NULL;
  if (done)
    done (error, migration->user_data);
}

static void handle_reply (JsonNode *result, const GError *error, gpointer user_data);

static void
execute (BangerMigration *migration, const char *command, const char *arguments, int fd)
{
  migration->replies++;
  banger_qmp_execute (migration->qmp, command, arguments, fd, handle_reply, migration);
}

static void
next (BangerMigration *migration)
{
  gboolean incoming = migration->plan.incoming;
  g_autofree char *capabilities = g_strdup_printf (
      "{\"capabilities\":[{\"capability\":\"events\",\"state\":true},{\"capability\":\"x-ignore-shared\",\"state\":%s}]}",
      migration->plan.mapped ? "true" : "false");
  switch (migration->next++) {
    case CAPABILITIES:
      execute (migration, "migrate-set-capabilities", capabilities, -1);
      break;
    case PARAMETERS: /* what is stopped has nobody to be considerate of */
      execute (migration, "migrate-set-parameters", "{\"max-bandwidth\":1099511627776}", -1);
      break;
    case FD:
      execute (migration, "getfd", "{\"fdname\":\"" FD_NAME "\"}", migration->plan.fd);
      break;
    default:
      migration->began = TRUE;
      execute (migration, incoming ? "migrate-incoming" : "migrate", "{\"uri\":\"fd:" FD_NAME "\"}", -1);
  }
}

static void
handle_reply (JsonNode *result, const GError *error, gpointer data)
{
  BangerMigration *migration = data;
  migration->replies--;
  if (migration->freed) {
    if (migration->replies == 0)
      g_free (migration);
  } else if (error) {
    end (migration, error);
  } else if (migration->next < N_COMMANDS) {
    next (migration);
  } /* else an event tells the end */
}

/* Of query-migrate: why it failed. One that reads ends with its last words instead. */
static void
handle_why (JsonNode *result, const GError *error, gpointer data)
{
  BangerMigration *migration = data;
  const char *why = result && JSON_NODE_HOLDS_OBJECT (result)
                        ? json_object_get_string_member_with_default (json_node_get_object (result), "error-desc", NULL)
                        : NULL;
  g_autoptr (GError) failure = g_error_new (BANGER_VMM_ERROR, BANGER_VMM_ERROR_HOST,
                                            "QEMU could not write the state%s%s", why ? ": " : "", why ? why : "");
  migration->replies--;
  if (!migration->freed)
    end (migration, failure);
  else if (migration->replies == 0)
    g_free (migration);
}

void
banger_migration_event (BangerMigration *migration, const char *status)
{
  if (!migration->began || !migration->done)
    return;
  if (g_str_equal (status, "completed")) {
    end (migration, NULL);
  } else if (!migration->plan.incoming && (g_str_equal (status, "failed") || g_str_equal (status, "cancelled"))) {
    migration->replies++;
    banger_qmp_execute (migration->qmp, "query-migrate", NULL, -1, handle_why, migration);
  }
}

static gboolean
handle_begin (gpointer data)
{
  BangerMigration *migration = data;
  migration->begin = 0;
  next (migration);
  return G_SOURCE_REMOVE;
}

BangerMigration *
banger_migration_new (BangerQmp *qmp, const BangerMigrationPlan *plan, BangerMigrationDone done, gpointer user_data)
{
  BangerMigration *migration = g_new0 (BangerMigration, 1);
  migration->qmp = qmp;
  migration->plan = *plan;
  migration->done = done;
  migration->user_data = user_data;
  migration->begin = g_idle_add (handle_begin, migration);
  return migration;
}

void
banger_migration_free (BangerMigration *migration)
{
  migration->done = NULL;
  migration->freed = TRUE;
  if (migration->begin != 0)
    g_source_remove (migration->begin);
  if (migration->replies == 0)
    g_free (migration);
}

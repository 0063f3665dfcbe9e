/* What the two files of templates share. */
#pragma once

#include "manager/peer/gone-disks.h"
#include "manager/template/templates.h"

#define TEMPLATE_STAGE_KEEPING "keeping the template"

struct BangerTemplates {
  const BangerInstall *install;
  BangerHelper *helper;
  BangerWriter *writer;
  int dir_fd;
  const BangerTemplatesHouse *house;
  gpointer user_data;
  GHashTable *table;      /* id -> BangerTemplate */
  GHashTable *making;     /* id -> BangerTemplate: of its job, that is under way */
  char *engine;           /* NULL: the helper has not said */
  gboolean asking;        /* it is being asked */
  BangerTemplates **link; /* reference counted: to us, NULL once we are gone; calls of the helper end after us */
  GQueue waiting;         /* GTask: for its answer */
  char *processor;
  GPtrArray *failed;  /* BangerTemplate *: of what was of no use, by what made them */
  gpointer automatic; /* auto.c's; NULL: nothing is to be made */
  GDestroyNotify automatic_free;
  BangerGoneDisks *disks; /* of templates that are gone */
  guint notify;
};

extern const BangerRecordField template_fields[];

void template_free (BangerTemplate *template);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerTemplate, template_free)
/** template_engine_async: until the helper has said which engine there is, or will not: template_wanted() says that. */
void template_engine_async (BangerTemplates *templates, GAsyncReadyCallback callback, gpointer user_data);
/** template_wanted: what a VM of @record would be restored from. Returns: (transfer full): without id and files; %NULL
 * with an error. */
BangerTemplate *template_wanted (BangerTemplates *templates, const BangerVmRecord *record, GError **error);
/** template_copy_keys: Returns: (transfer full): what made @template, without id and files. */
BangerTemplate *template_copy_keys (const BangerTemplate *template);
/** template_failed: one like @template is not made by itself as long as this bangerd runs. */
void template_failed (BangerTemplates *templates, const BangerTemplate *template);
gboolean template_has_failed (BangerTemplates *templates, const BangerTemplate *wanted);
/** template_is_same: whether the same made both. */
gboolean template_is_same (const BangerTemplate *a, const BangerTemplate *b);
/** template_find: Returns: (transfer none) (nullable): one that is as @wanted. */
BangerTemplate *template_find (BangerTemplates *templates, const BangerTemplate *wanted);
/** template_add: takes @template, whose record is on the disk. Returns: %FALSE, and it goes again, if what it was made
 * from is gone meanwhile. */
gboolean template_add (BangerTemplates *templates, BangerTemplate *template);
/** template_drop: record, folder and disk; nobody waits for it. */
void template_drop (BangerTemplates *templates, const char *id, const char *why);

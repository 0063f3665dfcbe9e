/* What commands of several kinds share: a verb on each name, a list, a show.
 * Never knows one verb in particular. */
#pragma once

#include "cli/command.h"
#include "cli/objects.h"

typedef struct {
  const char *method; /* of the manager: (s name, a{sv}) */
  const char *what;   /* N_ ("cannot start %s") */
  const char *done;   /* N_ ("%s is ready") */
  const char *flag;   /* an option of the command that is an option of the method too, or NULL */
  gboolean immediate; /* the method answers when it is done: no job */
  guint64 usec;       /* for that answer; 0: as long as usual */
  const char *text;   /* an option with a value that is one of the method too, or NULL */
  void (*then) (BangerClient *client, const char *name); /* once a job is done; or NULL */
} BangerVerb;

/**
 * banger_run_each:
 * Runs @verb on every argument; a failure does not keep the others from being tried.
 * Returns: 0, or the status of the first failure, which is -1 with @error when it was the only argument.
 */
int banger_run_each (const BangerInvocation *invocation, const BangerVerb *verb, GError **error);

/** banger_list: prints all objects of @kind that @keep (%NULL: all) says %TRUE to, as a table or with --json. */
int banger_list (const BangerInvocation *invocation, const BangerKind *kind, gboolean (*keep) (JsonObject *),
                 GError **error);
/** banger_show: prints the object that the first argument names. */
int banger_show (const BangerInvocation *invocation, const BangerKind *kind, GError **error);

/** banger_report_error: prints @error to stderr, with a hint for usage errors. @command: (nullable). Returns: the exit
 * status. */
int banger_report_error (const GError *error, const BangerCommand *command);
/** banger_new_name: Returns: (transfer none): the first argument; without one the name that VMs use unless told
 * otherwise. */
const char *banger_new_name (const BangerInvocation *invocation);
/* A path as open(2) takes it, to the manager: an argument of type s that is empty if it cannot be one, and, within the
 * options, the bytes under @key: always, or if the argument is empty. */
void banger_append_path (sd_bus_message *message, const char *path);
void banger_append_path_option (sd_bus_message *message, const char *key, const char *path);
void banger_append_path_bytes (sd_bus_message *message, const char *key, const char *path);
/** banger_append_strv_option: nothing if there are no @words. */
void banger_append_strv_option (sd_bus_message *message, const char *key, const char *const *words);

/** banger_absolute_path: Returns: (transfer full): @path from the working directory on; nothing of it is folded, as
 * what is above `link/..` is not where the link is. As it is where it is empty, which names no file; %NULL where that
 * directory is gone. */
char *banger_absolute_path (const char *path, GError **error);

/* CheckWorkspace on the bus: whether a work tree can be copied into a guest, before a guest is made for it.
 * Never touches a VM, nor the disk on the main loop. */
#include "manager/bus/workspace-dbus.h"

#include <string.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/options.h"
#include "manager/workspace/workspace.h"

typedef struct {
  char *path, *branch, *from;
  gboolean tracked_only, no_git;
  guint32 depth;
  int list_fd;
} CheckOptions;

static const BangerOption options[] = {
  { "path-bytes", BANGER_OPTION_PATH, G_STRUCT_OFFSET (CheckOptions, path) },
  { "tracked-only", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (CheckOptions, tracked_only) },
  { "branch", BANGER_OPTION_STRING, G_STRUCT_OFFSET (CheckOptions, branch) },
  { "from", BANGER_OPTION_STRING, G_STRUCT_OFFSET (CheckOptions, from) },
  { "depth", BANGER_OPTION_UINT32, G_STRUCT_OFFSET (CheckOptions, depth) },
  { "no-git", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (CheckOptions, no_git) },
  { "list", BANGER_OPTION_FD, G_STRUCT_OFFSET (CheckOptions, list_fd) },
  { NULL },
};

static void
checked (GObject *source, GAsyncResult *result, gpointer data)
{
  BangerRequest *request = data;
  g_autoptr (GError) error = NULL;
  g_autoptr (BangerWorkspaceReport) report = banger_workspace_check_finish (result, &error);
  if (!report) {
    banger_request_fail (request, error);
    return;
  }
  g_autoptr (sd_bus_message) reply = NULL;
  g_ptr_array_add (report->notes, NULL);
  if (sd_bus_message_new_method_return (request->message, &reply) < 0
      || sd_bus_message_append_array (reply, 'y', report->folder, strlen (report->folder)) < 0
      || sd_bus_message_append_strv (reply, (char **)report->notes->pdata) < 0)
  {
    g_autoptr (GError) failed = g_error_new (BANGER_ERROR, BANGER_ERROR_FAILED, "cannot write the answer");
    banger_request_fail (request, failed);
    return;
  }
  banger_request_reply_message (request, reply);
}

gboolean
banger_workspace_handle_check (BangerRequest *request, gconstpointer data, GError **error)
{
  const char *path = NULL;
  CheckOptions values = { .list_fd = -1, .depth = BANGER_WORKSPACE_DEPTH_UNSAID };
  gboolean fine = banger_request_read (request, error, "s", &path)
                  && banger_options_read (request->message, options, &values, error)
                  && (*path == '\0' || !values.path
                      || banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "give a path or 'path-bytes', not both"));
  if (fine) {
    const BangerWorkspaceWish wish = { values.tracked_only, values.branch, values.from, values.depth, values.no_git };
    banger_workspace_check_async (values.path ? values.path : path, &wish, banger_steal_fd (&values.list_fd), checked,
                                  request);
  }
  banger_options_clear (options, &values);
  return fine;
}

/* What catalogs have: `image list --available`, `kernel list --available`, and completion.
 * Never reads a catalog: the manager does. */
#pragma once

#include "cli/client.h"
#include "cli/command.h"

typedef struct {
  const char *name, *kind, *source, *summary;
  guint64 size_bytes; /* 0: not known */
  const char *catalog, *trust, *here;
} BangerAvailable;

typedef void (*BangerAvailableFunc) (const BangerAvailable *entry, gpointer user_data);

/** banger_available_each: @member: "ListAvailableImages". @usec: as banger_client_call(). Returns: (transfer full): the
 * manager's answer behind the entries, where its problems are; %NULL with error. */
sd_bus_message *banger_available_each (BangerClient *client, const char *member, guint64 usec, BangerAvailableFunc each,
                                       gpointer user_data, GError **error);
/** banger_available_list: prints them, as a table or with --json. Returns: an exit status, or -1. */
int banger_available_list (const BangerInvocation *invocation, const char *member, GError **error);

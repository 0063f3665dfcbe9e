/* VMs that shall go by themselves: those whose client has left the bus, and those whose deletion did not go through.
 * Never gives up: what cannot be deleted now is tried again. */
#pragma once

#include "common/bus-source.h"
#include "manager/manager.h"

typedef struct BangerFollow BangerFollow;

/** banger_follow_new: takes up the VMs of @manager whose records name a client, or that were being deleted. */
BangerFollow *banger_follow_new (BangerManager *manager, sd_bus *bus);
void banger_follow_free (BangerFollow *follow);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerFollow, banger_follow_free)

/** banger_follow_client: Returns: (transfer full): what a record says of the client with unique name @sender: a name
 * alone would be another client's after the next login. */
char *banger_follow_client (sd_bus *bus, const char *sender);

/** banger_follow_look: @id is new, or its state has changed. */
void banger_follow_look (BangerFollow *follow, const char *id);
/** banger_follow_forget: @id is not in the table of VMs any more. */
void banger_follow_forget (BangerFollow *follow, const char *id);
/** banger_follow_retry: what kept VMs from being deleted may be over: the helper is back. */
void banger_follow_retry (BangerFollow *follow);
